package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// A trace shows the packets of the gateway, before and after a reload.
func TestGatewayTrace(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"kernel", "user"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			n := newGatewayNet(t, fmt.Sprintf("engine = %q\n", engine))
			var out, errs lockedBuffer
			trace := n.command(t.Context(), "g", "exec "+built(t, "tnat64ctl")+" -gateway -socket "+n.socket()+" trace")
			trace.Stdout, trace.Stderr = &out, &errs
			if err := trace.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { trace.Process.Kill(); trace.Wait() })
			seen := func(in *lockedBuffer, what string, times int) {
				t.Helper()
				eventually(t, soon, func() error {
					if n := strings.Count(in.String(), what); n < times {
						return fmt.Errorf("%q is there %d times, want %d:\n%s%s", what, n, times, errs.String(), out.String())
					}
					return nil
				})
			}
			seen(&errs, "Ctrl-C ends it", 1)
			if text := errs.String(); strings.Contains(text, "no packets") || strings.Contains(text, "kernel engine pauses") != (engine == "kernel") {
				t.Errorf("the trace begins with %s", text)
			}
			for times := 1; times <= 2; times++ {
				n.in("c1", "ping -n -c 1 -W 30 "+to(server))
				seen(&out, "Echo", 4*times) // before and after translation, each way
				n.daemon.Process.Signal(syscall.SIGHUP)
				n.isUp(1 + times)
			}
		})
	}
}
