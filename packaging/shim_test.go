package packaging

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shimContents of the Debian package of `tnat64 COMMAND`.
const shimContents = `-rwxr-xr-x /usr/bin/tnat64
-rw-r--r-- /usr/share/bash-completion/completions/tnat64
-rw-r--r-- /usr/share/doc/tnat64/changelog.Debian.gz
-rw-r--r-- /usr/share/doc/tnat64/changelog.gz
-rw-r--r-- /usr/share/doc/tnat64/copyright
-rw-r--r-- /usr/share/doc/tnat64/third-party-notices.gz
-rw-r--r-- /usr/share/fish/vendor_completions.d/tnat64.fish
-rw-r--r-- /usr/share/lintian/overrides/tnat64
-rw-r--r-- /usr/share/man/man1/tnat64.1.gz
-rw-r--r-- /usr/share/tnat64/apparmor
-rw-r--r-- /usr/share/zsh/vendor-completions/_tnat64-command`

// beside returns the package of the shim that was built with one of the daemon.
func beside(daemon string) string {
	dir, name := filepath.Split(daemon)
	return filepath.Join(dir, strings.Replace(name, "tnat64d", "tnat64", 1))
}

func TestShimPackage(t *testing.T) {
	b := build(t)
	deb := beside(b.deb)
	if d := cmp.Diff(lines(shimContents), list(output(t, "dpkg-deb", "-c", deb))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// Neither package has a file of the other: both can be installed.
	for _, f := range lines(debContents) {
		if slices.Contains(lines(shimContents), f) {
			t.Errorf("%s is in both packages", f)
		}
	}
	if got := output(t, "dpkg-deb", "-f", deb, "Package", "Depends"); got != "Package: tnat64\n" && got != "tnat64\n" {
		t.Errorf("%q", got)
	}
	// Debian has a package of this name, which ours is to replace.
	version := strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, "Version"))
	if err := exec.Command("dpkg", "--compare-versions", version, "gt", "0.06-1+b1").Run(); err != nil {
		t.Errorf("version %s does not sort after Debian's: %v", version, err)
	}
	need(t, "bsdtar")
	for _, file := range []string{beside(b.rpm), beside(b.arch)} {
		if files := list(output(t, "bsdtar", "-tvf", file)); !slices.Contains(files, "-rwxr-xr-x /usr/bin/tnat64") {
			t.Errorf("%s has no /usr/bin/tnat64: %q", filepath.Base(file), files)
		}
	}
}

func TestShimLintian(t *testing.T) {
	b := build(t)
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("needs lintian: ", err)
	}
	t.Parallel()
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", beside(b.deb)).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The manual has every flag of the command, and every key of its configuration.
func TestShimManual(t *testing.T) {
	text := output(t, program(t, beside(build(t).deb), "tnat64"), "-h")
	manual := readFile(t, "man/tnat64.1.md")
	completions := readFile(t, "completions/tnat64-command.bash")
	for _, f := range flags(text) {
		if !strings.Contains(manual, "**"+f+"**") {
			t.Errorf("the manual does not explain %s", f)
		}
		if !strings.Contains(completions, f) {
			t.Errorf("bash does not complete %s", f)
		}
	}
	for _, key := range []string{"local", "fallback", "method", "[[shim.route]]"} {
		if !strings.Contains(manual, "\n**"+key+"**\n") {
			t.Errorf("the manual does not explain %s", key)
		}
	}
}
