package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"tnat64d/internal/lab"
)

// TestStaticPrefix numbers the link by hand, with on-link prefixes of other
// lengths than 64, and without router advertisements. The shortest leave no room
// for a checksum-neutral address.
func TestStaticPrefix(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		for _, bits := range []int{48, 80, 112, 120} {
			t.Run(fmt.Sprint(bits), func(t *testing.T) {
				t.Parallel()
				own := netip.PrefixFrom(netip.MustParseAddr("2001:db8:1::5"), bits)
				w := newWorldOn(t, stage{config: config + "pref64 = [\"64:ff9b::/96\"]\n", prepare: func(l *lab.Lab) error {
					l.Silence(true)
					out, err := l.Laptop.Command(t.Context(), "sh", "-ec", fmt.Sprintf(`
						sysctl -qw net.ipv6.conf.%[1]s.accept_ra=0
						ip -6 addr flush dev %[1]s scope global
						ip -6 route flush dev %[1]s proto ra
						ip -6 addr add %[2]s dev %[1]s nodad
						ip -6 route add default via %[3]s dev %[1]s`, lab.Uplink, own, l.Local)).CombinedOutput()
					if err != nil {
						return fmt.Errorf("%w: %s", err, out)
					}
					return nil
				}})
				w.moved = true
				if !own.Contains(w.clat.IPv6) || w.clat.IPv6 == own.Addr() {
					t.Errorf("CLAT address %s is not in %s", w.clat.IPv6, own)
				}
				w.firstAnswer(t, "", soon) // UDP
				w.page(t)                  // TCP
				w.pings(t, 2)
			})
		}
	})
}
