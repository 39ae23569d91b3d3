package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// place is where an entry of the EAM table was written.
type place struct{ ipv4, ipv6 *node }

// mappings reads [[translation.eam]], the explicit address mappings of RFC
// 7757 section 3.
func (c *checker) mappings(name string, n *node) {
	if !c.wants(name, n, listKind, "a list of tables, [["+name+"]]") {
		return
	}
	for _, item := range n.items {
		if !c.wants(name, item, tableKind, "a table with ipv4 and ipv6") {
			continue
		}
		c.mapping(name, item)
	}
}

func (c *checker) mapping(name string, entry *node) {
	c.entry = Mapping{}
	c.table(name, entry, eamKeys)
	m := c.entry
	at := place{entry.get("ipv4"), entry.get("ipv6")}
	if at.ipv4 == nil || at.ipv6 == nil {
		c.refuse(name, entry, "the entry has not both of its keys", "ipv4 and ipv6")
		return
	}
	if !m.IPv4.IsValid() || !m.IPv6.IsValid() {
		return
	}
	// RFC 7757 section 3.1: every IPv4 address needs a place of its own.
	if s4, s6 := 32-m.IPv4.Bits(), 128-m.IPv6.Bits(); s4 > s6 {
		c.refuse(name+".ipv6", at.ipv6, fmt.Sprintf("%s leaves %d bits for the %d bits of %q in ipv4", quote(at.ipv6.text), s6, s4, at.ipv4.text),
			fmt.Sprintf("a prefix length of at most %d", 128-s4))
		return
	}
	c.config.Translation.EAM = append(c.config.Translation.EAM, m)
	c.places = append(c.places, at)
}

var eamIPv4 = format[netip.Prefix]{
	allowed: "an IPv4 address or prefix",
	parse:   func(s string) (netip.Prefix, error) { return prefixOrAddress(s, "IPv4") },
}

var eamIPv6 = format[netip.Prefix]{
	allowed: "an IPv6 address or prefix",
	parse:   func(s string) (netip.Prefix, error) { return prefixOrAddress(s, "IPv6") },
}

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
func (c *checker) overlaps() {
	type column struct {
		name   string
		own    netip.Addr
		ownKey string
		of     func(Mapping) netip.Prefix
		at     func(place) *node
	}
	for _, col := range []column{
		{"translation.eam.ipv4", c.config.CLAT.IPv4, "clat.ipv4", func(m Mapping) netip.Prefix { return m.IPv4 }, func(p place) *node { return p.ipv4 }},
		{"translation.eam.ipv6", c.config.CLAT.IPv6, "clat.ipv6", func(m Mapping) netip.Prefix { return m.IPv6 }, func(p place) *node { return p.ipv6 }},
	} {
		seen := map[netip.Prefix]bool{}
		for i, m := range c.config.Translation.EAM {
			p, n := col.of(m), col.at(c.places[i])
			switch {
			case seen[p]:
				c.refuse(col.name, n, fmt.Sprintf("%s occurs twice", quote(n.text)), "each prefix once")
			case col.own.IsValid() && p == netip.PrefixFrom(col.own, col.own.BitLen()):
				c.refuse(col.name, n, fmt.Sprintf("%s is %s, which the CLAT has already", quote(n.text), col.ownKey), "other prefixes")
			}
			seen[p] = true
		}
		for i, m := range c.config.Translation.EAM {
			p, n := col.of(m), col.at(c.places[i])
			for bits := p.Bits() - 1; bits >= 0; bits-- {
				if outer := netip.PrefixFrom(p.Addr(), bits).Masked(); seen[outer] {
					c.warn(col.name, n, fmt.Sprintf("%s lies in %q of another entry; the longer prefix wins", quote(n.text), outer))
					break
				}
			}
		}
	}
}
