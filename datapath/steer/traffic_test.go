package steer

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lab is a laptop with a CLAT whose user space is the test, and a router that
// is the PLAT as well: plat6 is an address of its own.
type lab struct {
	laptop, router *host
	uplink         string // the laptop's end
	routerMAC      net.HardwareAddr
	laptopMAC      net.HardwareAddr
	tun            *tun
	wire           *wire // the router's end
}

func newLab(t *testing.T) *lab {
	t.Helper()
	needsRoot(t)
	l := &lab{laptop: newHost(t), router: newHost(t), uplink: "up0"}
	connect(t, l.laptop, "up0", l.router, "rt0")
	l.addresses(t, "up0", "rt0")
	return l
}

// addresses makes ordinary hosts of both sides and adds the CLAT.
func (l *lab) addresses(t *testing.T, uplink, downlink string) {
	t.Helper()
	l.uplink = uplink
	l.router.addr(t, downlink, router6.String()+"/64")
	l.router.addr(t, downlink, "2001:db8:1::1/64")
	l.router.addr(t, "lo", plat6.String()+"/128")
	l.laptop.addr(t, uplink, host6.String()+"/64")
	l.laptop.clatAddr(t, uplink, clat6, unix.IFA_F_NODAD)
	l.laptop.route(t, netlink.Route{LinkIndex: l.laptop.index(t, uplink), Gw: router6.AsSlice()})
	l.routerMAC = l.router.link(t, downlink).Attrs().HardwareAddr
	l.laptopMAC = l.laptop.link(t, uplink).Attrs().HardwareAddr
	l.tun = l.laptop.tun(t, "clat0")
	l.wire = l.router.wire(t, downlink)
}

// steer starts the programs. Every counter that is not zero at the end must
// have been expected.
func (l *lab) steer(t *testing.T, attach Attach) *Steering {
	t.Helper()
	var s *Steering
	l.laptop.do(t, func() (err error) {
		s, err = New(Config{
			Uplink: l.laptop.index(t, l.uplink),
			TUN:    l.tun.index,
			Ours:   []netip.Prefix{netip.PrefixFrom(clat6, 128)},
			Attach: attach,
			Token:  testToken,
			Guarded: Guarded{
				IPv4: []netip.Addr{netip.MustParseAddr("192.0.0.1")},
				IPv6: []netip.Prefix{netip.PrefixFrom(clat6, 128)},
			},
		})
		if err != nil {
			return fmt.Errorf("%+v", err)
		}
		return nil
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// roundTrip sends an echo request from the CLAT to the PLAT and waits for the
// kernel over there to answer it: both directions, and neighbour discovery in
// both directions.
func (l *lab) roundTrip(t *testing.T, seq uint16) {
	t.Helper()
	l.tun.write(t, vnetHeader{}, echo(clat6, plat6, typeEchoRequest, seq, 16))
	want := echo(plat6, clat6, typeEchoReply, seq, 16)
	if _, ok := l.tun.next(t, patience, func(f frame) bool {
		// All but flow label and hop limit.
		return isICMPv6(f.data, typeEchoReply) && bytes.Equal(f.data[8:], want[8:])
	}); !ok {
		t.Fatalf("no echo reply reached the TUN")
	}
}

// attachments are the ways to attach that this kernel has.
func attachments() map[string]Attach {
	all := map[string]Attach{"clsact": Clsact}
	if haveTCX() {
		all["tcx"] = TCX
	}
	return all
}

func TestTraffic(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			before := l.laptop.sysctls(t)
			s := l.steer(t, attach)
			if !strings.HasPrefix(s.Attached(), name) {
				t.Errorf("attached by %q", s.Attached())
			}
			l.roundTrip(t, 1)

			for _, tt := range []struct {
				name string
				f    func(*testing.T, *lab, *Steering)
			}{
				{"PacketToUserSpace", testPacketToUserSpace},
				{"PacketFromUserSpace", testPacketFromUserSpace},
				{"NeighbourAdvertisement", testNeighbourAdvertisement},
				{"MLD", testMLD},
				{"OrdinaryAddress", testOrdinaryAddress},
				{"SuperPacketIn", testSuperPacketIn},
				{"SuperPacketOut", testSuperPacketOut},
				{"ForeignSource", testForeignSource},
				{"IPv4FromUserSpace", testIPv4FromUserSpace},
				{"IPv4Leak", testIPv4Leak},
				{"HeadersInPages", testHeadersInPages},
				{"PriorityTag", testPriorityTag},
				{"OtherVLAN", testOtherVLAN},
				{"ShortPackets", testShortPackets},
			} {
				t.Run(tt.name, func(t *testing.T) { tt.f(t, l, s) })
			}

			sameSysctls(t, "during", before, l.laptop.sysctls(t))
			if got := before["/proc/sys/net/ipv6/conf/all/forwarding"]; got != "0\n" {
				t.Errorf("the laptop forwards: %q", got)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			sameSysctls(t, "after", before, l.laptop.sysctls(t))
			l.nothingLeft(t)
		})
	}
}

func testPacketToUserSpace(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	// Through the router's own stack, so that it finds the laptop's MAC itself.
	l.router.do(t, func() error {
		c, err := net.Dial("udp6", net.JoinHostPort(clat6.String(), "9"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("to the CLAT"))
		return err
	})
	f, ok := l.tun.next(t, patience, func(f frame) bool { return bytes.HasSuffix(f.data, []byte("to the CLAT")) })
	if !ok {
		t.Fatal("nothing reached the TUN")
	}
	if !isIPv6(f.data) || destination(f.data) != clat6 || len(f.data) != 40+8+len("to the CLAT") {
		t.Errorf("not an IPv6 packet without link header: %x", f.data)
	}
	if got := counters(t, s).minus(before); got != (Counters{SteeredIn: 1, LeftToKernel: got.LeftToKernel}) {
		t.Errorf("counted %+v", got)
	}
	// The kernel has not seen it, or it would have answered: no such port.
	if f, ok := l.wire.next(t, brief, func(f frame) bool { return isICMPv6(f.ip(), 1) }); ok {
		t.Errorf("the kernel answered as well: %x", f.data)
	}
}

func testPacketFromUserSpace(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	packet := udp(clat6, plat6, 100)
	l.tun.write(t, vnetHeader{}, packet)
	f, ok := l.wire.next(t, patience, func(f frame) bool { return isIPv6(f.ip()) && source(f.ip()) == clat6 && f.ip()[6] == protoUDP })
	if !ok {
		t.Fatal("nothing reached the wire")
	}
	want := ethernet(l.routerMAC, l.laptopMAC, etherIPv6, packet)
	if !bytes.Equal(f.data, want) {
		t.Errorf("on the wire is\n%x, want\n%x", f.data, want)
	}
	// The router answers that it has no such port, unless it did so recently.
	if got := counters(t, s).minus(before); got != (Counters{SteeredOut: 1, SteeredIn: got.SteeredIn}) {
		t.Errorf("counted %+v", got)
	}
}

func testNeighbourAdvertisement(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	solicitation := func(dst netip.Addr) {
		body := append(make([]byte, 4), clat6.AsSlice()...)
		body = append(body, 1, 1) // source link-layer address
		body = append(body, l.routerMAC...)
		mac := l.laptopMAC
		if dst.IsMulticast() {
			mac = net.HardwareAddr{0x33, 0x33, 0xff, 0, 0xc1, 0xa7}
		}
		l.wire.write(t, vnetHeader{}, ethernet(mac, l.routerMAC, etherIPv6,
			ipv6(router6, dst, protoICMPv6, icmpv6(router6, dst, typeNS, body))))
	}
	for dst, want := range map[netip.Addr]byte{
		netip.MustParseAddr("ff02::1:ff00:c1a7"): 0x60, // solicited, override, not a router
		clat6:                                    0x40, // a probe that knows our MAC: nothing to override
	} {
		solicitation(dst)
		f, ok := l.wire.next(t, patience, func(f frame) bool { return isICMPv6(f.ip(), typeNA) })
		if !ok {
			t.Fatalf("no answer to a solicitation sent to %s", dst)
		}
		p := f.ip()
		if target := netip.AddrFrom16([16]byte(p[48:64])); source(p) != clat6 || target != clat6 {
			t.Errorf("to %s: advertisement from %s for %s, want both %s", dst, source(p), target, clat6)
		}
		if flags := p[44]; flags != want {
			t.Errorf("to %s: flags %#x, want %#x", dst, flags, want)
		}
	}
	if got := counters(t, s).minus(before); got != (Counters{LeftToKernel: 1}) {
		t.Errorf("counted %+v", got)
	}
}

func testMLD(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	group := netip.MustParseAddr("ff02::1:ff00:c1a7") // solicited-node group of the CLAT address
	body := make([]byte, 24)
	body[1] = 1 // answer within a millisecond
	for _, dst := range []netip.Addr{netip.MustParseAddr("ff02::1"), clat6} {
		query := ipv6(router6, dst, protoHopByHop, hopByHopAlert(icmpv6(router6, dst, typeMLDQuery, body)))
		query[7] = 1
		mac := l.laptopMAC
		if dst.IsMulticast() {
			mac = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		}
		l.wire.write(t, vnetHeader{}, ethernet(mac, l.routerMAC, etherIPv6, query))
		if _, ok := l.wire.next(t, patience, func(f frame) bool {
			p := f.ip()
			return isIPv6(p) && p[6] == protoHopByHop && p[48] == typeMLDv2Report && bytes.Contains(p, group.AsSlice())
		}); !ok {
			t.Errorf("no MLD report of %s after a query to %s", group, dst)
		}
	}
	if got := counters(t, s).minus(before); got != (Counters{LeftToKernel: 1}) {
		t.Errorf("counted %+v", got)
	}
}

func testOrdinaryAddress(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	l.wire.write(t, vnetHeader{}, ethernet(l.laptopMAC, l.routerMAC, etherIPv6, echo(router6, host6, typeEchoRequest, 7, 56)))
	if _, ok := l.wire.next(t, patience, func(f frame) bool {
		return isICMPv6(f.ip(), typeEchoReply) && source(f.ip()) == host6
	}); !ok {
		t.Error("the kernel does not answer for the host's ordinary address")
	}
	if got := counters(t, s).minus(before); got != (Counters{}) {
		t.Errorf("counted %+v", got)
	}
}

func testSuperPacketIn(t *testing.T, l *lab, _ *Steering) {
	packet := tcpSuper(plat6, clat6, 40000)
	l.wire.write(t, vnetHeader{flags: needsCsum, gsoType: gsoTCPv6, hdrLen: 14 + 60, gsoSize: 1440, csumStart: 14 + 40, csumOffset: 16},
		ethernet(l.laptopMAC, l.routerMAC, etherIPv6, packet))
	f, ok := l.tun.next(t, patience, func(f frame) bool { return isIPv6(f.data) && f.data[6] == protoTCP })
	if !ok {
		t.Fatal("nothing reached the TUN")
	}
	if !bytes.Equal(f.data, packet) {
		t.Errorf("%d bytes arrived, or others, of %d", len(f.data), len(packet))
	}
	want := vnetHeader{flags: needsCsum, gsoType: gsoTCPv6, hdrLen: 60, gsoSize: 1440, csumStart: 40, csumOffset: 16}
	if f.vnet != want {
		t.Errorf("virtio-net header %+v, want %+v", f.vnet, want)
	}
}

func testSuperPacketOut(t *testing.T, l *lab, _ *Steering) {
	packet := tcpSuper(clat6, plat6, 40000)
	l.tun.write(t, vnetHeader{flags: needsCsum, gsoType: gsoTCPv6, hdrLen: 60, gsoSize: 1440, csumStart: 40, csumOffset: 16}, packet)
	f, ok := l.wire.next(t, patience, func(f frame) bool { return isIPv6(f.ip()) && f.ip()[6] == protoTCP && source(f.ip()) == clat6 })
	if !ok {
		t.Fatal("nothing reached the wire")
	}
	if !bytes.Equal(f.ip(), packet) {
		t.Errorf("%d bytes arrived, or others, of %d", len(f.ip()), len(packet))
	}
	if f.vnet.gsoType != gsoTCPv6 || f.vnet.gsoSize != 1440 || f.vnet.flags != needsCsum || f.vnet.csumStart != 14+40 {
		t.Errorf("virtio-net header %+v", f.vnet)
	}
}

func testForeignSource(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	for _, src := range []netip.Addr{host6, plat6, netip.IPv6Unspecified()} {
		l.tun.write(t, vnetHeader{}, udp(src, plat6, 99))
	}
	// What follows proves that the wire was watched long enough.
	l.tun.write(t, vnetHeader{}, udp(clat6, plat6, 99))
	f, ok := l.wire.next(t, patience, func(f frame) bool { return isIPv6(f.ip()) && len(f.ip()) == 40+8+99 })
	if !ok || source(f.ip()) != clat6 {
		t.Errorf("on the wire: %x", f.data)
	}
	if got := counters(t, s).minus(before); got != (Counters{Dropped: dropped(ForeignSource, 3), SteeredOut: 1, SteeredIn: got.SteeredIn}) {
		t.Errorf("counted %+v", got)
	}
}

func testIPv4FromUserSpace(t *testing.T, l *lab, s *Steering) {
	l.laptop.addr(t, "clat0", "192.0.0.1/32")
	l.laptop.route(t, netlink.Route{LinkIndex: l.tun.index, Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 0), Mask: net.CIDRMask(24, 32)}})
	before := counters(t, s)
	var c net.PacketConn
	l.laptop.do(t, func() (err error) { c, err = net.ListenPacket("udp4", "192.0.0.1:2222"); return err })
	defer c.Close()
	if _, err := c.WriteTo([]byte("ping"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1111}); err != nil {
		t.Fatal(err)
	}
	f, ok := l.tun.next(t, patience, func(f frame) bool { return bytes.HasSuffix(f.data, []byte("ping")) })
	if !ok {
		t.Fatal("the program's packet did not reach the TUN")
	}
	// Back by turning it round: the sums stay right.
	p := f.data
	for i := range 4 {
		p[12+i], p[16+i] = p[16+i], p[12+i]
	}
	p[20], p[21], p[22], p[23] = p[22], p[23], p[20], p[21]
	l.tun.write(t, f.vnet, p)
	got := make(chan error, 1)
	go func() {
		b := make([]byte, 100)
		_, _, err := c.ReadFrom(b)
		got <- err
	}()
	eventually(t, "IPv4 from user space is delivered to the program", func() bool { return len(got) == 1 })
	if got := counters(t, s).minus(before); got != (Counters{}) {
		t.Errorf("counted %+v", got)
	}
}

func testIPv4Leak(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	l.laptop.addr(t, l.uplink, "198.51.100.2/24")
	l.router.addr(t, "rt0", "198.51.100.1/24")
	l.laptop.do(t, func() error {
		for _, src := range []string{"192.0.0.1", "198.51.100.2"} {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(src)}}
			c, err := d.Dial("udp4", "198.51.100.1:9")
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("from " + src)); err != nil {
				return err
			}
		}
		return nil
	})
	f, ok := l.wire.next(t, patience, func(f frame) bool {
		return len(f.ip()) > 20 && f.ip()[0]>>4 == 4 && bytes.Contains(f.data, []byte("from "))
	})
	if !ok || !bytes.HasSuffix(f.data, []byte("from 198.51.100.2")) {
		t.Errorf("on the wire: %q", f.data)
	}
	if got := counters(t, s).minus(before); got != (Counters{Dropped: dropped(UntranslatedIPv4, 1)}) {
		t.Errorf("counted %+v", got)
	}
}

// A header length of 8 makes the TUN put all but 8 bytes of a packet larger
// than a page into pages, so that the programs have to pull the IP header.
func testHeadersInPages(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	up, down := l.laptop.link(t, l.uplink), l.router.link(t, "rt0")
	for _, mtu := range []int{9000, 1500} {
		if err := l.laptop.nl.LinkSetMTU(up, mtu); err != nil {
			t.Fatal(err)
		}
		if err := l.router.nl.LinkSetMTU(down, mtu); err != nil {
			t.Fatal(err)
		}
		if mtu == 1500 {
			break
		}
		packet := udp(clat6, plat6, 8000)
		l.tun.write(t, vnetHeader{hdrLen: 8}, packet)
		f, ok := l.wire.next(t, patience, func(f frame) bool { return len(f.ip()) == len(packet) })
		if !ok || !bytes.Equal(f.ip(), packet) {
			t.Error("a packet with its header in pages did not leave")
		}
	}
	if got := counters(t, s).minus(before); got.Dropped[ForeignSource] != 0 || got.SteeredOut != 1 {
		t.Errorf("counted %+v", got)
	}
}

func tagged(l *lab, id byte, packet []byte) []byte {
	return ethernet(l.laptopMAC, l.routerMAC, 0x8100, append([]byte{0xe0, id, 0x86, 0xdd}, packet...))
}

func testPriorityTag(t *testing.T, l *lab, _ *Steering) {
	packet := udp(plat6, clat6, 33)
	l.wire.write(t, vnetHeader{}, tagged(l, 0, packet))
	f, ok := l.tun.next(t, patience, func(f frame) bool { return bytes.Contains(f.data, packet[8:]) })
	if !ok || !bytes.Equal(f.data, packet) {
		t.Errorf("user space gets %x, want %x", f.data, packet)
	}
}

func testOtherVLAN(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	l.wire.write(t, vnetHeader{}, tagged(l, 5, udp(plat6, clat6, 34)))
	if f, ok := l.tun.next(t, brief, func(f frame) bool { return len(f.data) >= 40+8+34 }); ok {
		t.Errorf("user space gets a packet of another VLAN: %x", f.data)
	}
	if got := counters(t, s).minus(before); got != (Counters{}) {
		t.Errorf("counted %+v", got)
	}
}

func testShortPackets(t *testing.T, l *lab, s *Steering) {
	before := counters(t, s)
	whole := udp(plat6, clat6, 0)[:40]
	for n := range 40 {
		l.wire.write(t, vnetHeader{}, ethernet(l.laptopMAC, l.routerMAC, etherIPv6, whole[:n]))
	}
	l.wire.write(t, vnetHeader{}, ethernet(l.laptopMAC, l.routerMAC, etherIPv6, whole))
	if f, ok := l.tun.next(t, patience, func(frame) bool { return true }); !ok || len(f.data) != 40 {
		t.Errorf("user space gets %x", f.data)
	}
	if got := counters(t, s).minus(before); got != (Counters{SteeredIn: 1}) {
		t.Errorf("counted %+v", got)
	}

	before = counters(t, s)
	whole = udp(clat6, plat6, 0)[:40]
	for n := 1; n < 40; n++ { // with no byte at all the TUN itself refuses
		l.tun.write(t, vnetHeader{}, whole[:n])
	}
	if got := counters(t, s).minus(before); got != (Counters{Dropped: dropped(ForeignSource, 39)}) {
		t.Errorf("counted %+v", got)
	}
}
