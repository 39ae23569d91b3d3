package siit

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// v4 returns a as a number.
func v4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// cidr is an IPv4 prefix as numbers.
type cidr struct{ addr, mask uint32 }

func inAny(set []cidr, a uint32) bool {
	for _, c := range set {
		if a&c.mask == c.addr {
			return true
		}
	}
	return false
}

// cidrs returns the IPv4 networks of a list without those inside others.
func cidrs(networks []netip.Prefix) (set []cidr, err error) {
	networks = slices.Clone(networks)
	slices.SortFunc(networks, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, n := range networks {
		if !n.IsValid() || !n.Addr().Is4() {
			return nil, fmt.Errorf("%q is not an IPv4 network", n)
		}
		if a := v4(n.Masked().Addr()); !inAny(set, a) {
			set = append(set, cidr{a, ^uint32(uint64(1)<<(32-n.Bits()) - 1)})
		}
	}
	return set, nil
}

// illegalSource4 reports whether no packet may come from a: unspecified and
// "this network", loopback, multicast, class E, broadcast (RFC 1812 section 5.3.7).
func illegalSource4(a uint32) bool {
	return a>>24 == 0 || a>>24 == 127 || a >= 0xe0000000
}

// illegalDestination4 reports whether packets to a must not leave the host
// through a translator: the above, link-local, and the block of the CLATs
// themselves (RFC 7335).
func illegalDestination4(a uint32) bool {
	return illegalSource4(a) || isLinkLocal4(a) || isCLAT4(a)
}

// isLinkLocal4 reports whether a lies in 169.254.0.0/16 (RFC 3927), which no
// router forwards.
func isLinkLocal4(a uint32) bool { return a>>16 == 0xa9fe }

// isCLAT4 reports whether a lies in 192.0.0.0/29, the block of the CLATs'
// IPv4 addresses (RFC 7335).
func isCLAT4(a uint32) bool { return a&^7 == 0xc0000000 }

// private lists what must not stand behind the well-known prefix where RFC
// 6052 section 3.1 is taken by the letter: private and special-purpose
// addresses. The documentation prefixes are left out, as in laboratories they
// stand for global addresses and nowhere else are they in use.
var private = []cidr{
	{0x0a000000, 0xff000000}, // 10.0.0.0/8
	{0x64400000, 0xffc00000}, // 100.64.0.0/10
	{0xa9fe0000, 0xffff0000}, // 169.254.0.0/16
	{0xac100000, 0xfff00000}, // 172.16.0.0/12
	{0xc0000000, 0xffffff00}, // 192.0.0.0/24
	{0xc0a80000, 0xffff0000}, // 192.168.0.0/16
	{0xc6120000, 0xfffe0000}, // 198.18.0.0/15
}

// DummyIPv4 is the IPv4 dummy address, 192.0.0.8, which is never a destination: the
// source of ICMP errors from nodes without an IPv4 address (RFC 7600, erratum 4430;
// draft-ietf-v6ops-icmpext-xlat-v6only-source).
var DummyIPv4 = netip.AddrFrom4([4]byte{192, 0, 0, 8})

const dummy4 = 0xc0000008 // DummyIPv4

// isLinkLocal6 reports whether the address in the first 16 bytes of a is
// link-local (fe80::/10), from where no router forwards.
func isLinkLocal6(a []byte) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// illegalSource6 reports whether no packet may come from the address in the
// first 16 bytes of a: ::, ::1 and multicast.
func illegalSource6(a []byte) bool {
	return a[0] == 0xff || binary.BigEndian.Uint64(a) == 0 && binary.BigEndian.Uint64(a[8:]) <= 1
}
