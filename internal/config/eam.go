package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// eamKeys are the keys of one [[translation.eam]], an explicit address mapping
// (RFC 7757 section 3).
func eamKeys(m *Mapping) []key {
	return []key{text("ipv4", &m.IPv4, eamIPv4), text("ipv6", &m.IPv6, eamIPv6)}
}

// checkMapping refuses a mapping in which IPv4 addresses have no place of their
// own (RFC 7757 section 3.1).
func checkMapping(c *checker, name string, n *node, m Mapping) bool {
	s4, s6 := 32-m.IPv4.Bits(), 128-m.IPv6.Bits()
	if s4 <= s6 {
		return true
	}
	ipv4, ipv6 := n.get("ipv4"), n.get("ipv6")
	c.refuse(name+".ipv6", ipv6, fmt.Sprintf("%s has %d bits after its prefix, but %q in ipv4 has %d", quote(ipv6.text), s6, ipv4.text, s4),
		fmt.Sprintf("a prefix length of at most %d", 128-s4))
	return false
}

var eamIPv4 = format[netip.Prefix]{
	allowed: "an IPv4 address or prefix",
	parse:   func(s string) (netip.Prefix, error) { return prefixOrAddress(s, "IPv4") },
}

var eamIPv6 = format[netip.Prefix]{
	allowed: "an IPv6 address or prefix",
	parse: func(s string) (netip.Prefix, error) {
		p, err := prefixOrAddress(s, "IPv6")
		if err != nil {
			return p, err
		}
		for _, never := range notSteered {
			if p.Overlaps(never) {
				return p, fmt.Errorf("overlaps %s, which never leaves the link", never)
			}
		}
		return p, nil
	},
}

// notSteered are prefixes that the packet path does not take from the kernel (package
// datapath/steerable): no CLAT starts with a mapping to one.
var notSteered = []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("::1/128")}

// prefixOrAddress parses a prefix; without a length it is a single address
// (RFC 7757 section 3.1).
func prefixOrAddress(s, family string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return prefix(s, family)
	}
	a, err := address(s, family)
	return netip.PrefixFrom(a, a.BitLen()), err
}

// overlaps refuses prefixes that occur twice in a column of the EAM table,
// also beside the CLAT's own pair, and warns about prefixes that contain
// another: the longer one wins, which may not be what was meant (RFC 7757
// section 3.2.1).
func (r *reading) overlaps() {
	type column struct {
		name, key string
		own       netip.Addr
		ownKey    string
		of        func(Mapping) netip.Prefix
	}
	for _, col := range []column{
		{"translation.eam.ipv4", "ipv4", r.config.CLAT.IPv4, "clat.ipv4", func(m Mapping) netip.Prefix { return m.IPv4 }},
		{"translation.eam.ipv6", "ipv6", r.config.CLAT.IPv6, "clat.ipv6", func(m Mapping) netip.Prefix { return m.IPv6 }},
	} {
		seen := map[netip.Prefix]bool{}
		for i, m := range r.config.Translation.EAM {
			p, n := col.of(m), r.eam[i].get(col.key)
			switch {
			case seen[p]:
				r.refuse(col.name, n, fmt.Sprintf("%s occurs twice", quote(n.text)), "each prefix once")
			case col.own.IsValid() && p == netip.PrefixFrom(col.own, col.own.BitLen()):
				r.refuse(col.name, n, fmt.Sprintf("%s is %s, the CLAT's own address", quote(n.text), col.ownKey), "other prefixes")
			}
			seen[p] = true
		}
		for i, m := range r.config.Translation.EAM {
			p, n := col.of(m), r.eam[i].get(col.key)
			for bits := p.Bits() - 1; bits >= 0; bits-- {
				if outer := netip.PrefixFrom(p.Addr(), bits).Masked(); seen[outer] {
					r.warn(col.name, n, fmt.Sprintf("%s lies in %q of another entry; the longer prefix wins", quote(n.text), outer))
					break
				}
			}
		}
	}
}
