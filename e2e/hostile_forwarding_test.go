package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tnat64d/internal/lab"
)

// The laptop has a second network, on the interface usb0. Nothing from the
// uplink may get there.
var (
	behindLaptop = netip.MustParsePrefix("2001:db8:77::1/64")
	behindHost   = netip.MustParseAddr("2001:db8:77::2")
)

// networkBehind makes the second network, with one host on it.
func networkBehind(l *lab.Lab) error {
	h := l.Laptop.Netlink
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "usb0"}, PeerName: "usb1"}); err != nil {
		return err
	}
	near, err := h.LinkByName("usb0")
	if err != nil {
		return err
	}
	far, err := h.LinkByName("usb1")
	if err != nil {
		return err
	}
	err = errors.Join(h.LinkSetUp(far), h.LinkSetUp(near), h.AddrAdd(near, &netlink.Addr{
		IPNet: &net.IPNet{IP: behindLaptop.Addr().AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: 2, // IFA_F_NODAD
	}))
	time.Sleep(3 * time.Second) // until the link-local addresses have passed DAD and are in the snapshot
	return errors.Join(err, h.NeighAdd(&netlink.Neigh{
		LinkIndex: near.Attrs().Index, State: netlink.NUD_PERMANENT, IP: behindHost.AsSlice(), HardwareAddr: far.Attrs().HardwareAddr,
	}))
}

// TestHostileNeighbourIsNotForwarded: tnat64d does not make the laptop a router
// for its neighbours, whatever the kernel refuses. That no sysctl changes is
// what every world checks.
func TestHostileNeighbourIsNotForwarded(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{"with BPF": "", "BPF refused": refuseBPF} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, stage{config: config, prepare: networkBehind})
			behind, err := w.Laptop.Watch("usb0")
			if err != nil {
				t.Fatal(err)
			}
			b := w.neighbour(t)
			own, err := w.LaptopAddress()
			if err != nil {
				t.Fatal(err)
			}
			port, next := w.datagramsTo(t, "udp6", "[::]:0")
			from := netip.AddrPortFrom(netip.MustParseAddr("2001:db8:bad::1"), 4000)
			send := func(to netip.Addr, payload string) {
				t.Helper()
				if err := b.Send(frameTo(t, b, w.uplinkMAC(t), udp6(from, netip.AddrPortFrom(to, port), payload)...)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, stepTimeout, func() error {
				send(behindHost, "to the network behind")
				// Frames do not overtake each other: when this one is there, the
				// laptop has decided about the other.
				send(own, "to the laptop")
				if got := next(time.Second); got != "to the laptop" {
					return fmt.Errorf("received %q", got)
				}
				return nil
			})
			sent, err := behind.Close()
			if err != nil {
				t.Error(err)
			}
			for _, s := range sent {
				if s.Source == from.Addr() {
					t.Errorf("the laptop forwarded %s", s)
				}
			}
		})
	}
}
