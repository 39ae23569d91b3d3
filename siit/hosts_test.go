package siit

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// oneHost is a gateway's table with one host.
type oneHost struct{ pair Pair }

func (o oneHost) To4(hi, lo uint64) (uint32, bool) {
	a := o.pair.IPv6.As16()
	return v4(o.pair.IPv4), hi == binary.BigEndian.Uint64(a[:]) && lo == binary.BigEndian.Uint64(a[8:])
}

func (o oneHost) To6(a uint32) (hi, lo uint64, ok bool) {
	b := o.pair.IPv6.As16()
	return binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:]), a == v4(o.pair.IPv4)
}

func udp6(src, dst string) []byte {
	b := make([]byte, 40+12)
	b[0], b[5], b[6], b[7] = 0x60, 12, protoUDP, 64
	copy(b[8:], netip.MustParseAddr(src).AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	binary.BigEndian.PutUint16(b[44:], 12)
	binary.BigEndian.PutUint16(b[46:], ^Sum(b[40:], pseudo6(b[8:40], 12, protoUDP)))
	return b
}

func udp4(src, dst string) []byte {
	b := make([]byte, 20+12)
	putIPv4((*[20]byte)(b), 0, 32, 1, 0, 64, protoUDP, v4(netip.MustParseAddr(src)), v4(netip.MustParseAddr(dst)))
	binary.BigEndian.PutUint16(b[24:], 12)
	return b
}

// TestHosts is what a gateway translates, and which ICMP error answers the rest:
// type and code, or 0.
func TestHosts(t *testing.T) {
	tr, err := New(Config{
		Mapping:     Mapping{PREF64: WellKnownPrefix(), Hosts: oneHost{Pair{netip.MustParseAddr("100.64.0.5"), netip.MustParseAddr("2001:db8::5")}}},
		DenyIPv4:    []netip.Prefix{netip.MustParsePrefix("203.0.113.1/32"), netip.MustParsePrefix("10.0.0.0/8")},
		PoolIPv4:    netip.MustParsePrefix("100.64.0.0/16"),
		ICMPSource4: netip.MustParseAddr("100.64.0.1"), ICMPSource6: netip.MustParseAddr("64:ff9b::100.64.0.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := NewScratch(1)
	for name, c := range map[string]struct {
		packet     []byte
		reason     Reason
		kind, code uint8
		src, dst   string
	}{
		"out":                           {udp6("2001:db8::5", "64:ff9b::192.0.2.1"), None, 0, 0, "100.64.0.5", "192.0.2.1"},
		"in":                            {udp4("192.0.2.1", "100.64.0.5"), None, 0, 0, "64:ff9b::192.0.2.1", "2001:db8::5"},
		"hairpin, first half":           {udp6("2001:db8::5", "64:ff9b::100.64.0.5"), None, 0, 0, "100.64.0.5", "100.64.0.5"},
		"hairpin, second half":          {udp4("100.64.0.5", "100.64.0.5"), None, 0, 0, "64:ff9b::100.64.0.5", "2001:db8::5"},
		"a host without a map":          {udp6("2001:db8::6", "64:ff9b::192.0.2.1"), SourceOutsidePREF64, 1, 1, "", ""},
		"no map from outside":           {udp4("192.0.2.1", "100.64.0.6"), NoMap, 3, 1, "", ""},
		"no map from inside":            {udp6("2001:db8::5", "64:ff9b::100.64.0.6"), NoMap, 1, 3, "", ""},
		"the gateway's own address":     {udp6("2001:db8::5", "64:ff9b::203.0.113.1"), DestinationDenied, 1, 1, "", ""},
		"a denied network":              {udp6("2001:db8::5", "64:ff9b::10.1.2.3"), DestinationDenied, 1, 1, "", ""},
		"denied, and no map either":     {udp6("2001:db8::6", "64:ff9b::10.1.2.3"), DestinationDenied, 1, 1, "", ""},
		"loopback":                      {udp6("2001:db8::5", "64:ff9b::127.0.0.1"), DestinationIllegal, 0, 0, "", ""},
		"link-local":                    {udp6("2001:db8::5", "64:ff9b::169.254.169.254"), DestinationIllegal, 0, 0, "", ""},
		"broadcast from outside":        {udp4("192.0.2.1", "255.255.255.255"), DestinationIllegal, 0, 0, "", ""},
		"from behind PREF64":            {udp6("64:ff9b::192.0.2.1", "64:ff9b::100.64.0.5"), SourceIllegal, 0, 0, "", ""},
		"from a link-local address":     {udp6("fe80::1", "64:ff9b::192.0.2.1"), SourceIllegal, 0, 0, "", ""},
		"to an address beside PREF64":   {udp6("2001:db8::5", "2001:db8::9"), DestinationUnmappable, 1, 1, "", ""},
		"from loopback, outside":        {udp4("127.0.0.1", "100.64.0.5"), SourceIllegal, 0, 0, "", ""},
		"from another pool, by the TUN": {udp4("100.64.0.5", "192.0.2.1"), NoMap, 3, 1, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			buf := append(make([]byte, Headroom), c.packet...)
			r := tr.Translate(s, Packet{Buf: buf, Off: Headroom})
			if r.Reason != c.reason {
				t.Fatalf("reason %s, want %s", r.Reason, c.reason)
			}
			if c.kind == 0 && c.reason != None {
				if r.Verdict != Drop {
					t.Errorf("answered with % x", r.Packets[0].Bytes())
				}
				return
			}
			p := r.Packets[0].Bytes()
			if c.reason != None {
				at := 40
				if p[0]>>4 == 4 {
					at = 20
				}
				if r.Verdict != Reply || p[at] != c.kind || p[at+1] != c.code {
					t.Errorf("%s: type %d code %d, want %d and %d", r.Verdict, p[at], p[at+1], c.kind, c.code)
				}
				return
			}
			src, dst := p[8:24], p[24:40]
			if p[0]>>4 == 4 {
				src, dst = p[12:16], p[16:20]
			}
			gotSrc, _ := netip.AddrFromSlice(src)
			gotDst, _ := netip.AddrFromSlice(dst)
			if gotSrc != netip.MustParseAddr(c.src) || gotDst != netip.MustParseAddr(c.dst) {
				t.Errorf("from %s to %s, want from %s to %s", gotSrc, gotDst, c.src, c.dst)
			}
		})
	}
}

// TestHostsByPrefixLength has a gateway translate there and back with each length of
// RFC 6052 section 2.2.
func TestHostsByPrefixLength(t *testing.T) {
	host := Pair{netip.MustParseAddr("100.64.0.5"), netip.MustParseAddr("2001:db8:1::5")}
	server := netip.MustParseAddr("192.0.2.33")
	for _, bits := range []int{32, 40, 48, 56, 64, 96} {
		pref := netip.PrefixFrom(netip.MustParseAddr("2001:db9:122:344::"), bits).Masked()
		p, err := NewPrefix(pref)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := New(Config{Mapping: Mapping{PREF64: pref, Hosts: oneHost{host}}, PoolIPv4: netip.MustParsePrefix("100.64.0.0/16")})
		if err != nil {
			t.Fatal(err)
		}
		s := NewScratch(1)
		out := tr.Translate(s, Packet{Buf: append(make([]byte, Headroom), udp6(host.IPv6.String(), p.Embed(server).String())...), Off: Headroom})
		if out.Verdict != Translated || netip.AddrFrom4([4]byte(out.Packets[0].Bytes()[12:])) != host.IPv4 || netip.AddrFrom4([4]byte(out.Packets[0].Bytes()[16:])) != server {
			t.Errorf("%s, out: %s %s", pref, out.Verdict, out.Reason)
		}
		in := tr.Translate(s, Packet{Buf: append(make([]byte, Headroom), udp4(server.String(), host.IPv4.String())...), Off: Headroom})
		if in.Verdict != Translated || netip.AddrFrom16([16]byte(in.Packets[0].Bytes()[8:])) != p.Embed(server) || netip.AddrFrom16([16]byte(in.Packets[0].Bytes()[24:])) != host.IPv6 {
			t.Errorf("%s, in: %s %s", pref, in.Verdict, in.Reason)
		}
	}
}

// TestRefuse is how a gateway answers hosts that get no address.
func TestRefuse(t *testing.T) {
	tr, err := New(Config{Mapping: Mapping{PREF64: WellKnownPrefix(), Hosts: oneHost{Pair{netip.MustParseAddr("100.64.0.5"), netip.MustParseAddr("2001:db8::5")}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := NewScratch(1)
	for r, code := range map[Reason]uint8{NotAClient: 5, PoolExhausted: 3, TooManyMaps: 3} {
		buf := append(make([]byte, Headroom), udp6("2001:db8::6", "64:ff9b::192.0.2.1")...)
		got := tr.Refuse(s, Packet{Buf: buf, Off: Headroom}, r)
		if got.Verdict != Reply || got.Reason != r {
			t.Fatalf("%s: %+v", r, got)
		}
		p := got.Packets[0].Bytes()
		if p[40] != 1 || p[41] != code || Sum(p[40:], pseudo6(p[8:40], len(p)-40, protoICMPv6)) != 0xffff {
			t.Errorf("%s: type %d code %d, or a wrong checksum", r, p[40], p[41])
		}
	}
	for _, bad := range [][]byte{nil, {0x60}, udp4("192.0.2.1", "100.64.0.6"), udp6("::", "64:ff9b::192.0.2.1")} {
		if got := tr.Refuse(s, Packet{Buf: append(make([]byte, Headroom), bad...), Off: Headroom}, NotAClient); got.Verdict != Drop {
			t.Errorf("% x is answered", bad)
		}
	}
}
