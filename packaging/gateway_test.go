package packaging

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// gatewayContents of the Debian package of tnat64-gateway.
const gatewayContents = `-rwxr-xr-x /usr/bin/tnat64-gateway
-rw-r--r-- /usr/lib/systemd/system/tnat64-gateway.service
-rw-r--r-- /usr/lib/sysusers.d/tnat64-gateway.conf
-rw-r--r-- /usr/share/bash-completion/completions/tnat64-gateway
-rw-r--r-- /usr/share/doc/tnat64-gateway/changelog.Debian.gz
-rw-r--r-- /usr/share/doc/tnat64-gateway/changelog.gz
-rw-r--r-- /usr/share/doc/tnat64-gateway/copyright
-rw-r--r-- /usr/share/doc/tnat64-gateway/examples/gateway.toml
-rw-r--r-- /usr/share/doc/tnat64-gateway/third-party-notices.gz
-rw-r--r-- /usr/share/fish/vendor_completions.d/tnat64-gateway.fish
-rw-r--r-- /usr/share/lintian/overrides/tnat64-gateway
-rw-r--r-- /usr/share/man/man5/gateway.toml.5.gz
-rw-r--r-- /usr/share/man/man8/tnat64-gateway.8.gz
-rw-r--r-- /usr/share/zsh/vendor-completions/_tnat64-gateway`

// gatewayBeside returns the package of the gateway that was built with one of
// the CLAT.
func gatewayBeside(daemon string) string {
	dir, name := filepath.Split(daemon)
	return filepath.Join(dir, strings.Replace(name, "tnat64d", "tnat64-gateway", 1))
}

func TestGatewayPackage(t *testing.T) {
	b := build(t)
	deb := gatewayBeside(b.deb)
	if d := cmp.Diff(lines(gatewayContents), list(output(t, "dpkg-deb", "-c", deb))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for _, f := range lines(debContents + "\n" + shimContents) {
		if slices.Contains(lines(gatewayContents), f) {
			t.Errorf("%s is in two packages", f)
		}
	}
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, root)
	program := filepath.Join(root, "usr/bin/tnat64-gateway")
	if v := output(t, program, "-version"); !strings.HasPrefix(v, "tnat64-gateway "+testVersion+" ") {
		t.Errorf("version %q", v)
	}
	// It has the licence of every module in it.
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	text := output(t, "gzip", "-dc", filepath.Join(root, "usr/share/doc/tnat64-gateway/third-party-notices.gz"))
	for _, m := range info.Deps {
		if !strings.Contains(text, "\n"+m.Path+" "+m.Version+": LICEN") && !strings.Contains(text, "\n"+m.Path+" "+m.Version+": COPYING") {
			t.Errorf("there is no licence of %s %s", m.Path, m.Version)
		}
	}
	// The examples of the manual and the package are right.
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(readFile(t, "man/gateway.toml.5.md"), -1)
	if len(blocks) < 2 {
		t.Fatal("no examples in the manual")
	}
	blocks = append(blocks, []string{"", readFile(t, "gateway.toml.example")})
	for _, block := range blocks {
		file := filepath.Join(t.TempDir(), "gateway.toml")
		if err := os.WriteFile(file, []byte(block[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		output(t, program, "-check", "-config", file)
	}
	need(t, "bsdtar")
	for _, file := range []string{gatewayBeside(b.rpm), gatewayBeside(b.arch)} {
		if files := list(output(t, "bsdtar", "-tvf", file)); !slices.Contains(files, "-rwxr-xr-x /usr/bin/tnat64-gateway") {
			t.Errorf("%s has no /usr/bin/tnat64-gateway: %q", filepath.Base(file), files)
		}
	}
}

func TestGatewayLintian(t *testing.T) {
	b := build(t)
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("needs lintian: ", err)
	}
	t.Parallel()
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", gatewayBeside(b.deb)).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The manual has every flag of the command, and so have the completions.
func TestGatewayManualHasEveryFlag(t *testing.T) {
	text := output(t, program(t, gatewayBeside(build(t).deb), "tnat64-gateway"), "-h")
	manual := readFile(t, "man/tnat64-gateway.8.md")
	for _, f := range flags(text) {
		if !strings.Contains(manual, "\n**"+f+"**") {
			t.Errorf("the manual does not explain %s", f)
		}
		for _, file := range []string{"tnat64-gateway.bash", "_tnat64-gateway", "tnat64-gateway.fish"} {
			if !strings.Contains(readFile(t, "completions/"+file), strings.TrimPrefix(f, "-")) {
				t.Errorf("%s does not know %s", file, f)
			}
		}
	}
}

// The manual and the example have the same keys in the same order, and the same
// defaults. internal/config's test knows that the example has all of them.
func TestGatewayManualHasEveryKey(t *testing.T) {
	keysOf := func(file string, table, key *regexp.Regexp) (keys []string, values map[string]string) {
		values = map[string]string{}
		in := ""
		for _, line := range lines(readFile(t, file)) {
			if m := table.FindStringSubmatch(line); m != nil {
				in = m[1]
			} else if m := key.FindStringSubmatch(line); m != nil && in != "" {
				keys = append(keys, in+"."+m[1])
				if len(m) > 2 {
					values[in+"."+m[1]] = m[2]
				}
			} else if m := manualDefault.FindStringSubmatch(line); m != nil && len(keys) > 0 {
				values[keys[len(keys)-1]] = m[1]
			}
		}
		return keys, values
	}
	want, values := keysOf("gateway.toml.example", regexp.MustCompile(`^#?\[+([a-z0-9.]+)\]+$`), regexp.MustCompile(`^#?([a-z0-9-]+) = (.*)$`))
	got, defaults := keysOf("man/gateway.toml.5.md", regexp.MustCompile(`^# TABLES? \[+([a-z0-9.]+)\]+$`), regexp.MustCompile(`^\*\*([a-z0-9-]+)\*\* = `))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-keys of the example +keys of the manual)\n%s", d)
	}
	for key, value := range defaults {
		if values[key] != value {
			t.Errorf("%s: the manual's default is %s, the example's %s", key, value, values[key])
		}
	}
	if len(defaults) < 12 {
		t.Errorf("only %d defaults found: does this test still read the manual?", len(defaults))
	}
}

// A file that does not fit the host would end the new version, while the old one works.
func TestGatewayUpgradeChecksTheHost(t *testing.T) {
	for _, script := range []string{"postinst", "rpm-postun", "arch-post_upgrade"} {
		if text := readFile(t, "gateway/"+script); strings.Count(text, "tnat64-gateway -check") != 1 || !strings.Contains(text, "tnat64-gateway -check-host ") {
			t.Errorf("%s does not run -check-host", script)
		}
	}
}

func TestGatewayUnit(t *testing.T) {
	text := readFile(t, "systemd/tnat64-gateway.service")
	for _, want := range []string{
		"Type=notify", "Restart=on-failure", "User=tnat64-gateway", "DevicePolicy=closed", "DeviceAllow=/dev/net/tun rw",
		"Environment=GOTRACEBACK=crash", "ConditionPathExists=/etc/tnat64/gateway.toml",
		"CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF CAP_NET_RAW CAP_NET_BIND_SERVICE",
	} {
		if !slices.Contains(lines(text), want) {
			t.Errorf("no %s", want)
		}
	}
	if slices.Contains(lines(text), "RestartPreventExitStatus=2") {
		t.Error("an interface that comes later is not waited for")
	}
	// Before systemd 254 each restart comes after RestartSec=.
	number := func(key string) int {
		m := regexp.MustCompile(`(?m)^` + key + `=(\d+)`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s", key)
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	if burst, most := number("StartLimitBurst"), 60*number("StartLimitIntervalSec")/number("RestartSec"); burst <= most {
		t.Errorf("an interface that comes after more than %d starts is not waited for: there are %d in StartLimitIntervalSec", burst, most)
	}
	need(t, "systemd-analyze")
	text = strings.ReplaceAll(text, "/usr/bin/tnat64-gateway", "/bin/true")
	text = regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAllString(text, "")
	file := filepath.Join(t.TempDir(), "tnat64-gateway.service")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	for _, line := range lines(string(out)) {
		if strings.Contains(line, "tnat64-gateway.service") && !younger.MatchString(line) {
			t.Error(line)
		}
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=22", "--no-pager", file).CombinedOutput()
	m := regexp.MustCompile(`Overall exposure level for tnat64-gateway.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Skipf("systemd-analyze security does not work here: %v\n%s", err, out)
	}
	if level, _ := strconv.ParseFloat(string(m[1]), 64); level > 2.2 {
		t.Errorf("exposure %s\n%s", m[1], out)
	}
}
