package e2e

import (
	"slices"
	"strings"
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestUplinkBelow changes what is below an uplink that is stacked on other links: the
// cable of a bond's active port or of all ports is pulled and comes back, and at last
// a port is unplugged. Connections survive what a cable does.
func TestUplinkBelow(t *testing.T) {
	t.Parallel()
	const port0, port1 = "port0", "port1" // the same names at both ends
	for _, c := range []struct {
		kind  lab.Kind
		spare string   // port of the router that may go without anybody noticing
		cable []string // the other ports of the router; none: the link itself
		left  int      // CLATs when the laptop's first port is unplugged
	}{
		{kind: lab.Bridge},
		{kind: lab.Bond, spare: port0, cable: []string{port1}, left: 1},
		{kind: lab.VLAN, cable: []string{port0}},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, stage{network: lab.Options{Kind: c.kind}})
			w.moved = true
			set := func(port, state string) {
				t.Helper()
				if port == "" {
					return
				}
				if out, err := w.Router.Command(t.Context(), "ip", "link", "set", port, state).CombinedOutput(); err != nil {
					t.Fatalf("set %s %s: %v: %s", port, state, err, out)
				}
			}
			carrier := func(on bool) {
				t.Helper()
				if _, err := w.SetCarrier(on); err != nil {
					t.Fatal(err)
				}
			}
			w.wantState(t, lab.Uplink, control.Up)
			w.firstAnswer(t, "", soon)
			conn := w.connection(t, "", w.clat.IPv4)
			set(c.spare, "down")
			wantAlive(t, "with the other port", conn)

			for _, port := range c.cable {
				set(port, "down")
			}
			if c.cable == nil {
				carrier(false)
			}
			w.wantState(t, lab.Uplink, control.Held)
			for _, port := range append(c.cable, c.spare) {
				set(port, "up")
			}
			carrier(true) // the router's addresses went with its link
			w.wantState(t, lab.Uplink, control.Up)
			w.firstAnswer(t, "", soon)
			wantAlive(t, "after the cable has come back", conn)

			if c.kind == lab.Bridge {
				return // a bridge without its port has no carrier either
			}
			w.laptop(t, "ip", "link", "del", port0)
			w.gone(port0)
			if c.left == 0 {
				w.gone(lab.Uplink)
			}
			w.wantCLATs(t, c.left)
			if c.left > 0 {
				w.firstAnswer(t, "", soon)
				wantAlive(t, "without one of two ports", conn)
			}
		})
	}
}

// gone says that an interface of the laptop has been removed, and not by tnat64d.
func (w *world) gone(ifname string) {
	w.before = slices.DeleteFunc(slices.Clone(w.before), func(line string) bool { return slices.Contains(strings.Fields(line), ifname) })
	w.sysctls = slices.DeleteFunc(slices.Clone(w.sysctls), func(line string) bool {
		of := ofInterface.FindStringSubmatch(line)
		return of != nil && of[1] == ifname
	})
}
