package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestGatewayConntrackFull fills the kernel's connection tracking. What is tracked
// goes on, what is new is dropped and counted, and when there is room again new
// connections pass without a restart. The kernel has one limit for all network
// namespaces, which the test lowers: nothing else may run beside it.
func TestGatewayConntrackFull(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("changes net.netfilter.nf_conntrack_max of the machine: TNAT64_LONG=1 runs it")
	}
	const limit, file = 200, "/proc/sys/net/netfilter/nf_conntrack_max"
	n := newGatewayNet(t, "pool = \"100.64.0.0/24\"\n")
	talk := &lockedBuffer{}
	old := n.command(t.Context(), "c1", `exec python3 -u -c '
import http.client, sys
c = http.client.HTTPConnection("[`+to("198.51.100.7")+`]", timeout=30)
for line in sys.stdin:
    c.request("GET", "/"); print(c.getresponse().read().decode(), flush=True)'`)
	in, err := old.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	old.Stdout, old.Stderr = talk, talk
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { old.Process.Kill(); old.Wait() })
	asks := 0
	ask := func() {
		t.Helper()
		asks++
		fmt.Fprintln(in)
		eventually(t, soon, func() error {
			if strings.Count(talk.String(), "you are") != asks {
				return fmt.Errorf("answers: %s", talk)
			}
			return nil
		})
	}
	ask()

	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { set(string(was)) })
	set(fmt.Sprint(limit))
	n.in("c2", `python3 -c '
import socket
for port in range(10000, 10000 + 2*`+fmt.Sprint(limit)+`):
    u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::", port)); u.settimeout(0.02)
    for i in range(3): # the kernel forgets connections without an answer first
        u.sendto(b"x", ("`+to("198.51.100.7")+`", 9))
        try: u.recv(9)
        except OSError: break
    u.close()'`)
	if c := n.status().Conntrack; c == nil || c.Max != limit || c.Dropped == 0 || !c.NearlyFull() {
		t.Errorf("connection tracking by the status: %+v", c)
	}
	out, err := n.try("g", built(t, "tnat64ctl")+" -socket "+n.socket()+" status")
	if err != nil || !strings.Contains(out, "nf_conntrack_max") {
		t.Errorf("the status does not name the limit: %v\n%s", err, out)
	}
	ask()
	if out, err := n.try("c1", "curl -sSg -m 3 'http://["+to("198.51.100.7")+"]'"); err == nil {
		t.Errorf("a new connection passes though the table is full: %s", out)
	}
	set(string(was))
	n.in("c1", curl("198.51.100.7", ""))
	ask()
}
