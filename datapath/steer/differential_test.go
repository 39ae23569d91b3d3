package steer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"tnat64d/internal/soak"
	"tnat64d/siit"
)

// compare gives a packet to both engines. It returns whether the kernel engine
// translated it, and what is wrong.
func (b *engineBench) compare(t testing.TB, packet []byte, g gso) (translated bool, err error) {
	t.Helper()
	got := b.kernel(t, packet, g)
	if got == nil {
		return false, nil
	}
	want := b.truth(packet, g)
	if want == nil {
		return true, fmt.Errorf("translated, but siit refuses it or makes several packets\n in %x %+v\ngot %x", packet, g, got)
	}
	if got[0]>>4 == 4 {
		// Not the identification, and the checksum just has to be right.
		if words(got[:20])%0xffff != 0 {
			return true, fmt.Errorf("header checksum is wrong\n in %x\ngot %x", packet, got)
		}
		for _, p := range [][]byte{got, want} {
			clear(p[4:6])
			clear(p[10:12])
		}
	}
	if !bytes.Equal(got, want) {
		return true, fmt.Errorf("differs from siit\n  in %x %+v\n got %x\nwant %x", packet, g, got, want)
	}
	return true, nil
}

// The kernel engine gives the bytes of siit for every vector that it takes.
func TestVectors(t *testing.T) {
	b := newEngineBench(t, true)
	text, err := os.ReadFile("../../siit/testdata/vectors.json")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("needs the vectors of package siit: the source tree is not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name   string
		Config struct {
			PREF64        netip.Prefix `json:"pref64"`
			CLAT4         netip.Addr   `json:"clat_v4"`
			CLAT6         netip.Addr   `json:"clat_v6"`
			MTU6          int          `json:"ipv6_mtu"`
			MTU4          int          `json:"ipv4_mtu"`
			LowestIPv6MTU int          `json:"lowest_ipv6_mtu"`
			ICMPSource4   netip.Addr   `json:"xlat_icmp_v4"`
		}
		In string `json:"in_hex"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	translated := 0
	for i, v := range vectors {
		packet, err := hex.DecodeString(v.In)
		if err != nil {
			t.Fatal(err)
		}
		if c := v.Config; i == 0 || c != vectors[i-1].Config { // a change takes its time
			b.use(t, siit.Config{
				Mapping: siit.Mapping{PREF64: c.PREF64, CLAT: siit.Pair{IPv4: c.CLAT4, IPv6: c.CLAT6}},
				MTU6:    c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: c.LowestIPv6MTU, ICMPSource4: c.ICMPSource4,
			})
		}
		took, err := b.compare(t, packet, gso{})
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if took {
			translated++
		}
	}
	t.Logf("translated %d of %d", translated, len(vectors))
	if len(vectors) != 252 || translated < 33 {
		t.Errorf("the kernel engine took %d of %d vectors", translated, len(vectors))
	}
}

// differential is one configuration and its traffic.
type differential struct {
	cfg  siit.Config
	rand *rand.Rand

	// Of the next packet: the host on this side and the one it speaks with. Zero:
	// an address behind PREF64.
	own, peer siit.Pair
}

// TestDifferential throws packets at both engines that are realistic, nearly
// so, or hostile.
func TestDifferential(t *testing.T) {
	perDirection := 120_000
	if testing.Short() {
		perDirection = 12_000
	}
	clat := func(v4, v6 string) siit.Pair {
		return siit.Pair{IPv4: netip.MustParseAddr(v4), IPv6: netip.MustParseAddr(v6)}
	}
	local := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.3.0/24"), netip.MustParsePrefix("198.51.0.0/17")}
	var configs []siit.Config
	for _, pref64 := range []string{
		"64:ff9b::/96", "2001:db8:64::/96", "2001:db8:1:2:3::/64", "2001:db8:1:200::/56",
		"2001:db8:1::/48", "2001:db8:100::/40", "2001:db8::/32",
	} {
		p := netip.MustParsePrefix(pref64)
		configs = append(configs,
			siit.Config{Mapping: siit.Mapping{PREF64: p, CLAT: clat("192.0.0.1", "2001:db9:1::c1a7")}, LocalIPv4: local},
			siit.Config{Mapping: siit.Mapping{PREF64: p, CLAT: neutralPair(p, "2001:db9:1::1:0:0")}, MTU6: 1400, LowestIPv6MTU: 1400, DropWKPPrivate: true},
		)
	}
	configs = append(configs,
		siit.Config{Mapping: siit.Mapping{PREF64: netip.MustParsePrefix("64:ff9b::/96"), CLAT: clat("203.0.113.9", "2001:db9:1::c1a7")}, MTU6: 9000, MTU4: 700, DropWKPPrivate: true},
		siit.Config{Mapping: siit.Mapping{PREF64: netip.MustParsePrefix("64:ff9b::/96"), CLAT: clat("192.0.0.1", "2001:db9:1::c1a7")}, MTU6: 1280, MTU4: 1260, ZeroTrafficClass: true},
		siit.Config{Mapping: siit.Mapping{PREF64: netip.MustParsePrefix("64:ff9b::/96"), CLAT: clat("192.0.0.1", "2001:db9:1::c1a7")}, ZeroTOS: true},
	)

	configs = append(configs, eamConfigs()...)
	configs = append(configs, networkConfigs()...)

	seed := soak.Seed(t)
	b := newEngineBench(t, true)
	translated := map[bool]int{}
	refused := map[bool]int{}
	for i, cfg := range configs {
		b.use(t, cfg)
		d := &differential{cfg: cfg, rand: rand.New(rand.NewPCG(seed, uint64(i)))}
		for _, to6 := range []bool{true, false} {
			for range perDirection / len(configs) {
				d.choose()
				packet, g := d.packet(to6)
				took, err := b.compare(t, packet, g)
				if err != nil {
					t.Fatalf("seed %d, %+v: %v", seed, cfg.Mapping, err)
				}
				if took {
					translated[to6]++
				} else if b.truth(packet, g) == nil {
					refused[to6]++
				}
			}
		}
	}
	for _, to6 := range []bool{true, false} {
		t.Logf("IPv4 to IPv6 %v: %d of %d translated, %d refused by siit", to6, translated[to6], perDirection, refused[to6])
		if translated[to6] < perDirection/4 || refused[to6] < perDirection/20 {
			t.Errorf("IPv4 to IPv6 %v: only %d translated and %d refused by siit: the test tests little", to6, translated[to6], refused[to6])
		}
	}
	c, err := b.s.EngineCounters()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	for _, d := range []DirectionCounters{c.To6, c.To4} {
		for _, a := range []Amount{d.TCP, d.UDP, d.Echo} {
			if a.Packets < uint64(perDirection/50) {
				t.Errorf("the test tests little: %+v", d)
			}
		}
		for why, n := range d.Declined {
			if never := []Declined{DeclinedMemory, DeclinedOrder, DeclinedRoute}; n == 0 && !slices.Contains(never, Declined(why)) {
				t.Errorf("no packet was declined for %v", Declined(why))
			}
		}
	}
	if c := counters(t, b.s); c.Dropped[NoMemory] != 0 {
		t.Errorf("%d packets were lost", c.Dropped[NoMemory])
	}
}

// neutralPair is a CLAT pair that makes checksums stay as they are behind p.
// The last word of its IPv6 address is chosen accordingly.
func neutralPair(p netip.Prefix, ipv6 string) siit.Pair {
	v4, v6 := netip.MustParseAddr("192.0.0.1"), netip.MustParseAddr(ipv6).As16()
	pref := p.Addr().As16()
	b4 := v4.As4()
	need := (words(b4[:]) + 0xffff*100 - words(pref[:]) - words(v6[:])) % 0xffff
	binary.BigEndian.PutUint16(v6[14:], uint16(need))
	return siit.Pair{IPv4: v4, IPv6: netip.AddrFrom16(v6)}
}

// remote is an address of the IPv4 internet, sometimes not quite.
func (d *differential) remote() [4]byte {
	odd := [][4]byte{
		{127, 0, 0, 1}, {0, 1, 2, 3}, {224, 0, 0, 1}, {255, 255, 255, 255}, {240, 0, 0, 1}, {169, 254, 1, 1}, {192, 0, 0, 2},
		{192, 0, 0, 8}, {10, 0, 0, 1}, {192, 168, 1, 1}, {100, 64, 0, 1}, {172, 16, 3, 4}, {198, 18, 0, 1}, {192, 0, 0, 170},
	}
	if clat := d.cfg.Mapping.CLAT.IPv4; clat.IsValid() { // not in a gateway
		odd = append(odd, clat.As4())
	}
	if d.rand.IntN(20) == 0 {
		return odd[d.rand.IntN(len(odd))]
	}
	a := [4]byte{198, 51, 100}
	for i := range a {
		if d.rand.IntN(2) == 0 {
			a[i] = byte(d.rand.Uint32())
		}
	}
	return a
}

// size is a length of payload, on the edges of what fits more often than not.
func (d *differential) size() int {
	switch d.rand.IntN(6) {
	case 0:
		return d.rand.IntN(20)
	case 1:
		edges := []int{1260, 1232, 1280, 1480, 1500, 1400, 1380, 700, 576, 512, 640}
		return max(0, edges[d.rand.IntN(len(edges))]-d.rand.IntN(64))
	case 2:
		return d.rand.IntN(3000)
	}
	return d.rand.IntN(200)
}

// packet makes a packet that is right, and often spoils it.
func (d *differential) packet(to6 bool) ([]byte, gso) {
	var l4 []byte
	proto := byte(protoTCP)
	var g gso
	check := 0
	switch k := d.rand.IntN(20); {
	case k < 8:
		header := 20 + 4*d.rand.IntN(11)
		l4 = d.bytes(header + d.size())
		l4[12] = byte(header/4) << 4
		check = 16
	case k < 14:
		proto = protoUDP
		l4 = d.bytes(8 + d.size())
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		check = 6
	case k < 19:
		proto = 1
		l4 = d.bytes(8 + d.size())
		l4[0] = []byte{0, 8, 8, 8, 3, 11, 13}[d.rand.IntN(7)]
		l4[1] = 0
		if !to6 {
			proto = protoICMPv6
			l4[0] = []byte{128, 129, 129, 128, 1, 2, 135}[d.rand.IntN(7)]
		}
		check = 2
	default:
		proto = byte(d.rand.Uint32())
		l4 = d.bytes(d.size())
	}
	if d.rand.IntN(8) == 0 && len(l4) > 8 { // many zeros: sums on the edge
		clear(l4[4:])
		if proto == protoUDP {
			binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		}
	}

	clat4, clat6 := d.own.IPv4.As4(), d.own.IPv6.As16()
	remote := d.remote()
	remote6 := d.embed(remote)
	if d.peer.IPv4.IsValid() {
		remote, remote6 = d.peer.IPv4.As4(), d.peer.IPv6.As16()
	}
	var p []byte
	var pseudo uint32
	if to6 {
		p = make([]byte, 20, 20+len(l4))
		p[0], p[1], p[8], p[9] = 0x45, byte(d.rand.Uint32()), byte(2+d.rand.IntN(254)), proto
		binary.BigEndian.PutUint16(p[2:], uint16(20+len(l4)))
		binary.BigEndian.PutUint16(p[4:], uint16(d.rand.Uint32()))
		p[6] = []byte{0, 0x40}[d.rand.IntN(2)]
		copy(p[12:], clat4[:])
		copy(p[16:], remote[:])
		pseudo = words(p[12:20])
	} else {
		p = make([]byte, 40, 40+len(l4))
		binary.BigEndian.PutUint32(p, 6<<28|d.rand.Uint32()>>4)
		binary.BigEndian.PutUint16(p[4:], uint16(len(l4)))
		p[6], p[7] = proto, byte(2+d.rand.IntN(254))
		copy(p[8:], remote6[:])
		copy(p[24:], clat6[:])
		pseudo = words(p[8:40])
	}
	if check > 0 {
		if proto == 1 {
			pseudo = 0
		} else {
			pseudo += uint32(proto) + uint32(len(l4))
		}
		l4[check], l4[check+1] = 0, 0
		sum := pseudo + words(append(l4[:len(l4):len(l4)], make([]byte, len(l4)%2)...))
		for sum > 0xffff {
			sum = sum&0xffff + sum>>16
		}
		c := ^uint16(sum)
		if proto == protoUDP && c == 0 {
			c = 0xffff
		}
		switch d.rand.IntN(30) { // representations of zero, and wrong ones
		case 0:
			c = 0
		case 1:
			c = 0xffff
		case 2:
			c = uint16(d.rand.Uint32())
		}
		binary.BigEndian.PutUint16(l4[check:], c)
	}
	if (proto == protoTCP || proto == protoUDP) && len(l4) > 100 && d.rand.IntN(3) == 0 {
		header := 8
		if proto == protoTCP {
			header = int(l4[12]>>4) * 4
		}
		if data := len(l4) - header; data > 0 {
			g.size = 1 + d.rand.IntN(data+20)
			g.segs = (data + g.size - 1) / g.size
			if d.rand.IntN(20) == 0 {
				g.segs = d.rand.IntN(10)
			}
		}
	}
	if to6 {
		fixHeaderChecksum(p)
	}
	p = append(p, l4...)
	return d.spoil(p, to6), g
}

// spoil damages some packets, headers above all.
func (d *differential) spoil(p []byte, to6 bool) []byte {
	header := 40
	if to6 {
		header = 20
	}
	switch d.rand.IntN(12) {
	case 0: // any bits of the header
		for range 1 + d.rand.IntN(3) {
			p[d.rand.IntN(header)] ^= 1 << d.rand.IntN(8)
		}
	case 1: // fields that matter, in a header that is right
		if to6 {
			switch d.rand.IntN(5) {
			case 0:
				p[0] = 0x40 | byte(d.rand.IntN(16))
			case 1:
				binary.BigEndian.PutUint16(p[2:], uint16(len(p)-20+d.rand.IntN(40)))
			case 2:
				binary.BigEndian.PutUint16(p[6:], uint16(d.rand.Uint32()))
			case 3:
				p[8] = byte(d.rand.IntN(3))
			case 4:
				p[9] = byte(d.rand.Uint32())
			}
			if n := int(p[0]&15) * 4; n > 20 && n <= len(p) {
				p[10], p[11] = 0, 0
				binary.BigEndian.PutUint16(p[10:], ^foldWords(p[:n]))
			}
		} else {
			switch d.rand.IntN(5) {
			case 0:
				p[0] = byte(d.rand.IntN(16))<<4 | p[0]&15
			case 1:
				binary.BigEndian.PutUint16(p[4:], uint16(len(p)-60+d.rand.IntN(40)))
			case 2:
				p[6] = []byte{protoHopByHop, protoRouting, protoFragment, protoDstOpts, 59, 1, 50, 51, 136, 33}[d.rand.IntN(10)]
			case 3:
				p[7] = byte(d.rand.IntN(3))
			case 4: // octet u and suffix, or the prefix
				p[8+d.rand.IntN(16)] ^= byte(1 + d.rand.IntN(255))
			}
		}
	case 2: // cut short, or padded
		if d.rand.IntN(2) == 0 {
			p = p[:header+d.rand.IntN(len(p)-header+1)] // BPF_PROG_TEST_RUN wants a whole IP header
		} else {
			p = append(p, make([]byte, 1+d.rand.IntN(30))...)
		}
	case 3: // the transport header
		if len(p) > header {
			p[header+d.rand.IntN(min(20, len(p)-header))] = byte(d.rand.Uint32())
		}
	case 4: // cut short, and says so
		n := header + d.rand.IntN(24)
		if n < len(p) {
			p = p[:n]
			if to6 {
				binary.BigEndian.PutUint16(p[2:], uint16(n))
			} else {
				binary.BigEndian.PutUint16(p[4:], uint16(n-40))
			}
		}
	}
	if to6 && d.rand.IntN(30) != 0 && len(p) >= 20 && p[0] == 0x45 {
		fixHeaderChecksum(p)
	}
	if to6 && p[0]>>4 == 6 || !to6 && p[0]>>4 == 4 {
		p[0] ^= 0x30 // it would be a packet of the other direction
	}
	return p
}

func (d *differential) embed(a [4]byte) [16]byte {
	m := d.cfg.Mapping
	p, ok := m.PrefixOf(netip.AddrFrom4(a))
	if !ok || len(m.Networks) > 0 && d.rand.IntN(8) == 0 {
		p = m.PREF64
		if other := m.Networks[d.rand.IntN(len(m.Networks))].PREF64; other.IsValid() {
			p = other // the prefix of other networks
		}
	}
	b := p.Masked().Addr().As16()
	at := p.Bits() / 8
	for _, x := range a {
		if at == 8 && p.Bits() != 96 {
			at++
		}
		b[at] = x
		at++
	}
	if p.Bits() != 96 && d.rand.IntN(4) == 0 { // the suffix should be zero
		b[15] = byte(d.rand.Uint32())
	}
	return b
}

func (d *differential) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.rand.Uint32())
	}
	return b
}

func fixHeaderChecksum(p []byte) {
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^foldWords(p[:20]))
}

// words returns the sum of the 16-bit words of b, apart from siit.
func words(b []byte) (sum uint32) {
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	return sum
}

func foldWords(b []byte) uint16 {
	sum := words(b)
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
