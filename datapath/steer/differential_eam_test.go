package steer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

func eam(v4, v6 string) siit.EAM {
	return siit.EAM{IPv4: netip.MustParsePrefix(v4), IPv6: netip.MustParsePrefix(v6)}
}

// eamConfigs are CLATs with explicit mappings: of single addresses and prefixes,
// nested in each other, with suffixes of the same length and of different ones.
func eamConfigs() (configs []siit.Config) {
	nested := []siit.EAM{
		eam("192.0.2.1/32", "2001:db8:aaaa::/128"),
		eam("192.0.2.2/32", "2001:db8:bbbb::b/128"),
		eam("192.0.2.16/28", "2001:db8:cccc::/124"),
		eam("192.0.2.20/32", "2001:db8:cccc::f/128"), // another address of the one above
		eam("192.0.2.128/26", "2001:db8:dddd::/64"),
		eam("192.0.2.192/29", "2001:db8:eeee:8::/62"),
		eam("192.0.2.224/31", "64:ff9b::/127"), // inside PREF64
		eam("198.51.100.0/24", "2001:db8:ffff::/40"),
		eam("10.0.0.0/8", "2001:db0::/32"),
		eam("10.1.0.0/16", "2001:db0:1:200::/56"),
		eam("10.1.2.3/32", "2001:db0:1:203::/64"), // one address, a prefix
		eam("127.0.0.0/8", "2001:db8:7f00::/104"),
		eam("224.0.0.0/4", "2001:db8:e000::/36"),
	}
	var many []siit.EAM
	for i := range 10_000 {
		many = append(many, siit.EAM{
			IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 32),
			IPv6: netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:1234::%x:%x", i>>8, i)), 128),
		})
	}
	everything := []siit.EAM{eam("0.0.0.0/0", "2001:db8:ff00::/96"), eam("192.0.2.4/30", "2001:db8:bbbb::/96")}
	for _, list := range [][]siit.EAM{nested, many, everything} {
		for _, pref64 := range []string{"64:ff9b::/96", "2001:db9:100::/40"} {
			p := netip.MustParsePrefix(pref64)
			pair := neutralPair(p, "2001:db9:1::1:0:0")
			configs = append(configs,
				siit.Config{Mapping: siit.Mapping{PREF64: p, CLAT: pair, EAM: list}, DropWKPPrivate: true},
				siit.Config{Mapping: siit.Mapping{PREF64: p, CLAT: siit.Pair{IPv4: pair.IPv4, IPv6: netip.MustParseAddr("2001:db9:1::c1a7")}, EAM: list},
					LocalIPv4: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
			)
		}
	}
	return configs
}

// choose chooses the addresses of the next packet.
func (d *differential) choose() {
	m := d.cfg.Mapping
	d.own, d.peer = m.CLAT, siit.Pair{}
	if len(m.EAM) == 0 {
		return
	}
	if d.rand.IntN(3) > 0 {
		d.own = inside(d.rand, m.EAM[d.rand.IntN(len(m.EAM))])
	}
	switch d.rand.IntN(12) {
	case 0, 1, 2:
		d.peer = inside(d.rand, m.EAM[d.rand.IntN(len(m.EAM))])
	case 3:
		d.peer = m.CLAT
	}
}

// inside returns a pair of addresses that m says are the same, more often than not.
func inside(r *rand.Rand, m siit.EAM) siit.Pair {
	v4, v6 := m.IPv4.Masked().Addr().As4(), m.IPv6.Masked().Addr().As16()
	suffix := uint64(r.Uint32()) << m.IPv4.Bits() & 0xffffffff // at the upper end of 32 bits
	binary.BigEndian.PutUint32(v4[:], binary.BigEndian.Uint32(v4[:])|uint32(suffix>>m.IPv4.Bits()))
	for i := range 32 - m.IPv4.Bits() {
		if at := m.IPv6.Bits() + i; suffix>>(31-i)&1 == 1 {
			v6[at/8] |= 0x80 >> (at % 8)
		}
	}
	if r.IntN(4) == 0 { // behind the suffix there may be more
		for at := m.IPv6.Bits() + 32 - m.IPv4.Bits(); at < 128; at++ {
			if r.IntN(2) == 0 {
				v6[at/8] |= 0x80 >> (at % 8)
			}
		}
	}
	if r.IntN(16) == 0 {
		v6[15]++
		v4[3]++
	}
	return siit.Pair{IPv4: netip.AddrFrom4(v4), IPv6: netip.AddrFrom16(v6)}
}

// A packet that user space has written leaves by the uplink, though both its
// addresses are explicitly mapped: only what comes from the uplink is translated.
func TestMappedPairOfUserSpace(t *testing.T) {
	b := newEngineBench(t, true)
	b.use(t, eamConfigs()[0])
	packet := udp(netip.MustParseAddr("2001:db8:aaaa::"), netip.MustParseAddr("2001:db8:bbbb::b"), 8)
	frame := ethernet(nil, nil, etherIPv6, packet)
	verdict, out := run(t, b.s.objects.TunTranslate, frame)
	if verdict != redirect || !bytes.Contains(out, packet) || counters(t, b.s).SteeredOut != 1 {
		t.Errorf("verdict %#x, %+v, %x", verdict, counters(t, b.s), out)
	}
}
