package pref64

import (
	"errors"
	"fmt"
	"net/netip"
)

// unusable are the addresses that no PREF64 may contain: a packet to one of
// them would never reach a NAT64.
var unusable = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("ff00::/8"), "multicast addresses"},
	{netip.MustParsePrefix("fe80::/10"), "link-local addresses"},
	{netip.MustParsePrefix("::/128"), "the unspecified address"},
	{netip.MustParsePrefix("::1/128"), "the loopback address"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped addresses"},
}

// Check returns p as a PREF64, the bits beyond its length cleared, or an error
// that says what is wrong with it, fit for the user who wrote it.
//
// A /96 whose bits 64 to 71 are not zero is accepted. RFC 6052 section 2.2
// asks administrators to avoid it, but it translates like any other.
func Check(p netip.Prefix) (netip.Prefix, error) {
	switch {
	case !p.IsValid():
		return netip.Prefix{}, errors.New("invalid PREF64")
	case p.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("invalid PREF64 %q: it is an IPv4 prefix", p)
	}
	switch p.Bits() {
	case 32, 40, 48, 56, 64, 96:
	default:
		return netip.Prefix{}, fmt.Errorf("invalid PREF64 %q: its length must be 32, 40, 48, 56, 64 or 96 (RFC 6052 section 2.2)", p)
	}
	p = p.Masked()
	for _, u := range unusable {
		if p.Overlaps(u.prefix) {
			return netip.Prefix{}, fmt.Errorf("invalid PREF64 %q: %s cannot be translated", p, u.what)
		}
	}
	return p, nil
}
