package manifests

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	strict "sigs.k8s.io/yaml"

	"tnat64d/internal/config"
)

func newBuffered(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// checkConfig fails the test if tnat64d does not accept a configuration.
func checkConfig(t *testing.T, text string) {
	t.Helper()
	if strings.TrimSpace(text) == "" {
		t.Error("the configuration is empty")
	}
	file := filepath.Join(t.TempDir(), "tnat64d.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, warnings, err := config.Load(file); err != nil || len(warnings) > 0 {
		t.Errorf("tnat64d refuses its configuration: %v %v", err, warnings)
	}
}

// userData are the modules of cloud-init that the snippet uses.
type userData struct {
	WriteFiles []struct {
		Path        string `json:"path"`
		Permissions string `json:"permissions"`
		Content     string `json:"content"`
	} `json:"write_files"`
	RunCmd [][]string `json:"runcmd"`
}

// TestCloudInit parses the snippet, its configuration (also with what is
// commented out) and its script.
func TestCloudInit(t *testing.T) {
	text, err := os.ReadFile("../cloud-init/tnat64d.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte("#cloud-config\n")) {
		t.Error("the first line is not #cloud-config, by which cloud-init knows user data")
	}
	var data userData
	if err := strict.UnmarshalStrict(text, &data); err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, f := range data.WriteFiles {
		switch f.Path {
		case "/etc/tnat64/tnat64d.toml":
			checkConfig(t, f.Content)
			checkConfig(t, strings.ReplaceAll(strings.ReplaceAll(f.Content, "#ipv6", "ipv6"), "#pref64", "pref64"))
		default:
			script = f.Path
			check := exec.Command("sh", "-n")
			check.Stdin = strings.NewReader(f.Content)
			if out, err := check.CombinedOutput(); err != nil || f.Permissions != "0755" {
				t.Errorf("%s, mode %s: %v %s", f.Path, f.Permissions, err, out)
			}
		}
	}
	if len(data.RunCmd) != 1 || len(data.RunCmd[0]) != 3 || data.RunCmd[0][0] != script {
		t.Errorf("runcmd is %q", data.RunCmd)
	}
}

// TestCloudInitScript runs the script with programs that only note their
// arguments: it installs what has the sum, and nothing else.
func TestCloudInitScript(t *testing.T) {
	text, err := os.ReadFile("../cloud-init/tnat64d.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var data userData
	if err := strict.UnmarshalStrict(text, &data); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"curl":  "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = -o ] && printf package >\"$2\"; shift; done\n",
		"dpkg":  "#!/bin/sh\necho \"$@\" >>" + filepath.Join(dir, "installed") + "\n",
		"sleep": "#!/bin/sh\n",
		"run":   data.WriteFiles[1].Content,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const sum = "bc4a71180870f7945155fbb02f4b0a2e3faa2a62d6d31b7039013055ed19869a" // of "package"
	for _, c := range []struct {
		sum  string
		want bool
	}{{strings.Repeat("0", 64), false}, {sum, true}} {
		cmd := exec.Command(filepath.Join(dir, "run"), "https://packages.example.net/x.deb", c.sum)
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "TMPDIR=" + dir}
		out, err := cmd.CombinedOutput()
		_, statErr := os.Stat(filepath.Join(dir, "installed"))
		if (err == nil) != c.want || (statErr == nil) != c.want {
			t.Errorf("sum %.8s: %v, installed: %t, want %t\n%s", c.sum, err, statErr == nil, c.want, out)
		}
	}
}
