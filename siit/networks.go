package siit

import (
	"errors"
	"fmt"
	"net/netip"
)

// Network is an IPv4 network that is not behind [Mapping.PREF64] but behind another
// prefix, or behind none.
type Network struct {
	IPv4   netip.Prefix
	PREF64 netip.Prefix // the zero Prefix: nobody reaches the network
}

// networkTable finds the prefix of an IPv4 address. The longest network wins.
type networkTable struct {
	by4      column
	prefixes []*Prefix // by entry; nil: none
	distinct []Prefix  // longest first
	wkp      []bool    // by entry: the well-known prefix
}

func newNetworkTable(list []Network) (t networkTable, err error) {
	entries := make([]eamEntry, len(list))
	known := map[netip.Prefix]int{} // places in t.distinct
	at := make([]int, len(list))
	for i, n := range list {
		if !n.IPv4.IsValid() || !n.IPv4.Addr().Is4() {
			return t, fmt.Errorf("%q is not an IPv4 network", n.IPv4)
		}
		entries[i] = eamEntry{addr4: u128{hi: uint64(v4(n.IPv4.Masked().Addr())) << 32}, bits4: uint(n.IPv4.Bits())}
		at[i] = -1
		if n.PREF64 == (netip.Prefix{}) {
			continue
		}
		p, err := NewPrefix(n.PREF64)
		if err != nil {
			return t, fmt.Errorf("network %v: %w", n.IPv4, err)
		}
		key := n.PREF64.Masked()
		if _, ok := known[key]; !ok {
			for other := range known {
				if other.Overlaps(key) {
					return t, fmt.Errorf("the prefixes %v and %v of networks overlap", other, key)
				}
			}
			known[key] = len(t.distinct)
			t.distinct = append(t.distinct, p)
		}
		at[i] = known[key]
	}
	for i, d := range at {
		var p *Prefix
		if d >= 0 {
			p = &t.distinct[d]
		}
		t.prefixes = append(t.prefixes, p)
		t.wkp = append(t.wkp, list[i].PREF64.IsValid() && list[i].PREF64.Masked() == WellKnownPrefix())
	}
	var dup int32
	if t.by4, dup = newColumn(entries, func(e *eamEntry) (u128, uint) { return e.addr4, e.bits4 }); dup >= 0 {
		return t, fmt.Errorf("network %v is in the table twice", list[dup].IPv4)
	}
	return t, nil
}

// checkCLAT refuses a CLAT address that a PLAT would take for its own.
func (t *networkTable) checkCLAT(a [16]byte) error {
	for i := range t.distinct {
		if t.distinct[i].contains(a[:]) {
			return errors.New("the CLAT address lies in the prefix of a network, and a PLAT drops packets from there")
		}
	}
	return nil
}

// prefixes are PREF64 and the networks with prefixes of their own.
type prefixes struct {
	pref     Prefix
	networks networkTable
	wkp      bool // pref is the well-known prefix

	// neutral: the CLAT pair and PREF64 together leave the sum of the
	// pseudo-header as it is, so that no transport checksum changes between
	// the CLAT address and PREF64 (RFC 6052 section 4.1).
	neutral bool
}

// prefixOf returns the prefix that an IPv4 address is behind, nil if there is none.
func (m *prefixes) prefixOf(a uint32) *Prefix {
	if len(m.networks.prefixes) == 0 {
		return &m.pref
	}
	if i := m.networks.by4.find(u128{hi: uint64(a) << 32}); i >= 0 {
		return m.networks.prefixes[i]
	}
	return &m.pref
}

// behind returns the IPv4 address for which the IPv6 address in the first 16 bytes
// of a stands. ok is false if a lies in no prefix, or in another than that of the
// network of the IPv4 address.
func (m *prefixes) behind(a []byte) (r uint32, ok bool) {
	if len(m.networks.prefixes) == 0 {
		if !m.pref.contains(a) {
			return 0, false
		}
		return m.pref.extract(a), true
	}
	for i := range m.networks.distinct {
		p := &m.networks.distinct[i]
		if !p.contains(a) {
			continue
		}
		r = p.extract(a)
		if own := m.prefixOf(r); own != nil && *own == *p {
			return r, true
		}
	}
	if !m.pref.contains(a) {
		return 0, false
	}
	r = m.pref.extract(a)
	own := m.prefixOf(r)
	return r, own != nil && *own == m.pref
}

// router4 maps the source of an ICMP error. A PLAT puts its own prefix in front of
// every router beyond, whichever network that is in.
func (m *prefixes) router4(a []byte) (uint32, how) {
	for i := range m.networks.distinct {
		if p := &m.networks.distinct[i]; p.contains(a) {
			return p.extract(a), byPREF64
		}
	}
	if len(m.networks.prefixes) > 0 && m.pref.contains(a) {
		return m.pref.extract(a), byPREF64
	}
	return 0, unmapped
}

// isNeutral reports whether checksums stay right between the CLAT pair and what
// is behind the prefix of an IPv4 address.
func (m *prefixes) isNeutral(a uint32) bool {
	own := m.prefixOf(a)
	return m.neutral && own != nil && *own == m.pref
}

// isWellKnown reports whether an IPv4 address is behind the well-known prefix.
func (m *prefixes) isWellKnown(a uint32) bool {
	if len(m.networks.prefixes) > 0 {
		if i := m.networks.by4.find(u128{hi: uint64(a) << 32}); i >= 0 {
			return m.networks.wkp[i]
		}
	}
	return m.wkp
}

// PrefixOf returns the prefix that an IPv4 address is behind. ok is false if there
// is none.
func (m Mapping) PrefixOf(a netip.Addr) (pref64 netip.Prefix, ok bool) {
	bits := -1
	pref64, ok = m.PREF64, m.PREF64.IsValid()
	for _, n := range m.Networks {
		if n.IPv4.Contains(a) && n.IPv4.Bits() > bits {
			bits, pref64, ok = n.IPv4.Bits(), n.PREF64, n.PREF64.IsValid()
		}
	}
	return pref64, ok
}
