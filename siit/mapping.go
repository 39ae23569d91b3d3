package siit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// mapping is a Mapping prepared for the packet path.
type mapping struct {
	explicit
	prefixes
	hairpin Hairpin

	dropPrivate  bool   // drop what PREF64 maps to a private address (RFC 6052 section 3.1)
	local4       []cidr // no source behind PREF64 is in these
	routed4      []cidr // nor in these, but that of an ICMP error
	deny4, pool4 []cidr // destinations that are refused
}

// how says by which rule an address was mapped.
type how uint8

const (
	unmapped how = iota
	byCLAT
	byEAM
	byPREF64
)

func newMapping(m Mapping) (mapping, error) {
	var q mapping
	var err error
	if q.pref, err = NewPrefix(m.PREF64); err != nil {
		return q, err
	}
	if q.eam, err = newEAMTable(m.EAM); err != nil {
		return q, err
	}
	if q.networks, err = newNetworkTable(m.Networks); err != nil {
		return q, err
	}
	q.wkp = m.PREF64.Masked() == WellKnownPrefix()
	if m.Hairpin > HairpinOff {
		return q, fmt.Errorf("unknown hairpin mode %d", m.Hairpin)
	}
	q.hairpin, q.hosts = m.Hairpin, m.Hosts
	if m.CLAT == (Pair{}) {
		if len(m.Networks) > 0 {
			return q, errors.New("only a CLAT has networks with prefixes of their own")
		}
		return q, nil
	}
	if !m.CLAT.IPv4.Is4() || !m.CLAT.IPv6.Is6() || m.CLAT.IPv6.Is4In6() {
		return q, fmt.Errorf("the CLAT pair %q, %q is not an IPv4 and an IPv6 address", m.CLAT.IPv4, m.CLAT.IPv6)
	}
	q.host = true
	q.hairpin = HairpinOff
	q.clat4 = v4(m.CLAT.IPv4)
	q.clat6 = m.CLAT.IPv6.As16()
	if q.pref.contains(q.clat6[:]) {
		return q, fmt.Errorf("the CLAT address %v lies in PREF64 %v, and a PLAT drops packets from there", m.CLAT.IPv6, m.PREF64)
	}
	if err := q.networks.checkCLAT(q.clat6); err != nil {
		return q, err
	}
	if _, err := newEAMTable(append([]EAM{{host(m.CLAT.IPv4), host(m.CLAT.IPv6)}}, m.EAM...)); err != nil {
		return q, fmt.Errorf("the CLAT pair and the EAM table contradict each other: %w", err)
	}
	q.clatHi = binary.BigEndian.Uint64(q.clat6[:])
	q.clatLo = binary.BigEndian.Uint64(q.clat6[8:])
	q.neutral = q.pref.Neutral(m.CLAT)
	return q, nil
}

// explicit has the addresses that are mapped one by one or by the EAM table (RFC 7757).
type explicit struct {
	eam    eamTable
	hosts  Hosts // nil: there are none
	host   bool  // a CLAT: one side of every packet is in clat or eam
	clat4  uint32
	clat6  [16]byte
	clatHi uint64
	clatLo uint64
}

// explicit6 maps an IPv4 address by the CLAT pair or the EAM table and writes
// the IPv6 address to dst.
func (m *explicit) explicit6(dst []byte, a uint32) how {
	if m.host && a == m.clat4 {
		copy(dst, m.clat6[:])
		return byCLAT
	}
	if len(m.eam.entries) != 0 && m.eam.to6(a, dst) {
		return byEAM
	}
	if m.hosts != nil {
		if hi, lo, ok := m.hosts.To6(a); ok {
			binary.BigEndian.PutUint64(dst, hi)
			binary.BigEndian.PutUint64(dst[8:], lo)
			return byEAM
		}
	}
	return unmapped
}

// explicit4 maps the IPv6 address in the first 16 bytes of a by the CLAT pair
// or the EAM table.
func (m *explicit) explicit4(a []byte) (uint32, how) {
	if m.host && binary.BigEndian.Uint64(a) == m.clatHi && binary.BigEndian.Uint64(a[8:]) == m.clatLo {
		return m.clat4, byCLAT
	}
	if len(m.eam.entries) != 0 {
		if r, ok := m.eam.to4(a); ok {
			return r, byEAM
		}
	}
	if m.hosts != nil {
		if r, ok := m.hosts.To4(binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])); ok {
			return r, byEAM
		}
	}
	return 0, unmapped
}

// mapped4 reports whether a is the IPv4 address of a host in the tables.
func (m *explicit) mapped4(a uint32) bool {
	var ipv6 [16]byte
	return m.explicit6(ipv6[:], a) != unmapped
}

// any6 maps an IPv4 address by whatever rule there is; explicit says whether
// EAM may be used (it may not where hairpinning forbids it, RFC 7757 section 4.2.1).
func (m *mapping) any6(dst []byte, a uint32, explicit bool) how {
	if explicit {
		if h := m.explicit6(dst, a); h != unmapped {
			return h
		}
	}
	p := m.prefixOf(a)
	if p == nil {
		return unmapped
	}
	p.embed(dst, a)
	return byPREF64
}

// any4 maps the IPv6 address in the first 16 bytes of a by whatever rule there is.
func (m *mapping) any4(a []byte) (uint32, how) {
	if r, h := m.explicit4(a); h != unmapped {
		return r, h
	}
	if r, ok := m.behind(a); ok {
		return r, byPREF64
	}
	return 0, unmapped
}

// own6 maps the address of our side: in a CLAT it must be the CLAT's or in the
// EAM table, in a router anything goes.
func (m *mapping) own6(dst []byte, a uint32, explicit bool) how {
	if m.host {
		return m.explicit6(dst, a)
	}
	return m.any6(dst, a, explicit)
}

// own4 is own6 for an IPv6 address.
func (m *mapping) own4(a []byte) (uint32, how) {
	if m.host {
		return m.explicit4(a)
	}
	return m.any4(a)
}

// addresses6 maps source and destination of an IPv4 packet and writes the two
// IPv6 addresses to dst[:32].
func (m *mapping) addresses6(dst []byte, h *header4) (neutral bool, r Reason) {
	if !m.host && !h.icmpError && illegalSource4(h.src) {
		return false, SourceIllegal
	}
	// Simple hairpinning: no EAM for the source, except for that of an ICMP
	// error which does not come from the node that its quote was sent to.
	explicit := m.hairpin == HairpinOff || h.icmpError && h.src != h.quotedDst
	hs := m.own6(dst, h.src, explicit)
	if hs == unmapped {
		if illegalSource4(h.src) {
			return false, SourceIllegal
		}
		return false, SourceNotOurs
	}
	hd := m.explicit6(dst[16:], h.dst)
	switch {
	case hd == unmapped && m.hosts != nil && illegalDestination4(h.dst):
		return false, DestinationIllegal
	case hd == unmapped && m.hosts != nil:
		return false, NoMap
	case hd == unmapped:
		p := m.prefixOf(h.dst)
		if p == nil {
			return false, NoPREF64
		}
		p.embed(dst[16:], h.dst)
		hd = byPREF64
	}
	if r = m.refused6(h.src, hs, h.dst, hd); r != None {
		return false, r
	}
	return hs == byCLAT && hd == byPREF64 && m.isNeutral(h.dst), None
}

// refused6 returns why no packet with these IPv4 addresses goes to the IPv6
// side, or None; by and to say how source and destination were mapped. Whether
// the source is illegal is not asked, as ICMP errors are exempt from that
// (RFC 7915 section 4.1).
func (m *mapping) refused6(src uint32, by how, dst uint32, to how) Reason {
	switch {
	case to == byCLAT: // to itself: the host's own business, and a loop if it came back
		return DestinationIllegal
	case to == byPREF64 && illegalDestination4(dst):
		return DestinationIllegal
	case m.dropPrivate && m.isPrivate(src, by, dst, to):
		return WKPPrivate
	}
	return None
}

// refused4 returns why no packet with these IPv4 addresses comes from the IPv6
// side, or None. Whether the destination is illegal is not asked.
func (m *mapping) refused4(src uint32, by how, dst uint32, to how) Reason {
	switch {
	case by == byCLAT: // only the translator itself sends from there, and not to here
		return SourceIllegal
	case by == byPREF64 && (illegalSource4(src) || isLinkLocal4(src) || m.host && isCLAT4(src)):
		return SourceIllegal
	case (by == byPREF64 || by == byEAM) && inAny(m.local4, src):
		return SourceLocalNetwork
	case m.dropPrivate && m.isPrivate(src, by, dst, to):
		return WKPPrivate
	}
	return None
}

// isPrivate reports whether the well-known prefix stands for a private address in a
// packet.
func (m *mapping) isPrivate(src uint32, by how, dst uint32, to how) bool {
	return by == byPREF64 && inAny(private, src) && m.isWellKnown(src) || to == byPREF64 && inAny(private, dst) && m.isWellKnown(dst)
}

// addresses4 maps source and destination of an IPv6 packet.
func (m *mapping) addresses4(h *header6) (a mapped4, r Reason) {
	if h.b[24] == 0xff {
		return a, DestinationIllegal
	}
	dst, to := m.own4(h.b[24:])
	if to == unmapped {
		if m.host {
			return a, DestinationNotOurs
		}
		return a, DestinationUnmappable
	}
	if to == byPREF64 && illegalDestination4(dst) {
		return a, DestinationIllegal
	}
	if to == byPREF64 {
		switch {
		case m.mapped4(dst): // hairpin
		case inAny(m.pool4, dst):
			return a, NoMap
		case inAny(m.deny4, dst):
			return a, DestinationDenied
		}
	}
	if illegalSource6(h.b[8:]) || m.hosts != nil && isLinkLocal6(h.b[8:]) {
		return a, SourceIllegal
	}
	src, by := m.any4(h.b[8:])
	if by == byPREF64 && m.hosts != nil {
		return a, SourceIllegal // behind PREF64 is IPv4, which comes the other way
	}
	if by == unmapped {
		if !h.icmpError {
			return a, SourceOutsidePREF64
		}
		if src, by = m.router4(h.b[8:]); by == unmapped {
			src, a.fromDummy = dummy4, true
		}
	}
	if by == byPREF64 && !h.icmpError && inAny(m.routed4, src) {
		return a, SourceRoutedNetwork
	}
	if r = m.refused4(src, by, dst, to); r != None {
		return a, r
	}
	a.src, a.dst, a.neutral = src, dst, by == byPREF64 && to == byCLAT && m.isNeutral(src)
	return a, None
}

// Ours returns the IPv6 prefixes on our side of the translator, so that
// whoever steers packets here knows which to take: the CLAT address and the
// IPv6 column of the EAM table.
func (m Mapping) Ours() []netip.Prefix {
	var p []netip.Prefix
	if m.CLAT.IPv6.IsValid() {
		p = append(p, host(m.CLAT.IPv6))
	}
	for _, e := range m.EAM {
		p = append(p, e.IPv6.Masked())
	}
	return p
}
