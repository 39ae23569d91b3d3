package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A trace shows the packets of the gateway, before and after a reload.
func TestGatewayTrace(t *testing.T) { eachGatewayEngine(t, testGatewayTrace) }

func testGatewayTrace(t *testing.T, engine string) {
	n := newGatewayNet(t, engine)
	out := n.background(t, "g", "exec "+built(t, "tnat64ctl")+" -gateway -socket "+n.socket()+" trace")
	seen := func(what string, times int) {
		t.Helper()
		eventually(t, soon, func() error {
			if n := strings.Count(out.String(), what); n < times {
				return fmt.Errorf("%q is there %d times, want %d:\n%s", what, n, times, out.String())
			}
			return nil
		})
	}
	seen("Ctrl-C ends it", 1)
	if text := out.String(); strings.Contains(text, "no packets") || strings.Contains(text, "kernel engine pauses") != strings.Contains(engine, "kernel") {
		t.Errorf("the trace begins with %s", text)
	}
	for times := 1; times <= 2; times++ {
		n.in("c1", "ping -n -c 1 -W 30 "+to(server))
		seen("Echo", 4*times) // before and after translation, each way
		n.reload(engine)
	}
}
