package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tnat64d/internal/lab"
)

// TestUpgradeUnderSystemd replaces tnat64d by a build with other BPF programs and other
// layouts of the maps that are kept, and that by the first one, under a service manager
// that keeps its descriptors. Programs are replaced in their links, maps made anew, and
// nothing that the kernel engine carries is lost.
func TestUpgradeUnderSystemd(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("compiles tnat64d with other BPF programs: TNAT64_LONG=1 runs it")
	}
	needRoot(t)
	for _, p := range []string{"clang-14", "llvm-strip-14"} {
		needProgram(t, p)
	}
	other := buildOther(t)
	for name, network := range map[string]lab.Options{"own address": {}, "shared address": dhcpv6Only} {
		t.Run(name, func(t *testing.T) {
			testRestartUnderSystemd(t, stage{network: network}, func(t *testing.T, restart int) string {
				return []string{other, built(t, "tnat64d"), other}[restart]
			})
		})
	}
}

// otherLayouts are changes of the programs' source, by file, after which none of the
// maps that are kept has the layout of before.
var otherLayouts = map[string][2]string{
	"flow.h":  {"\t__u64 state;\n", "\t__u64 state;\n\t__u64 other;\n"}, // new_flows, established_flows, host_flows, moved_flows
	"share.h": {"max_entries, 8192", "max_entries, 4096"},               // fragment_owners
	"order.h": {"FLOW_ENTRIES 8192", "FLOW_ENTRIES 16384"},              // last_sent
}

// buildOther builds tnat64d with those changes, and returns the file.
func buildOther(t *testing.T) string {
	t.Helper()
	dir, steer := t.TempDir(), filepath.Join("..", "datapath", "steer")
	source := filepath.Join(dir, "bpf")
	if err := os.CopyFS(source, os.DirFS(filepath.Join(steer, "bpf"))); err != nil {
		t.Fatal(err)
	}
	for name, change := range otherLayouts {
		file := filepath.Join(source, name)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), change[0]) {
			t.Fatalf("%s has no %q", name, change[0])
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(b), change[0], change[1], 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	generate, err := os.ReadFile(filepath.Join(steer, "generate.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(generate), "//go:generate ")
	line = strings.NewReplacer(" -target ", " -go-package steer -output-dir "+dir+" -target ", " bpf/steer.c ", " "+source+"/steer.c ").Replace(line)
	run := func(in, name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = in, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	args := strings.Fields(line)
	run(steer, args[0], args[1:]...)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, name := range []string{"bpf_bpfel.go", "bpf_bpfel.o"} {
		committed, err := filepath.Abs(filepath.Join(steer, name))
		if err != nil {
			t.Fatal(err)
		}
		overlay.Replace[committed] = filepath.Join(dir, name)
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "tnat64d")
	run(".", goProgram, "build", "-overlay", file, "-ldflags", fmt.Sprintf("-X main.version=%s", "another"), "-o", other, "tnat64d/cmd/tnat64d")
	return other
}
