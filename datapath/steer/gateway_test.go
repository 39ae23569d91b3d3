package steer

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tnat64d/internal/soak"
	"tnat64d/siit"
)

// hostTable is a table of a gateway's hosts for package siit.
type hostTable struct {
	by4 map[uint32]bpfAddr6
	by6 map[bpfAddr6]uint32
}

func (h *hostTable) To4(hi, lo uint64) (uint32, bool) {
	a, ok := h.by6[bpfAddr6{Hi: hi, Lo: lo}]
	return a, ok
}

func (h *hostTable) To6(a uint32) (hi, lo uint64, ok bool) {
	b, ok := h.by4[a]
	return b.Hi, b.Lo, ok
}

func newGatewayBench(t testing.TB, hosts int) *engineBench {
	t.Helper()
	needsRoot(t)
	c := newConstants(0, true, 1000002)
	c.tunHeaderLen, c.explicit = ethernetLen, hosts
	g := &Gateway{}
	if err := g.load(c); err != nil {
		t.Fatalf("load: %+v", err)
	}
	t.Cleanup(func() { g.Close() })
	memory, err := mapQueueStates(g.objects.QueueStates)
	if err != nil {
		t.Fatal(err)
	}
	return &engineBench{gateway: g, queues: memory, scratch: siit.NewScratch(1), seed: c.flowSeed}
}

// serve makes both translate by the same configuration and hosts.
func (b *engineBench) serve(t testing.TB, cfg siit.Config, hosts []siit.Pair) {
	t.Helper()
	table := &hostTable{map[uint32]bpfAddr6{}, map[bpfAddr6]uint32{}}
	for _, p := range hosts {
		if err := b.gateway.Put(p.IPv4, p.IPv6); err != nil {
			t.Fatal(err)
		}
		table.by4[number4(p.IPv4)] = addr6(p.IPv6.As16())
		table.by6[addr6(p.IPv6.As16())] = number4(p.IPv4)
	}
	cfg.Mapping.Hosts = table
	tr, err := siit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.siit = tr
	if err := b.gateway.SetTranslation(gatewayTranslation(cfg)); err != nil {
		t.Fatal(err)
	}
}

// gatewayTranslation is what a gateway does with its configuration.
func gatewayTranslation(cfg siit.Config) *Translation {
	t := translationOf(cfg)
	t.DeniedIPv4 = append([]netip.Prefix{cfg.PoolIPv4}, cfg.DenyIPv4...)
	return t
}

func prefixes(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// TestGatewayDifferential throws packets at both engines of a gateway: of its
// hosts, of others, spoofed, to hosts, to addresses of the pool that nobody has, to
// denied networks, and from host to host.
func TestGatewayDifferential(t *testing.T) {
	perDirection := 80_000
	if testing.Short() {
		perDirection = 8_000
	}
	pool := netip.MustParsePrefix("100.64.0.0/16")
	hosts := []siit.Pair{
		{IPv4: netip.MustParseAddr("203.0.113.80"), IPv6: netip.MustParseAddr("2001:db9:1::80")}, // not of the pool
		{IPv4: netip.MustParseAddr("10.1.2.3"), IPv6: netip.MustParseAddr("2001:db9:1::81")},     // of a denied network
		{IPv4: netip.MustParseAddr("100.64.9.1"), IPv6: netip.MustParseAddr("fe80::9")},          // link-local
		{IPv4: netip.MustParseAddr("100.64.9.2"), IPv6: netip.MustParseAddr("::1")},
		{IPv4: netip.MustParseAddr("100.64.9.3"), IPv6: netip.MustParseAddr("ff0e::1")},
		{IPv4: netip.MustParseAddr("127.0.0.9"), IPv6: netip.MustParseAddr("2001:db9:1::82")},
	}
	for i := range 3000 {
		v6 := netip.MustParseAddr("2001:db9:1::").As16()
		binary.BigEndian.PutUint32(v6[8:], uint32(i)*2654435761)
		hosts = append(hosts, siit.Pair{IPv4: netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), IPv6: netip.AddrFrom16(v6)})
	}
	var configs []siit.Config
	for _, pref64 := range []string{
		"64:ff9b::/96", "2001:db8:1:2:3::/64", "2001:db8:1:200::/56", "2001:db8:1::/48", "2001:db8:100::/40", "2001:db8::/32",
	} {
		p := netip.MustParsePrefix(pref64)
		configs = append(configs,
			siit.Config{Mapping: siit.Mapping{PREF64: p}, PoolIPv4: pool, DenyIPv4: prefixes("10.0.0.0/8", "198.51.100.7/32", "192.168.0.0/16")},
			siit.Config{Mapping: siit.Mapping{PREF64: p}, PoolIPv4: pool, MTU6: 1400, MTU4: 1500, DropWKPPrivate: true},
		)
	}
	seed := soak.Seed(t)
	b := newGatewayBench(t, len(hosts))
	translated, refused := map[bool]int{}, map[bool]int{}
	for i, cfg := range configs {
		b.serve(t, cfg, hosts)
		d := &differential{cfg: cfg, rand: rand.New(rand.NewPCG(seed, uint64(i)))}
		for _, to6 := range []bool{true, false} {
			for range perDirection / len(configs) {
				d.chooseHost(hosts, to6)
				packet, g := d.packet(to6)
				took, err := b.compare(t, packet, g)
				if err != nil {
					t.Fatalf("seed %d, %+v: %v", seed, cfg, err)
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
}

// chooseHost chooses the addresses of the next packet.
func (d *differential) chooseHost(hosts []siit.Pair, to6 bool) {
	host := func() siit.Pair {
		if d.rand.IntN(6) == 0 {
			return hosts[d.rand.IntN(10)]
		}
		return hosts[d.rand.IntN(len(hosts))]
	}
	// The one behind PREF64.
	v4 := netip.AddrFrom4(d.remote())
	switch d.rand.IntN(8) {
	case 0: // another host
		v4 = host().IPv4
	case 1: // of the pool, free more often than not
		v4 = netip.AddrFrom4([4]byte{100, 64, byte(d.rand.Uint32()), byte(d.rand.Uint32())})
	case 2:
		v4 = netip.AddrFrom4([4]byte{198, 51, 100, byte(6 + d.rand.IntN(3))})
	}
	remote := siit.Pair{IPv4: v4, IPv6: netip.AddrFrom16(d.embed(v4.As4()))}
	own := host()
	switch d.rand.IntN(12) {
	case 0: // spoofed or unknown
		a := own.IPv6.As16()
		a[8+d.rand.IntN(8)]++
		own = siit.Pair{IPv4: netip.AddrFrom4([4]byte{100, 64, 200, byte(d.rand.Uint32())}), IPv6: netip.AddrFrom16(a)}
	case 1:
		own = siit.Pair{IPv4: v4, IPv6: netip.AddrFrom16(d.embed(own.IPv4.As4()))} // from behind PREF64
	}
	// packet sends IPv4 from own to peer and IPv6 from peer to own.
	d.own, d.peer = remote, own
}

// What was removed is not translated any more, and Seen follows the packets of a
// host and not those to it.
func TestGatewayHosts(t *testing.T) {
	b := newGatewayBench(t, 16)
	host := siit.Pair{IPv4: netip.MustParseAddr("100.64.0.2"), IPv6: netip.MustParseAddr("2001:db8:1::2")}
	b.serve(t, siit.Config{Mapping: siit.Mapping{PREF64: netip.MustParsePrefix("64:ff9b::/96")}, PoolIPv4: netip.MustParsePrefix("100.64.0.0/16")}, []siit.Pair{host})
	seen := func() uint64 {
		t.Helper()
		n, err := b.gateway.Seen(host.IPv6)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	out, in := udp(host.IPv6, plat6, 8), udp4(plat4, host.IPv4)
	if b.kernel(t, in, gso{}) == nil || seen() != 0 {
		t.Errorf("a packet to the host is not translated, or counts as one of the host: seen %d", seen())
	}
	if b.kernel(t, out, gso{}) == nil || seen() == 0 {
		t.Errorf("a packet of the host is not translated or does not count: seen %d", seen())
	}
	last := seen()
	eventually(t, "a later packet counts", func() bool { return b.kernel(t, out, gso{}) != nil && seen() != last })
	for range 2 { // the second time there is nothing to remove
		if err := b.gateway.Remove(host.IPv4, host.IPv6); err != nil {
			t.Fatal(err)
		}
		for _, p := range [][]byte{in, out} {
			if b.kernel(t, p, gso{}) != nil {
				t.Errorf("translated without a map: %x", p)
			}
		}
	}
	if seen() != 0 {
		t.Error("a host without a map is seen")
	}
	for i := range 17 {
		err := b.gateway.Put(netip.AddrFrom4([4]byte{100, 64, 1, byte(i)}), netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}))
		if (err != nil) != (i == 16) {
			t.Errorf("map %d: %v", i, err)
		}
	}
}

// udp4 is an empty datagram.
func udp4(src, dst netip.Addr) []byte {
	p := ipv4(src, dst)
	p[25], p[27] = 8, 1 // length and some checksum
	fixHeaderChecksum(p)
	return p
}
