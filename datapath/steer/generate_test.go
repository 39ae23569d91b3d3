package steer

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The committed object and its Go file are what the generate line makes of the
// C source, with Debian 12's clang.
func TestGenerated(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for half a minute: not with -short")
	}
	if _, err := exec.LookPath("clang-14"); err != nil {
		t.Skip("needs clang-14, llvm-strip-14 and libbpf-dev")
	}
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(source), "//go:generate ")
	if !found {
		t.Fatal("generate.go has no generate line")
	}
	dir := t.TempDir()
	args := strings.Fields(strings.Replace(line, " -target ", " -go-package steer -output-dir "+dir+" -target ", 1))
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	for _, name := range []string{"bpf_bpfel.go", "bpf_bpfel.o"} {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		generated, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, generated) {
			t.Errorf("%s is not what go generate makes of bpf/: run it", name)
		}
	}
}
