package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The demo is a whole IPv6-only network: a kernel client takes address, default
// route and PREF64 from router advertisements, DNS64 answers it, a CLAT works on
// it, a port leads inside, and a gateway that stops withdraws itself.
func TestGatewayDemo(t *testing.T) {
	needRoot(t)
	for _, p := range []string{"ip", "curl", "python3", "tcpdump", "sysctl"} {
		needProgram(t, p)
	}
	t.Parallel()
	bin := filepath.Dir(built(t, "tnat64-gateway"))
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	// SIGTERM, so that it takes its network away.
	cmd := exec.CommandContext(ctx, "../packaging/demo-gateway.sh", bin)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"2001:db8:1:0:0:ff:fe00:1, default route by fe80::",
		"getent ahostsv6 four.example                 2001:db8:64::c633:6407\n",
		"2001:db8:1::ff:fe00:1 > 2001:db8:64::c633:6407\n",
		"203.0.113.1 > 198.51.100.7\n",
		"192.0.0.1 > 198.51.100.7\n",
		"phone: you are 2001:db8:64::cb00:7102, port ",
		"nothing: no interface, no default route on the phone\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "server: you are 203.0.113.1, port "); n != 2 {
		t.Errorf("%d of 2 clients have the gateway's outside address:\n%s", n, out)
	}
}
