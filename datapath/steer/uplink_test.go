package steer

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mobile broadband: packets on the uplink begin with the IP header. Here it is
// a TUN whose other end is the test.
func TestUplinkWithoutLinkHeader(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			needsRoot(t)
			l := &lab{laptop: newHost(t), uplink: "wwan0"}
			network := l.laptop.tun(t, "wwan0")
			l.tun = l.laptop.tun(t, "clat0")
			l.laptop.addr(t, "wwan0", host6.String()+"/64")
			l.laptop.clatAddr(t, "wwan0", clat6, unix.IFA_F_NODAD)
			before := l.laptop.sysctls(t)
			s := l.steer(t, attach)

			ordinary := udp(clat6, plat6, 100)
			super := tcpSuper(clat6, plat6, 40000)
			superVnet := vnetHeader{flags: needsCsum, gsoType: gsoTCPv6, hdrLen: 60, gsoSize: 1440, csumStart: 40, csumOffset: 16}
			pass := func(from, to *tun, vnet vnetHeader, packet []byte) {
				t.Helper()
				from.write(t, vnet, packet)
				f, ok := to.next(t, patience, func(f frame) bool { return isIPv6(f.data) && f.data[6] == packet[6] })
				if !ok {
					t.Fatalf("%s to %s: nothing", from.name, to.name)
				}
				if !bytes.Equal(f.data, packet) || f.vnet.gsoSize != vnet.gsoSize || f.vnet.gsoType != vnet.gsoType || f.vnet.csumStart != vnet.csumStart {
					t.Errorf("%s to %s: %d bytes, %+v, or other bytes than the %d sent", from.name, to.name, len(f.data), f.vnet, len(packet))
				}
			}
			pass(l.tun, network, vnetHeader{}, ordinary)
			pass(l.tun, network, superVnet, super)
			pass(network, l.tun, vnetHeader{}, udp(plat6, clat6, 100))
			pass(network, l.tun, superVnet, tcpSuper(plat6, clat6, 40000))
			// All but 8 bytes in pages, towards the CLAT.
			pass(network, l.tun, vnetHeader{hdrLen: 8}, udp(plat6, clat6, 8000))
			if got := counters(t, s); got != (Counters{SteeredIn: 3, SteeredOut: 2}) {
				t.Errorf("counted %+v", got)
			}

			// Solicitations and the host's other traffic stay with the kernel.
			network.write(t, vnetHeader{}, ipv6(plat6, clat6, protoICMPv6, icmpv6(plat6, clat6, typeNS, make([]byte, 20))))
			if got := counters(t, s); got.LeftToKernel != 1 {
				t.Errorf("counted %+v", got)
			}
			neighbour := netip.MustParseAddr("2001:db8:1::99")
			network.write(t, vnetHeader{}, echo(neighbour, host6, typeEchoRequest, 1, 8))
			if _, ok := network.next(t, patience, func(f frame) bool { return isICMPv6(f.data, typeEchoReply) }); !ok {
				t.Error("the kernel does not answer for the ordinary address")
			}
			sameSysctls(t, "during", before, l.laptop.sysctls(t))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			l.nothingLeft(t)
		})
	}
}

// A VLAN device, where the kernel has them.
func TestUplinkVLAN(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			needsRoot(t)
			l := &lab{laptop: newHost(t), router: newHost(t)}
			connect(t, l.laptop, "up0", l.router, "rt0")
			for h, parent := range map[*host]string{l.laptop: "up0", l.router: "rt0"} {
				err := h.nl.LinkAdd(&netlink.Vlan{
					LinkAttrs: netlink.LinkAttrs{Name: parent + ".5", ParentIndex: h.index(t, parent)},
					VlanId:    5,
				})
				if errors.Is(err, unix.EOPNOTSUPP) {
					t.Skip("this kernel has no VLAN devices")
				}
				if err != nil {
					t.Fatal(err)
				}
				h.up(t, parent+".5")
			}
			l.addresses(t, "up0.5", "rt0.5")
			s := l.steer(t, attach)
			l.roundTrip(t, 1)
			testSuperPacketIn(t, l, s)
			testSuperPacketOut(t, l, s)
		})
	}
}
