package lab

import (
	"fmt"
	"net"
	"net/netip"

	"tnat64d/siit"
)

// The lab's addresses, all from documentation ranges (RFC 3849, 5737, 9637).
var (
	WellKnownPrefix = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 section 2.1

	LaptopLink   = netip.MustParsePrefix("2001:db8:1::/64") // laptop - router
	RouterIPv6   = netip.MustParseAddr("2001:db8:1::1")
	RouterLocal  = netip.MustParseAddr("fe80::1")
	RouterIPv4   = netip.MustParseAddr("192.0.2.1")
	ISPIPv4      = netip.MustParseAddr("192.0.2.2")
	ServerIPv4   = netip.MustParseAddr("198.51.100.7")
	Pool         = netip.MustParsePrefix("203.0.113.0/24") // of the PLAT, for its IPv6 hosts
	PLATIPv4     = netip.MustParseAddr("203.0.113.1")      // the PLAT itself, as a hop
	NativeLaptop = netip.MustParseAddr("192.0.2.66")       // only with native IPv4

	routerISP4    = netip.MustParsePrefix("192.0.2.0/30")
	ispServer4    = netip.MustParsePrefix("198.51.100.0/24")
	ispServerISP4 = netip.MustParseAddr("198.51.100.1")
	nativeLink    = netip.MustParsePrefix("192.0.2.64/26")

	moreLinks = netip.MustParsePrefix("2001:db8:100::/44") // laptop - router of other networks

	// Only without a PLAT, when IPv6 goes all the way to the server.
	routerISP6    = netip.MustParsePrefix("2001:db8:2::/64")
	routerISP6R   = netip.MustParseAddr("2001:db8:2::1")
	routerISP6I   = netip.MustParseAddr("2001:db8:2::2")
	ispServer6    = netip.MustParsePrefix("2001:db8:3::/64")
	ispServer6I   = netip.MustParseAddr("2001:db8:3::1")
	ispServer6Srv = netip.MustParseAddr("2001:db8:3::7")
)

// Interface names, each inside its host.
const (
	Uplink  = "wlan0" // laptop, towards the router
	Uplink2 = "eth0"  // laptop, towards a second router: Options.Second
	TUN     = "nat64" // router, into the PLAT
	lan     = "lan0"  // router, towards the laptop
	wan     = "wan0"  // router, towards the isp
	ispWest = "eth0"  // isp, towards the router
	ispEast = "eth1"  // isp, towards the server
	eth     = "eth0"  // server

	RouterInside  = lan // for who configures the router
	RouterOutside = wan
)

// hardwareAddr returns the fixed Ethernet address of the lab's interface n, so
// that SLAAC addresses are the same in every lab (the laptop's is
// 2001:db8:1::ff:fe00:10).
func hardwareAddr(n byte) net.HardwareAddr { return net.HardwareAddr{0x02, 0, 0, 0, 0, n} }

// PREF64OfLength returns a documentation prefix of one of the six lengths of
// RFC 6052 that does not overlap the lab's own links; for 96 that is the
// well-known prefix.
func PREF64OfLength(bits int) (netip.Prefix, error) {
	switch bits {
	case 96:
		return WellKnownPrefix, nil
	case 64, 56, 48, 40, 32:
		return netip.MustParseAddr("3fff:64:6400:6400::").Prefix(bits)
	}
	return netip.Prefix{}, fmt.Errorf("PREF64 length %d is not one of 32, 40, 48, 56, 64, 96 (RFC 6052 section 2.2)", bits)
}

// Synthesize returns the IPv6 address that stands for v4 behind pref64, a prefix
// of a length that RFC 6052 section 2.2 allows.
func Synthesize(pref64 netip.Prefix, v4 netip.Addr) netip.Addr {
	p, err := siit.NewPrefix(pref64)
	if err != nil {
		panic(err) // checkPREF64 refuses it
	}
	return p.Embed(v4)
}

// checkPREF64 refuses what the lab cannot route to its PLAT.
func checkPREF64(p netip.Prefix) error {
	if !p.IsValid() || !p.Addr().Is6() {
		return fmt.Errorf("PREF64 %q is not an IPv6 prefix", p)
	}
	if _, err := PREF64OfLength(p.Bits()); err != nil {
		return err
	}
	if p != p.Masked() {
		return fmt.Errorf("PREF64 %q has bits set beyond its length; did you mean %q?", p, p.Masked())
	}
	if p.Bits() == 96 && p.Addr().As16()[8] != 0 {
		return fmt.Errorf("PREF64 %q: bits 64 to 71 must be zero (RFC 6052 section 2.2)", p)
	}
	for _, own := range []netip.Prefix{LaptopLink, routerISP6, ispServer6, moreLinks} {
		if p.Overlaps(own) {
			return fmt.Errorf("PREF64 %q overlaps the lab's own link %q; a prefix from 3fff::/20 does not", p, own)
		}
	}
	return nil
}
