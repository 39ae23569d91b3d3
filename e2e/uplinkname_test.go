package e2e

import (
	"fmt"
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestUplinkName has uplinks that no configuration names: a bridge, whose port is
// the laptop's interface, and an interface that gets another name while its CLAT
// is up.
func TestUplinkName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ uplink, prepare string }{
		{lab.Uplink, ""},
		{"br7", `ip link add br7 type bridge mcast_snooping 0 # no IGMP of its own
			ip link set %[1]s master br7
			ip -6 addr flush dev %[1]s
			ip -6 route flush dev %[1]s
			ip link set br7 up
			for try in $(seq 100); do ip link show br7 | grep -q "state UP" && break; sleep 0.1; done`},
	} {
		t.Run(c.uplink, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, stage{prepare: func(l *lab.Lab) error {
				if c.prepare == "" {
					return nil
				}
				out, err := l.Laptop.Command(t.Context(), "sh", "-ec", fmt.Sprintf(c.prepare, lab.Uplink)).CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}})
			w.moved = true
			name := c.uplink
			for _, next := range []string{"other7", c.uplink} {
				w.wantState(t, name, control.Up)
				w.firstAnswer(t, "", soon)
				w.page(t)
				w.laptop(t, "sh", "-ec", fmt.Sprintf("ip link set %[1]s down; ip link set %[1]s name %[2]s; ip link set %[2]s up", name, next))
				name = next
			}
			w.wantState(t, name, control.Up)
			w.firstAnswer(t, "", soon)
		})
	}
}
