package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"tnat64d/internal/lab"
)

// TestCLATRoutes has a network behind a hidden PLAT beside the public one, and one
// that is unreachable.
func TestCLATRoutes(t *testing.T) {
	t.Parallel()
	needProgram(t, "curl")
	company := netip.MustParsePrefix("2001:db8:c::/96")
	public := netip.MustParseAddr("198.51.100.8") // of the server
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{
			config: config + fmt.Sprintf(`
[[clat.route]]
network = "198.51.100.0/24"
pref64 = "none"
[[clat.route]]
network = "198.51.100.7"
pref64 = %q
[[clat.route]]
network = "198.51.100.8/31"
pref64 = %q
`, company, lab.WellKnownPrefix),
			prepare: func(l *lab.Lab) error {
				link, err := l.Server.Netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				if err := l.Server.Netlink.AddrAdd(link, &netlink.Addr{IPNet: netlink.NewIPNet(public.AsSlice())}); err != nil {
					return err
				}
				return l.AddPLAT(company)
			},
		})
		hidden := netip.MustParsePrefix("192.0.2.128/28")
		for range 2 {
			if you := w.whoami(t); !hidden.Contains(you) {
				t.Errorf("the server of the company sees %s, want an address of the hidden PLAT", you)
			}
			if you := w.whoamiAt(t, public); !lab.Pool.Contains(you) {
				t.Errorf("the public server sees %s, want an address of the public PLAT", you)
			}
		}
		w.pings(t, 2)
		w.pings(t, 2, "-s", "4000")
		w.download(t, size(8<<20))
		wants(t, w.laptop(t, "traceroute", "-n", "-q", "1", "-w", "20", server), "192.0.2.129", "192.0.2.1 ", server)
		w.dig(t)
		wants(t, w.ctl(t, "status"), "198.51.100.7/32 by "+company.String(), "198.51.100.0/24: unreachable")
		out, err := w.try(t, "ping", "-c", "1", "-W", "30", "198.51.100.200")
		if err == nil {
			t.Errorf("an unreachable network answers:\n%s", out)
		}
		wants(t, out, "Destination Host Unreachable")
		if n := w.droppedPackets(t, "no-pref64"); n != 1 {
			t.Errorf("%v packets were dropped as no-pref64, want 1", n)
		}
		w.inStatus(t, "no-pref64")
	})
}
