package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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
		t.Run("host routes", func(t *testing.T) { w.followsRoutesTo(t, company, public) })
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

// followsRoutesTo gives the laptop a route to more than the prefix of a network, and
// one that rejects a part of it: IPv4 to that network follows them, and other IPv4
// does not.
func (w *world) followsRoutesTo(t *testing.T, company netip.Prefix, public netip.Addr) {
	other, mac := netip.MustParseAddr("fe80::99"), net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	w.laptop(t, "ip", "neigh", "add", other.String(), "lladdr", mac.String(), "dev", lab.Uplink)
	route := []string{"2001:db8:c::/48", "via", other.String(), "dev", lab.Uplink}
	w.laptop(t, "ip", append([]string{"-6", "route", "add"}, route...)...)
	synthesized := lab.Synthesize(company, lab.ServerIPv4)
	eventually(t, startTimeout, func() error {
		if got := w.nextHop(t, lab.ServerIPv4, synthesized); !slices.Equal(got, mac) {
			return fmt.Errorf("packets to the company go to %v, want %v", got, mac)
		}
		return nil
	})
	wants(t, w.ctl(t, "status"), company.String()+" via "+other.String())
	if you := w.whoamiAt(t, public); !lab.Pool.Contains(you) {
		t.Errorf("the public server sees %s, want an address of the public PLAT", you)
	}
	w.laptop(t, "ip", append([]string{"-6", "route", "del"}, route...)...)
	reject := []string{"unreachable", netip.PrefixFrom(synthesized, 128).String()}
	w.laptop(t, "ip", append([]string{"-6", "route", "add"}, reject...)...)
	eventually(t, startTimeout, func() error {
		if err := w.connect(t, "tcp4", lab.ServerIPv4); !errors.Is(err, unix.EHOSTUNREACH) {
			return fmt.Errorf("connect to the company: %v, want %v", err, unix.EHOSTUNREACH)
		}
		return nil
	})
	w.laptop(t, "ip", append([]string{"-6", "route", "del"}, reject...)...)
	w.laptop(t, "ip", "neigh", "del", other.String(), "lladdr", mac.String(), "dev", lab.Uplink)
	eventually(t, startTimeout, func() error { return w.pinged(t) })
}
