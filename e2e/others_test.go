package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestDHCPv6Only is on a network that gives out addresses by DHCPv6 alone: none
// is invented, and the reason is said.
func TestDHCPv6Only(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, stage{network: lab.Options{DHCPv6: true}, nobody: true})
	u := w.wantState(t, lab.Uplink, control.Waiting, "DHCPv6")
	t.Logf("%s: %s", u.State, u.Why)
	if len(u.PREF64) == 0 || u.CLAT != nil {
		t.Errorf("known are %+v, CLAT is %+v", u.PREF64, u.CLAT)
	}
	time.Sleep(time.Second)
	if diff := w.before.Diff(must(t)(w.Laptop.Snapshot())); len(diff) > 0 {
		t.Errorf("the laptop has changed:\n%s", strings.Join(diff, "\n"))
	}
	w.wantUnreachable(t)
}

// TestOtherCLAT has another CLAT on the laptop, as NetworkManager makes it on
// the uplink and clatd beside it. tnat64d stands aside, unless it is told not to.
func TestOtherCLAT(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]struct{ up, down string }{
		"NetworkManager": {
			"ip addr add 192.0.0.5/32 dev " + lab.Uplink,
			"ip addr del 192.0.0.5/32 dev " + lab.Uplink,
		},
		"clatd": {
			"ip tuntap add dev clat mode tun && ip addr add 192.0.0.1 dev clat && ip link set clat up",
			"ip link del clat",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sh := func(w *world, script string) { t.Helper(); w.laptop(t, "sh", "-c", script) }
			w := newWorldOn(t, stage{nobody: true, prepare: func(l *lab.Lab) error {
				out, err := l.Laptop.Command(t.Context(), "sh", "-c", other.up).CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}})
			w.moved = true
			u := w.wantState(t, lab.Uplink, control.Standby, "another CLAT is at work")
			t.Logf("%s: %s", u.State, u.Why)
			// It goes, and comes again.
			sh(w, other.down)
			w.wantState(t, lab.Uplink, control.Up)
			flow := w.connection(t, "", netip.Addr{})
			came := time.Now()
			sh(w, other.up)
			w.wantState(t, lab.Uplink, control.Standby, "another CLAT is at work")
			w.wantCLATs(t, 0)
			wantEnded(t, "by the CLAT that stands aside", flow, came)

			w.config = "[clat]\nenable = \"always\"\n"
			if err := w.daemon.Stop(); err != nil {
				t.Fatal(err)
			}
			w.start(built(t, "tnat64d"), true)
			u = w.wantState(t, lab.Uplink, control.Up)
			if len(u.Warnings) == 0 || u.CLAT.IPv4 == netip.MustParseAddr("192.0.0.5") {
				t.Errorf("CLAT %+v, warnings %q", u.CLAT, u.Warnings)
			}
			w.page(t)
		})
	}
}
