// Package steerable says between which links packets can be steered, and for
// which addresses. All ways of steering agree on it.
package steerable

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// LinkHeader reports whether packets on the link begin with an Ethernet header;
// otherwise they begin with the IP header. Other kinds of link are an error.
//
// The types without header are those that the kernel's dev_is_mac_header_xmit
// lists, because bpf_redirect treats a packet by that list.
func LinkHeader(link netlink.Link) (bool, error) {
	a := link.Attrs()
	switch a.EncapType {
	case "ether":
		return true, nil
	case "none", // TUN, WireGuard
		"unknown519", // ARPHRD_RAWIP: mobile broadband
		"ppp",
		"ipip", "tunnel6", "sit", "gre",
		"unknown823": // ARPHRD_IP6GRE
		return false, nil
	}
	return false, fmt.Errorf("interface %q has a link type that is neither Ethernet nor plain IP: %q", a.Name, a.EncapType)
}

var notSteered = []netip.Prefix{
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("::1/128"),
}

// CheckPrefix refuses what is not an IPv6 prefix, and prefixes that would take
// the host's own packets from it.
func CheckPrefix(p netip.Prefix) error {
	if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
		return fmt.Errorf("%q is not an IPv6 prefix", p)
	}
	for _, never := range notSteered {
		if p.Overlaps(never) {
			return fmt.Errorf("%q overlaps %s, which never leaves the link", p, never)
		}
	}
	return nil
}
