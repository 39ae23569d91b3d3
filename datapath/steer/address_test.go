package steer

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/dump"
)

// flags returns the flags of the CLAT address on the laptop, and whether it is
// there.
func (l *lab) clatFlags(t *testing.T) (flags int, found bool) {
	t.Helper()
	link := l.laptop.link(t, l.uplink)
	all, err := dump.Whole(10, 0, func() ([]netlink.Addr, error) { return l.laptop.nl.AddrList(link, netlink.FAMILY_V6) })
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if a.IP.Equal(clat6.AsSlice()) {
			return a.Flags, true
		}
	}
	return 0, false
}

// Duplicate address detection by the kernel works while packets are steered:
// an address that is free becomes usable and stays deprecated, one that the
// neighbour has is refused.
func TestDuplicateAddressDetection(t *testing.T) {
	for _, taken := range []bool{false, true} {
		name := map[bool]string{false: "free", true: "taken"}[taken]
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.steer(t, Auto)
			link := l.laptop.link(t, l.uplink)
			if err := l.laptop.nl.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: clat6.AsSlice(), Mask: net.CIDRMask(128, 128)}}); err != nil {
				t.Fatal(err)
			}
			if taken {
				l.router.addr(t, "rt0", clat6.String()+"/64")
			}
			l.laptop.clatAddr(t, l.uplink, clat6, 0)

			if _, ok := l.wire.next(t, patience, func(f frame) bool {
				return isICMPv6(f.ip(), typeNS) && source(f.ip()).IsUnspecified() && bytes.Equal(f.ip()[48:64], clat6.AsSlice())
			}); !ok {
				t.Error("the network has not seen duplicate address detection")
			}
			eventually(t, "duplicate address detection ends", func() bool {
				flags, _ := l.clatFlags(t)
				return flags&unix.IFA_F_TENTATIVE == 0 || flags&unix.IFA_F_DADFAILED != 0
			})
			flags, found := l.clatFlags(t)
			if failed := !found || flags&unix.IFA_F_DADFAILED != 0; failed != taken {
				t.Errorf("refused: %v, flags %#x", failed, flags)
			}
			if !taken && flags&unix.IFA_F_DEPRECATED == 0 {
				t.Errorf("the address is not deprecated: flags %#x", flags)
			}
			if !taken {
				l.roundTrip(t, 1)
			}
		})
	}
}

// The host goes on hearing router advertisements, and its packets go to the
// router that one of them names.
func TestRouterAdvertisement(t *testing.T) {
	l := newLab(t)
	s := l.steer(t, Auto)
	l.roundTrip(t, 1)
	if err := l.laptop.nl.RouteDel(&netlink.Route{LinkIndex: l.laptop.index(t, l.uplink), Gw: router6.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	l.router.do(t, func() error {
		iface, err := net.InterfaceByName("rt0")
		if err != nil {
			return err
		}
		c, _, err := ndp.Listen(iface, ndp.LinkLocal)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.WriteTo(&ndp.RouterAdvertisement{CurrentHopLimit: 64, RouterLifetime: time.Minute}, nil, netip.IPv6LinkLocalAllNodes())
	})
	eventually(t, "a default route by router advertisement", func() bool {
		routes, err := l.laptop.nl.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				return true
			}
		}
		return false
	})
	l.roundTrip(t, 2)
	if got := counters(t, s); got.SteeredIn != 2 || got.SteeredOut != 2 {
		t.Errorf("counted %+v", got)
	}
}
