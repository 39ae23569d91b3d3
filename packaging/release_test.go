package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// throwAwayKey returns the path of a new private SSH key and its line for an
// allowed_signers file.
func throwAwayKey(t *testing.T) (key, signer string) {
	t.Helper()
	key = filepath.Join(t.TempDir(), "key")
	output(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
	return key, "release@tnat64d " + readFile(t, key+".pub")
}

// verifies reports whether the checksums of a directory are signed by one of the
// signers and right, by the commands that SECURITY.md names.
func verifies(t *testing.T, dir, signers string) bool {
	t.Helper()
	allowed := filepath.Join(t.TempDir(), "allowed_signers")
	if err := os.WriteFile(allowed, []byte(signers), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `ssh-keygen -Y verify -f "$1" -I release@tnat64d -n file -s SHA256SUMS.sig <SHA256SUMS && sha256sum --strict -c SHA256SUMS`
	cmd := exec.Command("sh", "-c", script, "sh", allowed)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	return err == nil
}

func TestReleaseSignature(t *testing.T) {
	need(t, "ssh-keygen", "sha256sum")
	key, signer := throwAwayKey(t)
	_, stranger := throwAwayKey(t)
	for _, c := range []struct {
		name   string
		change func(dir string) error
		signer string
		want   bool
	}{
		{"as released", func(string) error { return nil }, signer, true},
		{"signed by another key", func(string) error { return nil }, stranger, false},
		{"a package is changed", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "tnat64d_1.2.3-1_amd64.deb"), []byte("other"), 0o644)
		}, signer, false},
		{"a package is missing", func(dir string) error {
			return os.Remove(filepath.Join(dir, "tnat64d_1.2.3-1_amd64.deb"))
		}, signer, false},
		{"the checksums are written anew", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), nil, 0o644)
		}, signer, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"tnat64d_1.2.3-1_amd64.deb", "CHANGES.md"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			output(t, "./checksums.sh", dir, key)
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			if got := verifies(t, dir, c.signer); got != c.want {
				t.Errorf("verifies: %v, want %v", got, c.want)
			}
		})
	}
}

// TestReleaseChecksumsCoverAllFiles signs twice: the second time neither the old
// checksums nor the old signature may be among the files.
func TestReleaseChecksumsCoverAllFiles(t *testing.T) {
	need(t, "ssh-keygen", "sha256sum")
	key, signer := throwAwayKey(t)
	dir := t.TempDir()
	for _, name := range []string{"a.rpm", "b.deb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		output(t, "./checksums.sh", dir, key)
	}
	var names []string
	for _, line := range lines(readFile(t, filepath.Join(dir, "SHA256SUMS"))) {
		names = append(names, strings.Fields(line)[1])
	}
	if got := strings.Join(names, " "); got != "a.rpm b.deb" {
		t.Errorf("SHA256SUMS lists %q", got)
	}
	if !verifies(t, dir, signer) {
		t.Error("the second signature does not verify")
	}
	output(t, "./checksums.sh", dir)
	if _, err := os.Stat(filepath.Join(dir, "SHA256SUMS.sig")); !os.IsNotExist(err) {
		t.Errorf("without a key the old signature stays: %v", err)
	}
}

func TestReleaseUnusableKeyLeavesNoChecksums(t *testing.T) {
	need(t, "ssh-keygen", "sha256sum")
	dir, bad := t.TempDir(), filepath.Join(t.TempDir(), "key")
	for path, text := range map[string]string{filepath.Join(dir, "a.deb"): "a", bad: "no key\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("./checksums.sh", dir, bad).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot sign with "+bad) {
		t.Errorf("%v: %s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "SHA256SUMS*")); left != nil {
		t.Errorf("left: %q", left)
	}
}

// TestReleaseSignsOnlyTags holds release.sh to refusing before it builds or
// removes anything: what is no tag, cannot be signed, or has no changes.
func TestReleaseSignsOnlyTags(t *testing.T) {
	need(t, "ssh-keygen")
	key, _ := throwAwayKey(t)
	dist := t.TempDir()
	kept := filepath.Join(dist, "kept")
	if err := os.WriteFile(kept, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ version, key, want string }{
		{"v1.2.3-4-gabcdef0", key, "version v1.2.3-4-gabcdef0 is not a tag"},
		{"v1.2.3-dirty", key, "version v1.2.3-dirty is not a tag"},
		{"v1.2.3-rc1-dirty", key, "version v1.2.3-rc1-dirty is not a tag"},
		{"abcdef0", key, "version abcdef0 is not a tag"},
		{"v1.2.3", key + ".missing", "cannot read RELEASE_KEY " + key + ".missing"},
		{"v987.6.5", key, `CHANGELOG.md has no section "## 987.6.5"`},
	} {
		t.Run(c.version, func(t *testing.T) {
			cmd := exec.Command("./release.sh")
			cmd.Env = append(os.Environ(), "VERSION="+c.version, "RELEASE_KEY="+c.key, "DIST="+dist)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %s", err, out)
			}
			if _, err := os.Stat(kept); err != nil {
				t.Errorf("dist was removed: %v", err)
			}
		})
	}
}
