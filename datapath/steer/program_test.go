package steer

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

var (
	clat6   = netip.MustParseAddr("2001:db8:1::c1a7")
	host6   = netip.MustParseAddr("2001:db8:1::10")
	router6 = netip.MustParseAddr("fe80::1")
	plat6   = netip.MustParseAddr("64:ff9b::c000:201") // 192.0.2.1
	eam6    = netip.MustParsePrefix("2001:db8:cccc::10/124")
)

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	pass     = 0xffffffff // TC_ACT_UNSPEC, TCX_NEXT
	drop     = 2          // TC_ACT_SHOT
	redirect = 7          // TC_ACT_REDIRECT
)

// loaded returns the programs, attached to nothing, with our prefixes set.
func loaded(t *testing.T, linkHeader bool) *Steering {
	t.Helper()
	needsRoot(t)
	c := newConstants(1000001, linkHeader, 1000002)
	c.token = testToken
	objects, err := load(c)
	if err != nil {
		t.Fatalf("load: %+v", &Error{"load", err})
	}
	s := &Steering{installed: installed{Engine: Engine{objects: objects}}, ours: newSteeredPrefixes(objects.Ours), guarded: newGuardMaps(objects.Guarded4, objects.Guarded6)}
	t.Cleanup(func() { s.Close() })
	if err := s.SetOurs([]netip.Prefix{netip.PrefixFrom(clat6, 128), eam6}); err != nil {
		t.Fatal(err)
	}
	return s
}

// run gives a frame to a program. The loopback device that the kernel pretends
// it came from has the MAC address zero.
func run(t *testing.T, p *ebpf.Program, frame []byte) (verdict uint32, out []byte) {
	t.Helper()
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
	verdict, err := p.Run(&opts)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return verdict, opts.DataOut
}

func counters(t *testing.T, s *Steering) Counters {
	t.Helper()
	c, err := s.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUplinkIngress(t *testing.T) {
	steered, kernel, none := Counters{SteeredIn: 1}, Counters{LeftToKernel: 1}, Counters{}
	toCLAT := func(next byte, payload []byte) []byte { return ipv6(plat6, clat6, next, payload) }
	ns := icmpv6(plat6, clat6, typeNS, make([]byte, 20))
	datagram := udp(plat6, clat6, 8)[40:]
	cutShort := extension(protoICMPv6, nil)
	cutShort[1] = 255
	chain := func(n int, next byte, payload []byte) []byte {
		for i := range n {
			payload = extension(next, payload)
			next = []byte{protoDstOpts, protoRouting}[i%2]
		}
		return toCLAT(next, payload)
	}
	v4 := udp(plat6, clat6, 8)
	v4[0] = 0x45

	tests := []struct {
		name      string
		ethertype uint16
		packet    []byte
		verdict   uint32
		counted   Counters
	}{
		{"UDP", etherIPv6, udp(plat6, clat6, 8), redirect, steered},
		{"TCP", etherIPv6, tcpSuper(plat6, clat6, 8), redirect, steered},
		{"header only", etherIPv6, toCLAT(59, nil), redirect, steered},
		{"ESP", etherIPv6, toCLAT(50, make([]byte, 16)), redirect, steered},
		{"first fragment", etherIPv6, toCLAT(protoFragment, append([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 1}, datagram...)), redirect, steered},
		{"fragment of a solicitation (RFC 6980)", etherIPv6, toCLAT(protoFragment, append([]byte{protoICMPv6, 0, 0, 1, 0, 0, 0, 1}, ns...)), redirect, steered},
		{"UDP behind hop-by-hop", etherIPv6, toCLAT(protoHopByHop, extension(protoUDP, datagram)), redirect, steered},
		{"echo behind hop-by-hop", etherIPv6, toCLAT(protoHopByHop, extension(protoICMPv6, icmpv6(plat6, clat6, typeEchoRequest, make([]byte, 4)))), redirect, steered},
		{"hop-by-hop cut short", etherIPv6, toCLAT(protoHopByHop, cutShort), redirect, steered},
		{"ICMPv6 without a message", etherIPv6, toCLAT(protoICMPv6, nil), redirect, steered},
		{"first address of the EAM prefix", etherIPv6, udp(plat6, eam6.Addr(), 8), redirect, steered},
		{"last address of the EAM prefix", etherIPv6, udp(plat6, netip.MustParseAddr("2001:db8:cccc::1f"), 8), redirect, steered},

		{"solicitation", etherIPv6, toCLAT(protoICMPv6, ns), pass, kernel},
		{"solicitation behind hop-by-hop", etherIPv6, toCLAT(protoHopByHop, extension(protoICMPv6, ns)), pass, kernel},
		{"solicitation behind four headers", etherIPv6, chain(4, protoICMPv6, ns), pass, kernel},
		{"solicitation behind five headers", etherIPv6, chain(5, protoICMPv6, ns), redirect, steered},
		{"MLD query to the address", etherIPv6, toCLAT(protoHopByHop, hopByHopAlert(icmpv6(plat6, clat6, typeMLDQuery, make([]byte, 24)))), pass, kernel},

		{"address below the EAM prefix", etherIPv6, udp(plat6, netip.MustParseAddr("2001:db8:cccc::f"), 8), pass, none},
		{"address above the EAM prefix", etherIPv6, udp(plat6, netip.MustParseAddr("2001:db8:cccc::20"), 8), pass, none},
		{"another address of the host", etherIPv6, udp(plat6, host6, 8), pass, none},
		{"multicast", etherIPv6, udp(plat6, netip.MustParseAddr("ff02::1"), 8), pass, none},
		{"from us, not to us", etherIPv6, udp(clat6, plat6, 8), pass, none},
		{"IPv4 dressed up as IPv6", etherIPv6, v4, pass, none},
		{"IPv4", etherIPv4, ipv4(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.0.1")), pass, none},
		{"ARP", etherARP, make([]byte, 28), pass, none},
	}
	for typ := range 256 {
		verdict, counted := uint32(redirect), steered
		if typ >= 130 && typ <= 137 || typ == 143 {
			verdict, counted = pass, kernel
		}
		tests = append(tests, struct {
			name      string
			ethertype uint16
			packet    []byte
			verdict   uint32
			counted   Counters
		}{fmt.Sprintf("ICMPv6 type %d", typ), etherIPv6,
			toCLAT(protoICMPv6, icmpv6(plat6, clat6, byte(typ), make([]byte, 20))), verdict, counted})
	}

	for _, linkHeader := range []bool{true, false} {
		s := loaded(t, linkHeader)
		for _, tt := range tests {
			frame := ethernet(nil, nil, tt.ethertype, tt.packet)
			before := counters(t, s)
			verdict, out := run(t, s.objects.UplinkIngress, frame)
			if verdict != tt.verdict {
				t.Errorf("%s: verdict %#x, want %#x", tt.name, verdict, tt.verdict)
			}
			if !bytes.Equal(out, frame) {
				t.Errorf("%s: the packet was changed", tt.name)
			}
			if got := counters(t, s).minus(before); got != tt.counted {
				t.Errorf("%s: counted %+v, want %+v", tt.name, got, tt.counted)
			}
		}
	}
}

func TestUplinkIngressOtherHost(t *testing.T) {
	s := loaded(t, true)
	frame := ethernet([]byte{2, 0, 0, 0, 0, 1}, nil, etherIPv6, udp(plat6, clat6, 8))
	if verdict, _ := run(t, s.objects.UplinkIngress, frame); verdict != pass {
		t.Errorf("a frame for another host that a promiscuous interface sees: verdict %#x, want %#x", verdict, uint32(pass))
	}
}

func TestTUNIngress(t *testing.T) {
	out, foreign, none := Counters{SteeredOut: 1}, Counters{Dropped: dropped(ForeignSource, 1)}, Counters{}
	v4 := udp(clat6, plat6, 8)
	v4[0] = 0x45
	tests := []struct {
		name      string
		ethertype uint16
		packet    []byte
		verdict   uint32
		counted   Counters
	}{
		{"from the CLAT address", etherIPv6, udp(clat6, plat6, 8), redirect, out},
		{"from the EAM prefix", etherIPv6, udp(eam6.Addr(), plat6, 8), redirect, out},
		{"solicitation by user space", etherIPv6, ipv6(clat6, plat6, protoICMPv6, icmpv6(clat6, plat6, typeNS, make([]byte, 20))), redirect, out},
		{"from the host's other address", etherIPv6, udp(host6, plat6, 8), drop, foreign},
		{"from beside the EAM prefix", etherIPv6, udp(netip.MustParseAddr("2001:db8:cccc::20"), plat6, 8), drop, foreign},
		{"from nowhere", etherIPv6, udp(netip.IPv6Unspecified(), plat6, 8), drop, foreign},
		{"to us, not from us", etherIPv6, udp(plat6, clat6, 8), drop, foreign},
		{"IPv4 dressed up as IPv6", etherIPv6, v4, drop, foreign},
		{"IPv4", etherIPv4, ipv4(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.0.1")), pass, none},
	}
	for _, linkHeader := range []bool{true, false} {
		s := loaded(t, linkHeader)
		for _, tt := range tests {
			frame := ethernet(nil, nil, tt.ethertype, tt.packet)
			want := frame
			if linkHeader && tt.verdict == redirect {
				want = ethernet(nil, nil, 0, frame) // bpf_redirect_neigh fills it in
			}
			before := counters(t, s)
			verdict, out := run(t, s.objects.TunIngress, frame)
			if verdict != tt.verdict {
				t.Errorf("%s: verdict %#x, want %#x", tt.name, verdict, tt.verdict)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("%s: link header %v: packet is\n%x, want\n%x", tt.name, linkHeader, out, want)
			}
			if got := counters(t, s).minus(before); got != tt.counted {
				t.Errorf("%s: counted %+v, want %+v", tt.name, got, tt.counted)
			}
		}
	}
}

func TestSetOurs(t *testing.T) {
	s := loaded(t, true)
	prefix := func(list ...string) (ps []netip.Prefix) {
		for _, p := range list {
			ps = append(ps, netip.MustParsePrefix(p))
		}
		return ps
	}
	probe := func(dst string) bool {
		verdict, _ := run(t, s.objects.UplinkIngress, ethernet(nil, nil, etherIPv6, udp(plat6, netip.MustParseAddr(dst), 8)))
		return verdict == redirect
	}
	steps := []struct {
		set       []netip.Prefix
		steered   []string
		unsteered []string
	}{
		{prefix("2001:db8::1/128"), []string{"2001:db8::1"}, []string{clat6.String(), eam6.Addr().String()}},
		{prefix("2001:db8::1/128"), []string{"2001:db8::1"}, nil},
		// A prefix and one inside it come and go separately.
		{prefix("2001:db8::1/128", "2001:db8::/64"), []string{"2001:db8::1", "2001:db8::2"}, []string{"2001:db8:0:1::"}},
		{prefix("2001:db8::/64"), []string{"2001:db8::1", "2001:db8::2"}, nil},
		// Host bits do not matter, nor does saying it twice.
		{prefix("2001:db8::ff/64", "2001:db8::/64"), []string{"2001:db8::1"}, nil},
		{nil, nil, []string{"2001:db8::1", "2001:db8::2"}},
	}
	for i, step := range steps {
		if err := s.SetOurs(step.set); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		for _, a := range step.steered {
			if !probe(a) {
				t.Errorf("step %d: %s is not steered", i, a)
			}
		}
		for _, a := range step.unsteered {
			if probe(a) {
				t.Errorf("step %d: %s is steered", i, a)
			}
		}
	}

	if err := s.SetOurs(prefix("2001:db8::1/128")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range append(prefix("192.0.2.0/24", "::ffff:192.0.2.0/120", "::/0", "fe80::1/128", "ff02::/16", "::1/128"), netip.Prefix{}) {
		if err := s.SetOurs([]netip.Prefix{bad}); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if !probe("2001:db8::1") {
		t.Error("a refused change had an effect")
	}
}

func (c Counters) minus(d Counters) Counters {
	drops := c.Dropped
	for why, n := range d.Dropped {
		drops[why] -= n
	}
	return Counters{
		SteeredIn:    c.SteeredIn - d.SteeredIn,
		LeftToKernel: c.LeftToKernel - d.LeftToKernel,
		SteeredOut:   c.SteeredOut - d.SteeredOut,
		Dropped:      drops,
	}
}

// dropped are n packets that were dropped for one reason.
func dropped(why Drop, n uint64) (all [NumDrops]uint64) {
	all[why] = n
	return all
}
