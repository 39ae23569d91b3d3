package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	unit        = "systemd/tnat64d.service"
	cleanupUnit = "systemd/tnat64d-cleanup.service"
)

// systemd before 254 does not know these, and says so without harm.
var younger = regexp.MustCompile(`Unknown key(?: name)? '(RestartSteps|RestartMaxDelaySec)'`)

// unitCopy is the unit, beside the one for cleaning up, with programs that exist here.
func unitCopy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, u := range []string{unit, cleanupUnit} {
		text := strings.ReplaceAll(readFile(t, u), "/usr/bin/tnat64d", "/bin/true")
		text = regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAllString(text, "")
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(u)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, filepath.Base(unit))
}

func TestUnitVerifies(t *testing.T) {
	need(t, "systemd-analyze")
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", unitCopy(t)).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Skip("systemd-analyze does not work here: ", err)
	}
	for _, line := range lines(string(out)) {
		if strings.Contains(line, "tnat64d") && !younger.MatchString(line) {
			t.Error(line)
		}
	}
}

// Exposure is systemd's own measure of what a service could do to its host.
func TestUnitExposure(t *testing.T) {
	need(t, "systemd-analyze")
	dir := filepath.Dir(unitCopy(t))
	for _, u := range []string{unit, cleanupUnit} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", filepath.Join(dir, filepath.Base(u))).CombinedOutput()
		m := regexp.MustCompile(`Overall exposure level for tnat64d\S*.service: ([0-9.]+)`).FindSubmatch(out)
		if m == nil {
			t.Skipf("systemd-analyze security does not work here: %v\n%s", err, out)
		}
		if level, _ := strconv.ParseFloat(string(m[1]), 64); level > 2.0 || err != nil {
			t.Errorf("%s: exposure %s, %v\n%s", u, m[1], err, out)
		}
	}
}

// Things that only hurt later.
func TestUnitSaysWhatItMust(t *testing.T) {
	all := lines(readFile(t, unit))
	for _, want := range []string{
		"Type=notify",
		"Restart=on-failure",
		"RestartPreventExitStatus=2",
		"Environment=GOTRACEBACK=crash", // or a panic would count as that
		"RuntimeDirectoryPreserve=yes",  // the journal of a crash
		"User=tnat64",
		"DevicePolicy=closed",
		"DeviceAllow=/dev/net/tun rw",
		"CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF CAP_NET_RAW",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, line := range all {
		if m := regexp.MustCompile(`^(After|Before|Wants|Requires)=(.*network.*)`).FindString(line); m != "" {
			t.Errorf("it waits for a network, or a network for it: %s", m)
		}
	}
}

// The files that keep network managers away from our TUN name it as the code
// does.
func TestNetworkManagersKnowTheTUN(t *testing.T) {
	name := ""
	for _, e := range exampleKeys(t) {
		if e.key == "clat.tun" {
			name = strings.Trim(e.value, `"`)
		}
	}
	for file, pattern := range map[string]string{
		"networkmanager/90-tnat64.conf": `(?m)^match-device=interface-name:(\S+)$`,
		"networkmanager/50-tnat64":      `(?m)^(clat\*)\) exit 0`,
		"networkd/05-tnat64.network":    `(?m)^Name=(\S+)$`,
		"udev/80-tnat64.rules":          `(?m)^KERNEL=="([^"]+)"`,
	} {
		m := regexp.MustCompile(pattern).FindStringSubmatch(readFile(t, file))
		if m == nil {
			t.Errorf("%s does not name it", file)
			continue
		}
		if ok, err := filepath.Match(m[1], name); !ok || err != nil {
			t.Errorf("%s is about %s, the TUN is %q", file, m[1], name)
		}
	}
}
