package steer

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

const testToken = Token(0x0123456789abcdef)

// skBuffCB is a struct __sk_buff with cb.
type skBuffCB struct {
	_  [48]byte
	CB [5]uint32
	_  [124]byte
}

// runWith is run with the packet's cb set.
func runWith(t *testing.T, p *ebpf.Program, frame []byte, cb [5]uint32) (verdict uint32, out [5]uint32) {
	t.Helper()
	after := skBuffCB{}
	verdict, err := p.Run(&ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: skBuffCB{CB: cb}, ContextOut: &after})
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return verdict, after.CB
}

// What leaves is dropped if it is from a guarded address and does not have the
// token, and not if it is the kernel's neighbour discovery or MLD.
func TestUplinkEgress(t *testing.T) {
	far := netip.MustParseAddr("192.0.2.1")
	from4 := func(a string) []byte { return ipv4(netip.MustParseAddr(a), far) }
	fragment := func(next byte, message []byte) []byte {
		return ipv6(clat6, plat6, protoFragment, append([]byte{next, 0, 0, 1, 0, 0, 0, 1}, message...))
	}
	message := func(typ byte) []byte { return icmpv6(clat6, plat6, typ, make([]byte, 20)) }
	dressedUp := udp(clat6, plat6, 8)
	dressedUp[0] = 0x45
	tests := []struct {
		name      string
		ethertype uint16
		packet    []byte
		why       Drop // NumDrops: it passes
	}{
		{"the CLAT's IPv4", etherIPv4, from4("192.0.0.1"), UntranslatedIPv4},
		{"a configured IPv4", etherIPv4, from4("10.9.9.9"), UntranslatedIPv4},
		{"another of 192.0.0.0/29", etherIPv4, from4("192.0.0.5"), NumDrops},
		{"native IPv4", etherIPv4, from4("198.51.100.1"), NumDrops},
		{"to the CLAT's IPv4", etherIPv4, ipv4(far, netip.MustParseAddr("192.0.0.1")), NumDrops},

		{"UDP", etherIPv6, udp(clat6, plat6, 8), BoundSource},
		{"UDP on the link", etherIPv6, udp(clat6, router6, 8), BoundSource},
		{"TCP", etherIPv6, tcpSuper(clat6, plat6, 8), BoundSource},
		{"header only", etherIPv6, ipv6(clat6, plat6, 59, nil), BoundSource},
		{"a fragment", etherIPv6, fragment(protoUDP, make([]byte, 16)), BoundSource},
		{"a fragment of a solicitation", etherIPv6, fragment(protoICMPv6, message(typeNS)), BoundSource},
		{"echo request", etherIPv6, ipv6(clat6, plat6, protoICMPv6, message(128)), BoundSource},
		{"echo reply", etherIPv6, ipv6(clat6, plat6, protoICMPv6, message(129)), BoundSource},
		{"port unreachable", etherIPv6, ipv6(clat6, plat6, protoICMPv6, message(1)), BoundSource},
		{"node information", etherIPv6, ipv6(clat6, plat6, protoICMPv6, message(139)), BoundSource},
		{"from the EAM prefix", etherIPv6, udp(eam6.Addr().Next(), plat6, 8), BoundSource},
		{"UDP behind hop-by-hop", etherIPv6, ipv6(clat6, plat6, protoHopByHop, extension(protoUDP, make([]byte, 16))), BoundSource},

		{"solicitation", etherIPv6, ipv6(clat6, plat6, protoICMPv6, message(typeNS)), NumDrops},
		{"advertisement", etherIPv6, ipv6(clat6, plat6, protoICMPv6, message(136)), NumDrops},
		{"MLD report", etherIPv6, ipv6(clat6, plat6, protoHopByHop, hopByHopAlert(message(143))), NumDrops},
		{"the host's own", etherIPv6, udp(host6, plat6, 8), NumDrops},
		{"to the CLAT", etherIPv6, udp(plat6, clat6, 8), NumDrops},
		{"beside the EAM prefix", etherIPv6, udp(netip.MustParseAddr("2001:db8:cccc::20"), plat6, 8), NumDrops},
		{"no IPv6", etherIPv6, dressedUp, NumDrops},
		{"ARP", etherARP, make([]byte, 28), NumDrops},
	}
	lo, hi := uint32(testToken&0xffffffff), uint32(testToken>>32)
	for _, linkHeader := range []bool{true, false} {
		s := loaded(t, linkHeader)
		g := guarded("192.0.0.1", "10.9.9.9", clat6.String())
		g.IPv6 = append(g.IPv6, eam6)
		if err := s.SetGuarded(g); err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			frame := ethernet(nil, nil, tt.ethertype, tt.packet)
			for cb, translated := range map[[5]uint32]bool{
				{}: false, {lo, hi}: true, {lo}: false, {0, hi}: false, {hi, lo}: false, {0, lo, hi}: false, {lo, hi, 7, 8, 9}: true,
			} {
				want, verdict := Counters{}, uint32(pass)
				if tt.why != NumDrops && !(translated && tt.ethertype == etherIPv6) {
					want, verdict = Counters{Dropped: dropped(tt.why, 1)}, drop
				}
				before := counters(t, s)
				got, _ := runWith(t, s.objects.UplinkEgress, frame, cb)
				if got != verdict {
					t.Errorf("%s, cb %x: verdict %#x, want %#x", tt.name, cb, got, verdict)
				}
				if got := counters(t, s).minus(before); got != want {
					t.Errorf("%s, cb %x: counted %+v, want %+v", tt.name, cb, got, want)
				}
			}
		}
		// Each can be taken out.
		if err := s.SetGuarded(Guarded{}); err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			if got, _ := run(t, s.objects.UplinkEgress, ethernet(nil, nil, tt.ethertype, tt.packet)); got != pass {
				t.Errorf("%s: nothing is guarded, and the verdict is %#x", tt.name, got)
			}
		}
	}
}

// What the translator sends carries the token, from either hook of the TUN.
func TestTokenIsSet(t *testing.T) {
	s := loaded(t, true)
	_, cb := runWith(t, s.objects.TunIngress, ethernet(nil, nil, etherIPv6, udp(clat6, plat6, 8)), [5]uint32{})
	if got := Token(cb[0]) | Token(cb[1])<<32; got != testToken {
		t.Errorf("the token is %#x, want %#x", got, testToken)
	}
	if a, b := NewToken(), NewToken(); a == b || a == 0 {
		t.Errorf("tokens %#x, %#x", a, b)
	}
}

// IPv4 to a guarded address is not taken from a link, with any program.
func TestStrayIPv4(t *testing.T) {
	s := loaded(t, true)
	g := &Guard{}
	if err := g.load(newConstants(1000001, true, 0)); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	far := netip.MustParseAddr("192.0.2.1")
	other := []byte{2, 0, 0, 0, 0, 1}
	for _, at := range []struct {
		program  *ebpf.Program
		guarded  *guardMaps
		counters func() (Counters, error)
	}{
		{s.objects.UplinkIngress, &s.guarded, s.Counters},
		{g.objects.GuardIngress, &g.guarded, g.Counters},
	} {
		if err := at.guarded.set(guarded("192.0.0.1")); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name  string
			frame []byte
			want  bool
		}{
			{"to the CLAT", ethernet(nil, nil, etherIPv4, ipv4(far, netip.MustParseAddr("192.0.0.1"))), true},
			{"broadcast frame", ethernet(bytes.Repeat([]byte{0xff}, 6), nil, etherIPv4, ipv4(far, netip.MustParseAddr("192.0.0.1"))), true},
			{"for another host", ethernet(other, nil, etherIPv4, ipv4(far, netip.MustParseAddr("192.0.0.1"))), false},
			{"to another CLAT", ethernet(nil, nil, etherIPv4, ipv4(far, netip.MustParseAddr("192.0.0.5"))), false},
			{"from the CLAT", ethernet(nil, nil, etherIPv4, ipv4(netip.MustParseAddr("192.0.0.1"), far)), false},
			{"ARP", ethernet(nil, nil, etherARP, make([]byte, 28)), false},
		} {
			before, err := at.counters()
			if err != nil {
				t.Fatal(err)
			}
			verdict, _ := run(t, at.program, tt.frame)
			after, err := at.counters()
			if err != nil {
				t.Fatal(err)
			}
			want := Counters{}
			if tt.want {
				want.Dropped[StrayIPv4] = 1
			}
			if got := after.minus(before); got != want || (verdict == drop) != tt.want {
				t.Errorf("%s: %s: verdict %#x, counted %+v", at.program, tt.name, verdict, got)
			}
		}
	}
}

// IPv6 unicast in a broadcast or multicast frame is taken or not, as the host
// takes it. The kernel decides itself what becomes of neighbour discovery.
func TestUnicastToMany(t *testing.T) {
	for _, engine := range []bool{false, true} {
		t.Run(fmt.Sprint("kernel engine ", engine), func(t *testing.T) {
			s := loaded(t, true)
			p := s.objects.UplinkIngress
			if engine {
				b := newEngineBench(t, true)
				s, p = b.s, b.s.objects.UplinkTranslate
				if err := s.SetOurs([]netip.Prefix{netip.PrefixFrom(clat6, 128)}); err != nil {
					t.Fatal(err)
				}
			}
			for _, drops := range []bool{false, true, false} {
				if err := s.SetDropUnicastToMany(drops); err != nil {
					t.Fatal(err)
				}
				for mac, many := range map[string]bool{"00:00:00:00:00:00": false, "ff:ff:ff:ff:ff:ff": true, "33:33:00:00:00:01": true} {
					dst, _ := net.ParseMAC(mac)
					for _, tt := range []struct {
						name   string
						packet []byte
						taken  bool
					}{
						{"UDP", udp(plat6, clat6, 8), true},
						{"solicitation", ipv6(plat6, clat6, protoICMPv6, icmpv6(plat6, clat6, typeNS, make([]byte, 20))), false},
						{"to another address", udp(plat6, host6, 8), false},
					} {
						want := uint32(pass)
						switch {
						case tt.taken && many && drops:
							want = drop
						case tt.taken:
							want = redirect
						}
						before := counters(t, s)
						verdict, _ := run(t, p, ethernet(dst, nil, etherIPv6, tt.packet))
						n := counters(t, s).minus(before).Dropped[UnicastToMany]
						if verdict != want || (n == 1) != (want == drop) {
							t.Errorf("%s in a frame to %s, drop %v: verdict %#x, want %#x; counted %d", tt.name, mac, drops, verdict, want, n)
						}
					}
				}
			}
		})
	}
}

// A program on the laptop that has bound the CLAT address, and the kernel
// itself, reach nobody from there, while the translator does, at once and after
// the neighbour has been found.
func TestBoundSource(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			s := l.steer(t, attach)
			l.laptop.do(t, func() error {
				for _, dst := range []netip.Addr{plat6, netip.MustParseAddr("2001:db8:1::1")} {
					d := net.Dialer{LocalAddr: &net.UDPAddr{IP: clat6.AsSlice(), Port: 40002}}
					c, err := d.Dial("udp6", netip.AddrPortFrom(dst, 53).String())
					if err != nil {
						return err
					}
					c.Write([]byte("bound"))
					c.Close()
				}
				return nil
			})
			eventuallyDropped(t, s, BoundSource, 2)
			if f, ok := l.wire.next(t, brief, func(f frame) bool { return bytes.Contains(f.data, []byte("bound")) }); ok {
				t.Errorf("on the wire: %x", f.data)
			}
			l.roundTrip(t, 1) // the neighbour is unknown as yet
			l.roundTrip(t, 2)
			if c := counters(t, s); c.Dropped != dropped(BoundSource, 2) {
				t.Errorf("counted %+v", c)
			}
		})
	}
}

func eventuallyDropped(t *testing.T, s *Steering, why Drop, n uint64) {
	t.Helper()
	for end := time.Now().Add(patience); counters(t, s).Dropped[why] < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d packets dropped for %s, want %d", counters(t, s).Dropped[why], why, n)
		}
	}
}
