package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"tnat64d/internal/lab"
)

// TestHostileRedirect has a neighbour redirect one address behind PREF64 to itself, in
// the name of the router (RFC 4861 section 8). It is the address that tnat64d asks
// for when it looks for the route to all of PREF64, or to a part of it. Packets to
// others still go to the router.
func TestHostileRedirect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, config, route, asked string }{
		{"PREF64 of no router", "pref64 = [\"64:ff9b::/96\"]\n", "", "64:ff9b::1"},
		{"route inside PREF64", "", "64:ff9b::c633:6400/120", "64:ff9b::c633:6400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachSteering(t, func(t *testing.T, config string) {
				t.Parallel()
				w := newWorld(t, lab.Options{}, config+c.config)
				b := w.neighbour(t)
				own, err := w.LaptopAddress()
				if err != nil {
					t.Fatal(err)
				}
				if c.route != "" {
					route := []string{c.route, "via", lab.RouterLocal.String(), "dev", lab.Uplink}
					w.laptop(t, "ip", append([]string{"-6", "route", "add"}, route...)...)
					defer w.laptop(t, "ip", append([]string{"-6", "route", "del"}, route...)...)
				}
				w.pings(t, 1)
				for range 10 {
					// The kernel forgets it with the next change of an IPv6 route, or
					// when it finds that the neighbour is no router.
					eventually(t, stepTimeout, func() error {
						w.redirect(t, b, own, netip.MustParseAddr(c.asked))
						route := w.laptop(t, "ip", "-6", "route", "get", c.asked)
						if !strings.Contains(route, b.Local.String()) {
							return fmt.Errorf("the kernel has not followed the redirect: %s", route)
						}
						return nil
					})
					for _, change := range []string{"add", "del"} { // tnat64d looks again
						w.laptop(t, "ip", "route", change, "blackhole", "198.18.9.0/24")
					}
					w.pings(t, 1)
				}
			})
		})
	}
}

// redirect has a neighbour tell the laptop, in the name of the router, that the
// neighbour is a better next hop for dst.
func (w *world) redirect(t *testing.T, b *lab.Neighbour, laptop, dst netip.Addr) {
	t.Helper()
	frame := frameTo(t, b, w.uplinkMAC(t),
		&layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: lab.RouterLocal.AsSlice(), DstIP: laptop.AsSlice()},
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRedirect, 0)},
		&layers.ICMPv6Redirect{
			TargetAddress: b.Local.AsSlice(), DestinationAddress: dst.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: b.MAC}},
		})
	if err := b.Send(frame); err != nil {
		t.Fatal(err)
	}
}
