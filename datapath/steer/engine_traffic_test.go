package steer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/soak"
	"tnat64d/siit"
)

// The kernel engine with real sockets: programs on the laptop speak IPv4 to
// 192.0.2.1, and the router owns that address behind PREF64. User space is the
// test, and gets what the kernel engine declines.

var (
	clat4 = netip.MustParseAddr("192.0.0.1")
	plat4 = netip.MustParseAddr("192.0.2.1") // behind the well-known prefix it is plat6
)

// neutralConfig is plainConfig with an address that leaves checksums as they are.
var neutralConfig = siit.Config{Mapping: siit.Mapping{
	PREF64: siit.WellKnownPrefix(),
	CLAT:   neutralPair(siit.WellKnownPrefix(), "2001:db8:1::464:0"),
}}

// engine puts the kernel engine to work.
func (l *lab) engine(t *testing.T, attach Attach, cfg siit.Config) *Steering {
	t.Helper()
	var s *Steering
	l.laptop.do(t, func() (err error) {
		s, err = New(Config{
			Uplink:       l.laptop.index(t, l.uplink),
			TUN:          l.tun.index,
			Ours:         cfg.Mapping.Ours(),
			Attach:       attach,
			KernelEngine: true,
		})
		return err
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := s.KernelEngine(); err != nil {
		t.Fatalf("%+v", err)
	}
	if err := s.SetTranslation(translationOf(cfg)); err != nil {
		t.Fatal(err)
	}
	return s
}

// ipv4 gives the laptop what programs need, as the daemon does.
func (l *lab) ipv4(t *testing.T, cfg siit.Config, mtu int) {
	t.Helper()
	l.ipv4On(t, "clat0", cfg, mtu)
}

func (l *lab) ipv4On(t *testing.T, tun string, cfg siit.Config, mtu int) {
	t.Helper()
	l.laptop.addr(t, tun, clat4.String()+"/32")
	l.laptop.route(t, netlink.Route{
		LinkIndex: l.tun.index,
		Dst:       &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
		MTU:       mtu,
	})
	if a := cfg.Mapping.CLAT.IPv6; a != clat6 && l.uplink != "" {
		l.laptop.clatAddr(t, l.uplink, a, unix.IFA_F_NODAD)
	}
}

func engineCounters(t *testing.T, s *Steering) EngineCounters {
	t.Helper()
	c, err := s.EngineCounters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEngineTraffic(t *testing.T) {
	for name, attach := range attachments() {
		for kind, cfg := range map[string]siit.Config{"plain": plainConfig, "neutral": neutralConfig} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				l := newLab(t)
				l.ipv4(t, cfg, 1480)
				before := l.laptop.sysctls(t)
				s := l.engine(t, attach, cfg)
				if !strings.HasPrefix(s.Attached(), name) {
					t.Errorf("attached by %q", s.Attached())
				}
				for _, offload := range []bool{true, false} {
					if !offload {
						// Complete checksums in both directions, and thereby no
						// super-packets from the senders.
						l.laptop.checksumOffload(t, "clat0", false)
						l.router.checksumOffload(t, "rt0", false)
					}
					sums := map[bool]string{true: "partial", false: "complete"}[offload]
					t.Run(sums+"/TCP", func(t *testing.T) { testEngineTCP(t, l, s, offload) })
					t.Run(sums+"/UDP", func(t *testing.T) { testEngineUDP(t, l, s, 1452) })
					if offload {
						t.Run(sums+"/UDPSegments", func(t *testing.T) { testEngineUDPSegments(t, l, s, cfg.Mapping.CLAT.IPv6) })
					}
					t.Run(sums+"/Echo", func(t *testing.T) { testEngineEcho(t, l, s) })
				}
				t.Run("Declined4", func(t *testing.T) { testDeclined4(t, l, s) })
				t.Run("Declined6", func(t *testing.T) { testDeclined6(t, l, s, cfg) })
				if kind == "plain" { // the address of the other tests
					l.wire = l.router.wire(t, "rt0") // the old one is full
					t.Run("NeighbourAdvertisement", func(t *testing.T) { testNeighbourAdvertisement(t, l, s) })
					t.Run("MLD", func(t *testing.T) { testMLD(t, l, s) })
					t.Run("OrdinaryAddress", func(t *testing.T) { testOrdinaryAddress(t, l, s) })
				}
				t.Run("Off", func(t *testing.T) { testEngineOff(t, l, s, cfg) })
				if c := counters(t, s); c.Dropped != [NumDrops]uint64{} {
					t.Errorf("dropped: %+v", c)
				}
				sameSysctls(t, "during", before, l.laptop.sysctls(t))
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				l.nothingLeft(t)
			})
		}
	}
}

// checksumOffload switches the computing of transport checksums by a device,
// which for virtual ones means that nobody does.
func (h *host) checksumOffload(t *testing.T, name string, on bool) {
	t.Helper()
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_STXCSUM, flag(on)}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], name)
	req.data = unsafe.Pointer(&value)
	h.do(t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		runtime.KeepAlive(&value)
		if errno != 0 {
			return fmt.Errorf("%s: checksum offload: %w", name, errno)
		}
		return nil
	})
}

// nothingForUserSpace fails if a packet that the kernel engine should have
// translated waits on the TUN.
func (l *lab) nothingForUserSpace(t *testing.T) {
	t.Helper()
	if f, ok := l.tun.next(t, time.Millisecond, func(f frame) bool { return true }); ok {
		t.Errorf("user space got a simple packet: %x", f.data[:min(len(f.data), 100)])
	}
}

const megabytes = 4

func testEngineTCP(t *testing.T, l *lab, s *Steering, super bool) {
	before := engineCounters(t, s)
	var ln net.Listener
	l.router.do(t, func() (err error) { ln, err = net.Listen("tcp6", netip.AddrPortFrom(plat6, 0).String()); return err })
	defer ln.Close()
	data := make([]byte, megabytes<<20)
	random := rand.New(rand.NewPCG(1, soak.Seed(t)))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	served := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(60 * time.Second))
		got := make([]byte, len(data))
		if _, err := io.ReadFull(c, got); err != nil {
			served <- err
			return
		}
		if sha256.Sum256(got) != sha256.Sum256(data) {
			served <- errors.New("other bytes arrived")
			return
		}
		_, err = c.Write(got)
		served <- err
	}()

	// What crosses the wire upwards, and what arrives on the TUN downwards, where
	// it is seen before it is translated.
	up, down := l.router.wire(t, "rt0"), l.laptop.wire(t, "clat0")
	var c net.Conn
	l.laptop.do(t, func() (err error) {
		port := uint16(ln.Addr().(*net.TCPAddr).Port)
		c, err = net.DialTimeout("tcp4", netip.AddrPortFrom(plat4, port).String(), 60*time.Second)
		return err
	})
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("other bytes came back")
	}

	// 1460 of data, less 12 of the timestamp option, less 20 for IPv6.
	const mss = 1428
	if super {
		f, ok := up.next(t, patience, func(f frame) bool { return f.vnet.gsoType == gsoTCPv6 && len(f.data) > 10000 })
		if !ok || f.vnet.gsoSize != mss || f.vnet.flags&needsCsum == 0 {
			t.Errorf("no super-packet on the wire, or another: %+v", f.vnet)
		}
		f, ok = down.next(t, patience, func(f frame) bool { return f.vnet.gsoType == gsoTCPv6 && len(f.data) > 10000 })
		if !ok || f.vnet.gsoSize != mss || f.data[0]>>4 != 6 {
			t.Errorf("no super-packet towards the program, or another: %+v", f.vnet)
		}
	}
	now := engineCounters(t, s)
	sent, received := now.To6.TCP.Bytes-before.To6.TCP.Bytes, now.To4.TCP.Bytes-before.To4.TCP.Bytes
	if sent < uint64(len(data)) || received < uint64(len(data)) {
		t.Errorf("the kernel engine has seen %d and %d bytes of %d", sent, received, len(data))
	}
	l.nothingForUserSpace(t)
}

// echoServer answers datagrams on the router until the test ends.
func (l *lab) echoServer(t *testing.T) (port int) {
	t.Helper()
	var pc net.PacketConn
	l.router.do(t, func() (err error) {
		pc, err = net.ListenPacket("udp6", netip.AddrPortFrom(plat6, 0).String())
		return err
	})
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
	return pc.LocalAddr().(*net.UDPAddr).Port
}

func (l *lab) dialUDP(t *testing.T, port int) *net.UDPConn {
	t.Helper()
	var c net.Conn
	l.laptop.do(t, func() (err error) {
		c, err = net.Dial("udp4", netip.AddrPortFrom(plat4, uint16(port)).String())
		return err
	})
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return c.(*net.UDPConn)
}

func testEngineUDP(t *testing.T, l *lab, s *Steering, largest int) {
	before := engineCounters(t, s)
	c := l.dialUDP(t, l.echoServer(t))
	b := make([]byte, 2000)
	n := 0
	for size := 0; size <= largest; size += 13 {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		k, err := c.Read(b)
		if err != nil || !bytes.Equal(b[:k], sent) {
			t.Fatalf("%d bytes: %d came back, error %v", size, k, err)
		}
		n++
	}
	now := engineCounters(t, s)
	if up, down := now.To6.UDP.Packets-before.To6.UDP.Packets, now.To4.UDP.Packets-before.To4.UDP.Packets; up != uint64(n) || down != uint64(n) {
		t.Errorf("the kernel engine has seen %d and %d datagrams of %d", up, down, n)
	}
	l.nothingForUserSpace(t)
}

// Datagrams that a program hands to the kernel in one piece (UDP_SEGMENT).
func testEngineUDPSegments(t *testing.T, l *lab, s *Steering, clat6 netip.Addr) {
	const size, count = 1000, 30
	data := make([]byte, size*count-7)
	for i := range data {
		data[i] = byte(i / size)
	}
	segments := func(c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
		return err
	}
	check := func(from net.Conn, to net.PacketConn) {
		t.Helper()
		if _, err := from.Write(data); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<16)
		to.SetReadDeadline(time.Now().Add(patience))
		for i := range count {
			k, _, err := to.ReadFrom(b)
			want := data[i*size : min(len(data), (i+1)*size)]
			if err != nil || !bytes.Equal(b[:k], want) {
				t.Fatalf("datagram %d: %d bytes of %d, or others, error %v", i, k, len(want), err)
			}
		}
	}

	var far net.PacketConn
	l.router.do(t, func() (err error) {
		far, err = net.ListenPacket("udp6", netip.AddrPortFrom(plat6, 0).String())
		return err
	})
	defer far.Close()
	near := l.dialUDP(t, far.LocalAddr().(*net.UDPAddr).Port)
	raw, err := near.SyscallConn()
	if err == nil {
		err = segments(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := engineCounters(t, s)
	check(near, far)

	// And back, to the socket that the datagrams came from.
	far.Close()
	var back net.Conn
	l.router.do(t, func() (err error) {
		d := net.Dialer{LocalAddr: far.LocalAddr()}
		port := uint16(near.LocalAddr().(*net.UDPAddr).Port)
		back, err = d.Dial("udp6", netip.AddrPortFrom(clat6, port).String())
		return err
	})
	defer back.Close()
	if raw, err = back.(*net.UDPConn).SyscallConn(); err == nil {
		err = segments(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	check(back, near)
	now := engineCounters(t, s)
	if a, b := now.To6.UDP.Packets-before.To6.UDP.Packets, now.To4.UDP.Packets-before.To4.UDP.Packets; a != 1 || b != 1 {
		t.Errorf("the kernel engine has seen %d and %d packets, want one super-packet each", a, b)
	}
	l.nothingForUserSpace(t)
}

func testEngineEcho(t *testing.T, l *lab, s *Steering) {
	before := engineCounters(t, s)
	var c net.PacketConn
	l.laptop.do(t, func() (err error) { c, err = net.ListenPacket("ip4:icmp", clat4.String()); return err })
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	b := make([]byte, 2000)
	sizes := []int{0, 1, 7, 55, 56, 57, 120, 121, 448, 503, 504}
	for seq, size := range sizes {
		m := append([]byte{8, 0, 0, 0, 0x12, 0x34, 0, byte(seq)}, bytes.Repeat([]byte{0xa5}, size)...)
		binary.BigEndian.PutUint16(m[2:], ^foldWords(append(m[:len(m):len(m)], make([]byte, size%2)...)))
		if _, err := c.WriteTo(m, &net.IPAddr{IP: plat4.AsSlice()}); err != nil {
			t.Fatal(err)
		}
		n, from, err := c.ReadFrom(b)
		if err != nil || n != len(m) || b[0] != 0 || !bytes.Equal(b[4:n], m[4:]) || from.String() != plat4.String() {
			t.Fatalf("%d bytes: %x from %v, %v", size, b[:n], from, err)
		}
	}
	now := engineCounters(t, s)
	want := uint64(len(sizes))
	if up, down := now.To6.Echo.Packets-before.To6.Echo.Packets, now.To4.Echo.Packets-before.To4.Echo.Packets; up != want || down != want {
		t.Errorf("the kernel engine has seen %d and %d messages of %d", up, down, want)
	}
	l.nothingForUserSpace(t)
}

// rawIPv4 is a packet from the CLAT address to the PLAT.
func rawIPv4(proto, ttl byte, frag uint16, options, payload []byte) []byte {
	n := 20 + len(options)
	p := make([]byte, n, n+len(payload))
	p[0] = 0x40 | byte(n/4)
	binary.BigEndian.PutUint16(p[2:], uint16(n+len(payload)))
	binary.BigEndian.PutUint16(p[4:], 0x4711)
	binary.BigEndian.PutUint16(p[6:], frag)
	p[8], p[9] = ttl, proto
	copy(p[12:], clat4.AsSlice())
	copy(p[16:], plat4.AsSlice())
	copy(p[20:], options)
	binary.BigEndian.PutUint16(p[10:], ^foldWords(p[:n]))
	return append(p, payload...)
}

func testDeclined4(t *testing.T, l *lab, s *Steering) {
	datagram := func(size int, check bool) []byte {
		d := make([]byte, 8+size)
		d[1], d[3] = 7, 9
		binary.BigEndian.PutUint16(d[4:], uint16(len(d)))
		if check {
			pseudo := append(append(clat4.AsSlice(), plat4.AsSlice()...), 0, protoUDP, d[4], d[5])
			binary.BigEndian.PutUint16(d[6:], ^foldWords(append(pseudo, d...)))
		}
		return d
	}
	out := l.laptop.wire(t, "clat0")
	for _, tt := range []struct {
		name   string
		packet []byte
		why    Declined
	}{
		{"UDP without checksum", rawIPv4(protoUDP, 64, 0, nil, datagram(10, false)), DeclinedChecksum},
		{"TTL 1", rawIPv4(protoUDP, 1, 0, nil, datagram(10, true)), DeclinedTTL},
		{"options", rawIPv4(protoUDP, 64, 0, []byte{148, 4, 0, 0}, datagram(10, true)), DeclinedHeader},
		{"first fragment", rawIPv4(protoUDP, 64, 0x2000, nil, datagram(8, true)), DeclinedHeader},
		{"other fragment", rawIPv4(protoUDP, 64, 0x0010, nil, datagram(8, true)), DeclinedHeader},
		{"must be fragmented", rawIPv4(protoUDP, 64, 0, nil, datagram(1234, true)), DeclinedSize},
		{"does not fit", rawIPv4(protoUDP, 64, 0x4000, nil, datagram(1472, true)), DeclinedSize},
		{"ESP", rawIPv4(50, 64, 0, nil, make([]byte, 20)), DeclinedProtocol},
		{"ICMP error", rawIPv4(1, 64, 0, nil, append([]byte{3, 1, 0xfc, 0xfe}, make([]byte, 28)...)), DeclinedICMP},
		{"echo with a wrong checksum", rawIPv4(1, 64, 0, nil, []byte{8, 0, 1, 1, 0, 0, 0, 0}), DeclinedChecksum},
		{"UDP that lies", rawIPv4(protoUDP, 64, 0, nil, []byte{0, 7, 0, 9, 0, 12, 0x12, 0x34}), DeclinedMalformed},
	} {
		before := engineCounters(t, s)
		out.write(t, vnetHeader{}, tt.packet)
		f, ok := l.tun.next(t, patience, func(f frame) bool { return true })
		if !ok || !bytes.Equal(f.data, tt.packet) {
			t.Errorf("%s: user space got\n%x, want\n%x", tt.name, f.data, tt.packet)
		}
		if n := engineCounters(t, s).To6.Declined[tt.why] - before.To6.Declined[tt.why]; n != 1 {
			t.Errorf("%s: counted %d times as %v: %+v", tt.name, n, tt.why, engineCounters(t, s))
		}
	}
}

func testDeclined6(t *testing.T, l *lab, s *Steering, cfg siit.Config) {
	clat6 := cfg.Mapping.CLAT.IPv6
	with := func(p []byte, change func([]byte)) []byte { change(p); return p }
	private := embedWKP(netip.MustParseAddr("127.0.0.1"))
	for _, tt := range []struct {
		name   string
		packet []byte
		why    Declined
	}{
		{"hop limit 1", with(udp(plat6, clat6, 10), func(p []byte) { p[7] = 1 }), DeclinedTTL},
		{"UDP without checksum", with(udp(plat6, clat6, 10), func(p []byte) { p[46], p[47] = 0, 0 }), DeclinedChecksum},
		{"extension header", ipv6(plat6, clat6, protoDstOpts, extension(protoUDP, udp(plat6, clat6, 10)[40:])), DeclinedHeader},
		{"fragment", ipv6(plat6, clat6, protoFragment, append([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 1}, make([]byte, 16)...)), DeclinedHeader},
		{"source outside PREF64", udp(router6, clat6, 10), DeclinedAddress},
		{"source that cannot be", udp(private, clat6, 10), DeclinedAddress},
		{"ICMPv6 error", ipv6(plat6, clat6, protoICMPv6, icmpv6(plat6, clat6, 1, make([]byte, 48))), DeclinedICMP},
		{"echo with a wrong checksum", with(echo(plat6, clat6, typeEchoRequest, 1, 8), func(p []byte) { p[42]++ }), DeclinedChecksum},
		{"large echo", echo(plat6, clat6, typeEchoRequest, 1, 800), DeclinedICMP},
		{"SCTP", ipv6(plat6, clat6, 132, make([]byte, 12)), DeclinedProtocol},
		{"padding", append(udp(plat6, clat6, 10), 0, 0), DeclinedMalformed},
		{"cut short", udp(plat6, clat6, 10)[:55], DeclinedMalformed},
	} {
		before := engineCounters(t, s)
		l.wire.write(t, vnetHeader{}, ethernet(l.laptopMAC, l.routerMAC, etherIPv6, tt.packet))
		f, ok := l.tun.next(t, patience, func(f frame) bool { return true })
		if !ok || !bytes.Equal(f.data, tt.packet) {
			t.Errorf("%s: user space got\n%x, want\n%x", tt.name, f.data, tt.packet)
		}
		if n := engineCounters(t, s).To4.Declined[tt.why] - before.To4.Declined[tt.why]; n != 1 {
			t.Errorf("%s: counted %d times as %v", tt.name, n, tt.why)
		}
	}
}

func embedWKP(a netip.Addr) netip.Addr {
	b, v4 := siit.WellKnownPrefix().Addr().As16(), a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// Switched off, everything goes to user space; on again, nothing.
func testEngineOff(t *testing.T, l *lab, s *Steering, cfg siit.Config) {
	c := l.dialUDP(t, l.echoServer(t))
	for range 2 { // the second time there is nothing to do
		if err := s.SetTranslation(nil); err != nil {
			t.Fatal(err)
		}
	}
	before := engineCounters(t, s)
	if _, err := c.Write([]byte("off")); err != nil {
		t.Fatal(err)
	}
	if f, ok := l.tun.next(t, patience, func(f frame) bool { return bytes.HasSuffix(f.data, []byte("off")) }); !ok || f.data[0] != 0x45 {
		t.Errorf("user space got %x", f.data)
	}
	back := udp(plat6, cfg.Mapping.CLAT.IPv6, 10)
	l.wire.write(t, vnetHeader{}, ethernet(l.laptopMAC, l.routerMAC, etherIPv6, back))
	if f, ok := l.tun.next(t, patience, func(f frame) bool { return true }); !ok || !bytes.Equal(f.data, back) {
		t.Errorf("user space got %x", f.data)
	}
	if now := engineCounters(t, s); now != before {
		t.Errorf("counted %+v, before %+v", now, before)
	}
	if err := s.SetTranslation(translationOf(cfg)); err != nil {
		t.Fatal(err)
	}
	queueMemory(t, s).finish()
	testEngineUDP(t, l, s, 1452)
}

// Every packet is translated by one configuration or the other, and none is
// lost while they change.
func TestEngineReload(t *testing.T) {
	l := newLab(t)
	other := siit.Config{Mapping: siit.Mapping{
		PREF64: netip.MustParsePrefix("2001:db8:64:1::/64"),
		CLAT:   siit.Pair{IPv4: clat4, IPv6: netip.MustParseAddr("2001:db8:1::2")},
	}}
	otherPLAT := netip.MustParseAddr("2001:db8:64:1:c0:2:100::")
	l.ipv4(t, other, 1480)
	l.router.addr(t, "lo", otherPLAT.String()+"/128")
	s := l.engine(t, Auto, plainConfig)
	if err := s.SetOurs(append(plainConfig.Mapping.Ours(), other.Mapping.Ours()...)); err != nil {
		t.Fatal(err)
	}
	c := l.dialUDP(t, 9)

	c.SetDeadline(time.Now().Add(time.Minute)) // an emulated machine is slow
	const packets = 20000
	var reloads atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			cfg := []siit.Config{other, plainConfig}[reloads.Load()%2]
			if err := s.SetTranslation(translationOf(cfg)); err != nil {
				t.Error(err)
			}
			reloads.Add(1)
		}
	}()
	up := l.router.wire(t, "rt0")
	if err := unix.SetsockoptInt(up.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}
	const fewest = 10
	end := time.Now().Add(60 * time.Second)
	payload := make([]byte, 64)
	for i := range packets {
		// However slow the reloads are on a machine under load.
		for reloads.Load() < int64(i*fewest/packets) && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
		binary.BigEndian.PutUint32(payload, uint32(i))
		for {
			_, err := c.Write(payload)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ECONNREFUSED) { // by an answer to an earlier one
				t.Fatal(err)
			}
		}
	}
	close(stop)
	<-stopped
	if n := reloads.Load(); n < fewest-1 {
		t.Errorf("only %d reloads: the test tests nothing", n)
	}

	seen := make(map[uint32]bool)
	by := make(map[netip.Addr]int)
	for len(seen) < packets {
		f, ok := up.next(t, patience, func(f frame) bool { p := f.ip(); return isIPv6(p) && p[6] == protoUDP && len(p) == 40+8+64 })
		if !ok {
			break
		}
		src, dst := source(f.ip()), destination(f.ip())
		if !(src == clat6 && dst == plat6 || src == other.Mapping.CLAT.IPv6 && dst == otherPLAT) {
			t.Fatalf("translated with half of each: %s to %s", src, dst)
		}
		if transportSum(src, dst, protoUDP, 72, f.ip()[40:]) != 0xffff && f.vnet.flags&needsCsum == 0 {
			t.Fatalf("wrong checksum: %x", f.ip())
		}
		by[src]++
		seen[binary.BigEndian.Uint32(f.ip()[48:])] = true
	}
	if len(seen) != packets || len(by) != 2 {
		t.Errorf("%d of %d packets arrived: %v", len(seen), packets, by)
	}
}

// Mobile broadband, and packets whose headers are not in the linear part.
func TestEngineWithoutLinkHeader(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			needsRoot(t)
			l := &lab{laptop: newHost(t), uplink: "wwan0"}
			network := l.laptop.tun(t, "wwan0")
			l.tun = l.laptop.tun(t, "clat0")
			for _, name := range []string{"wwan0", "clat0"} {
				if err := l.laptop.nl.LinkSetMTU(l.laptop.link(t, name), 9000); err != nil {
					t.Fatal(err)
				}
			}
			l.laptop.addr(t, "wwan0", host6.String()+"/64")
			l.laptop.clatAddr(t, "wwan0", clat6, unix.IFA_F_NODAD)
			l.ipv4(t, plainConfig, 8980)
			cfg := plainConfig
			cfg.MTU6 = 9000
			s := l.engine(t, attach, cfg)

			c := l.dialUDP(t, 1111)
			if _, err := c.Write([]byte("up")); err != nil {
				t.Fatal(err)
			}
			f, ok := network.next(t, patience, func(f frame) bool { return isIPv6(f.data) && bytes.HasSuffix(f.data, []byte("up")) })
			if !ok || source(f.data) != clat6 || destination(f.data) != plat6 || f.data[7] != 63 {
				t.Fatalf("on the link is %x", f.data)
			}
			answer := udp(plat6, clat6, 8000)
			copy(answer[42:], f.data[40:42]) // to the socket's port
			answer[46], answer[47] = 0, 0
			binary.BigEndian.PutUint16(answer[46:], ^transportSum(plat6, clat6, protoUDP, 8008, answer[40:]))
			b := make([]byte, 9000)
			for _, hdrLen := range []uint16{0, 8, 40, 45} { // how much is linear
				network.write(t, vnetHeader{hdrLen: hdrLen}, answer)
				c.SetReadDeadline(time.Now().Add(patience))
				if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], answer[48:]) {
					t.Fatalf("%d linear bytes: the program got %d bytes, %v", hdrLen, n, err)
				}
			}
			if got := engineCounters(t, s); got.To4.UDP.Packets != 4 || got.To6.UDP.Packets != 1 {
				t.Errorf("counted %+v", got)
			}
			l.nothingForUserSpace(t)
		})
	}
}

func TestEngineVLAN(t *testing.T) {
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
			l.ipv4(t, plainConfig, 1480)
			s := l.engine(t, attach, plainConfig)
			testEngineUDP(t, l, s, 1452)
			testEngineEcho(t, l, s)
		})
	}
}

// A kernel engine that was not asked for, or is told nonsense.
func TestSetTranslationErrors(t *testing.T) {
	s := loaded(t, true)
	s.refused = errNotAskedFor
	if err := s.SetTranslation(translationOf(plainConfig)); err == nil || errors.Is(err, os.ErrPermission) {
		t.Errorf("an engine that is not there: %v", err)
	}
	b := newEngineBench(t, true)
	b.use(t, plainConfig)
	for name, change := range map[string]func(*Translation){
		"no IPv4 address":        func(t *Translation) { t.IPv4 = netip.Addr{} },
		"no IPv6 address":        func(t *Translation) { t.IPv6 = clat4 },
		"multicast":              func(t *Translation) { t.IPv6 = netip.MustParseAddr("ff02::1") },
		"no PREF64":              func(t *Translation) { t.PREF64 = netip.Prefix{} },
		"a length of no PREF64":  func(t *Translation) { t.PREF64 = netip.MustParsePrefix("64:ff9b::/95") },
		"CLAT address in PREF64": func(t *Translation) { t.IPv6 = plat6 },
		"no MTU":                 func(t *Translation) { t.MTU4 = 0 },
	} {
		tr := *translationOf(plainConfig)
		change(&tr)
		if err := b.s.SetTranslation(&tr); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A refused change has no effect.
	if out := b.kernel(t, rawIPv4(protoTCP, 64, 0x4000, nil, make([]byte, 20)), gso{}); out == nil {
		t.Error("the kernel engine is off")
	}
}

// A tunnel that checks the sum of its own packets knows the sum of what is
// inside: such packets carry it along, and it has to follow their translation.
func TestEngineCompleteSum(t *testing.T) {
	needsRoot(t)
	for kind, cfg := range map[string]siit.Config{"plain": plainConfig, "neutral": neutralConfig} {
		t.Run(kind, func(t *testing.T) {
			l := &lab{laptop: newHost(t), router: newHost(t)}
			connect(t, l.laptop, "up0", l.router, "rt0")
			ends := []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}
			for i, h := range []*host{l.laptop, l.router} {
				name := []string{"up0", "rt0"}[i]
				h.addr(t, name, ends[i].String()+"/64")
				// No offload, so that somebody has to compute the sum at all.
				h.checksumOffload(t, name, false)
				err := h.nl.LinkAdd(&netlink.Vxlan{
					LinkAttrs: netlink.LinkAttrs{Name: name + "x"},
					VxlanId:   1, Port: 4789, SrcAddr: ends[i].AsSlice(), Group: ends[1-i].AsSlice(),
					VtepDevIndex: h.index(t, name), UDPCSum: true,
				})
				if errors.Is(err, unix.EOPNOTSUPP) {
					t.Skip("this kernel has no VXLAN")
				}
				if err != nil {
					t.Fatal(err)
				}
				h.up(t, name+"x")
			}
			l.addresses(t, "up0x", "rt0x")
			l.ipv4(t, cfg, 1380)
			s := l.engine(t, Auto, cfg)
			testEngineUDP(t, l, s, 1352)
		})
	}
}
