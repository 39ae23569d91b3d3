package plan

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// sums compares the sum of the pseudo-header addresses in both families, by
// gVisor's checksum and not by ours.
func sums(id identity, v6, dst netip.Addr) (v4sum, v6sum uint16) {
	sum := func(as ...netip.Addr) uint16 {
		var s uint16
		for _, a := range as {
			s = checksum.Checksum(a.AsSlice(), s)
		}
		if s == 0 { // 0 and 0xffff are the same number in one's complement
			s = 0xffff
		}
		return s
	}
	return sum(id.ipv4, dst), sum(v6, embed(id.pref64, dst))
}

// embed is RFC 6052 section 2.2, written from the RFC's table and apart from siit.
func embed(p netip.Prefix, v4 netip.Addr) netip.Addr {
	at := map[int][4]int{
		32: {4, 5, 6, 7}, 40: {5, 6, 7, 9}, 48: {6, 7, 9, 10}, 56: {7, 9, 10, 11}, 64: {9, 10, 11, 12}, 96: {12, 13, 14, 15},
	}[p.Bits()]
	a := p.Masked().Addr().As16()
	for i, b := range v4.As4() {
		a[at[i]] = b
	}
	return netip.AddrFrom16(a)
}

func randomIdentity(r *rand.Rand, bits int) identity {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], r.Uint64())
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	secret := binary.BigEndian.AppendUint64(nil, r.Uint64())
	id := identity{secret: secret, iface: "wlan0", ipv4: randomIPv4(r)}
	id.prefix = netip.PrefixFrom(netip.AddrFrom16(b), 64).Masked()
	binary.BigEndian.PutUint64(b[:8], r.Uint64())
	id.pref64 = netip.PrefixFrom(netip.AddrFrom16(b), bits)
	return id
}

func randomIPv4(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, r.Uint32())))
}

// RFC 6052 section 4.1: with PREF64 of 96 or 32 bits no destination changes
// a transport checksum.
func TestAddressIsChecksumNeutral(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, bits := range []int{96, 32} {
		for range 2000 {
			id := randomIdentity(r, bits)
			v6 := id.address(r.IntN(maxTries))
			dst := randomIPv4(r)
			if v4sum, v6sum := sums(id, v6, dst); v4sum != v6sum {
				t.Fatalf("%s <-> %s with %s to %s: sums %#04x and %#04x", id.ipv4, v6, id.pref64, dst, v4sum, v6sum)
			}
		}
	}
}

// With the other lengths the CLAT's own pair is neutral for itself.
func TestAddressIsNeutralForItself(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, bits := range []int{40, 48, 56, 64} {
		for range 500 {
			id := randomIdentity(r, bits)
			v6 := id.address(0)
			a, b := checksum.Checksum(id.ipv4.AsSlice(), 0), checksum.Checksum(v6.AsSlice(), 0)
			if a%0xffff != b%0xffff {
				t.Fatalf("%s <-> %s: sums %#04x and %#04x", id.ipv4, v6, a, b)
			}
		}
	}
}

// An address and prefix worked out by hand.
func TestNeutralWordOfTheExample(t *testing.T) {
	id := identity{ipv4: netip.MustParseAddr("192.0.0.1"), pref64: netip.MustParsePrefix("64:ff9b::/96")}
	a := netip.MustParseAddr("2001:db8:aaaa:1::").As16()
	if got := id.neutral(a); got != 0xe79c {
		t.Errorf("last word %#04x, want 0xe79c", got)
	}
}

func TestAddressInPrefixAndNotReserved(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		id := randomIdentity(r, 96)
		a := id.address(0)
		if !id.prefix.Contains(a) {
			t.Fatalf("%s is not in %s", a, id.prefix)
		}
		if b := a.As16()[8]; b&3 != 0 {
			t.Fatalf("%s has the universal or the group bit set", a)
		}
	}
}

// Same network, same address; another network, interface, host or try, another.
func TestAddressDependsOnWhatItShould(t *testing.T) {
	base := identity{
		secret: []byte("s"), prefix: netip.MustParsePrefix("2001:db8:1::/64"), iface: "wlan0",
		ipv4: netip.MustParseAddr("192.0.0.1"), pref64: netip.MustParsePrefix("64:ff9b::/96"),
	}
	other := func(change func(*identity)) netip.Addr {
		id := base
		change(&id)
		return id.address(0)
	}
	iid := func(a netip.Addr) [6]byte { b := a.As16(); return [6]byte(b[8:14]) }
	if base.address(0) != other(func(*identity) {}) {
		t.Error("not stable")
	}
	for what, a := range map[string]netip.Addr{
		"secret":    other(func(id *identity) { id.secret = []byte("t") }),
		"prefix":    other(func(id *identity) { id.prefix = netip.MustParsePrefix("2001:db8:2::/64") }),
		"interface": other(func(id *identity) { id.iface = "wlan1" }),
		"try":       base.address(1),
	} {
		if iid(a) == iid(base.address(0)) {
			t.Errorf("another %s gives the same identifier %s", what, a)
		}
	}
}

// TestAddressInLongPrefix forms addresses in on-link prefixes of any length up to
// /120: all candidates differ, are in the prefix and not reserved, and leave the
// checksum alone where there is room for that.
func TestAddressInLongPrefix(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for bits := 65; bits <= maxFormable; bits++ {
		for range 200 {
			id := randomIdentity(r, 96)
			id.prefix = netip.PrefixFrom(randomIdentity(r, 96).address(0), bits).Masked()
			seen := map[netip.Addr]bool{}
			for n := range id.tries() {
				a := id.address(n)
				seen[a] = true
				if !id.prefix.Contains(a) || a == id.prefix.Addr() || id.reserved(a) {
					t.Fatalf("candidate %d of %s is %s", n, id.prefix, a)
				}
				if again := id.address(n); a != again {
					t.Fatalf("candidate %d of %s is %s and %s", n, id.prefix, a, again)
				}
				dst := randomIPv4(r)
				v4sum, v6sum := sums(id, a, dst)
				if neutral := v4sum == v6sum; !neutral && (bits <= 104 || bits < 112 && n == 0) {
					t.Fatalf("%s in %s is not neutral", a, id.prefix)
				}
			}
			if len(seen) < 2 {
				t.Fatalf("%d different candidates in %s", len(seen), id.prefix)
			}
		}
	}
}

func TestReservedIdentifiers(t *testing.T) {
	for _, c := range []struct {
		prefix, addr string
		want         bool
	}{
		{"2001:db8::/64", "2001:db8::", true},
		{"2001:db8::/64", "2001:db8::1", false},
		{"2001:db8::/80", "2001:db8::", true},
		{"2001:db8::/80", "2001:db8::ffff:ffff:ff80", true},
		{"2001:db8::/80", "2001:db8::ffff:ffff:ff7f", false},
		{"2001:db8::/112", "2001:db8::fffe", true},
		{"2001:db8::/112", "2001:db8::ff00", false},
		{"2001:db8::/120", "2001:db8::fe", true},
		{"2001:db8::/120", "2001:db8::f0", false},
		{"2001:db8::/120", "2001:db8::7e", false},
		{"2001:db8::/120", "2001:db8::", true},
	} {
		id := identity{prefix: netip.MustParsePrefix(c.prefix)}
		if got := id.reserved(netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%s in %s: reserved %t", c.addr, c.prefix, got)
		}
	}
}
