package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestRoutedPrefix has prefixes that are routed to the laptop, but are not those of
// its uplink's link.
func TestRoutedPrefix(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		network lab.Options
		laptop  string // on the laptop, %[1]s is the uplink
		prefix  string // routed to it
		shared  bool   // the CLAT has the only address in it
	}{
		{"delegated", lab.Options{DHCPv6: true}, `
			ip link add lan7 type bridge
			ip link set lan7 up
			ip -6 addr add 2001:db8:f:1::1/64 dev lan7 nodad valid_lft 7200 preferred_lft 3600`, "2001:db8:f:1::/64", false},
		{"of guests, uplink unnumbered", lab.Options{Kind: lab.Cloud}, `
			ip -6 addr del 2001:db8:1::dc6/128 dev %[1]s
			ip link add lan7 type bridge
			ip link set lan7 up
			ip -6 addr add 2001:db8:f:1::1/64 dev lan7 nodad`, "2001:db8:f:1::/64", false},
		{"address of the loopback interface", lab.Options{Kind: lab.Cloud}, `
			ip -6 addr del 2001:db8:1::dc6/128 dev %[1]s
			ip -6 addr add 2001:db8:f:1::1/128 dev lo nodad`, "2001:db8:f:1::1/128", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, config string) {
				t.Parallel()
				w := newWorldOn(t, stage{network: c.network, config: config, prepare: func(l *lab.Lab) error {
					out, err := l.Laptop.Command(t.Context(), "sh", "-ec", fmt.Sprintf(c.laptop+" # %[1]s", lab.Uplink)).CombinedOutput()
					if err != nil {
						return fmt.Errorf("%w: %s", err, out)
					}
					return l.RouteToLaptop(netip.MustParsePrefix(c.prefix))
				}})
				w.moved = true
				prefix, own := netip.MustParsePrefix(c.prefix), netip.MustParseAddr("2001:db8:f:1::1")
				u := w.wantState(t, lab.Uplink, control.Up)
				if u.CLAT.Shared != c.shared || !prefix.Contains(u.CLAT.IPv6) || c.shared != (u.CLAT.IPv6 == own) {
					t.Errorf("the CLAT has %s (shared: %v), want one of %s", u.CLAT.IPv6, u.CLAT.Shared, prefix)
				}
				w.firstAnswer(t, "", soon) // UDP
				w.page(t)
				w.download(t, size(8<<20))
				w.pings(t, 1, "-s", "4000")
				w.datagrams(t)
			})
		})
	}
}
