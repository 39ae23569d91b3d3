package plat

import "net/netip"

// Mirror has the maps of a Table too, and translates by them: the kernel engine.
// Its methods are called one at a time.
type Mirror interface {
	Put(ipv4, ipv6 netip.Addr)
	// Remove returns when the map is not used any more.
	Remove(ipv4, ipv6 netip.Addr)
	// Seen returns a number that changes when the host sends packets; 0: it has
	// sent none yet.
	Seen(ipv6 netip.Addr) uint64
}

// mirrored tells a mirror of maps, if there is one. The table's lock guards it.
type mirrored struct{ mirror Mirror }

func (m mirrored) put(e *entry) {
	if m.mirror != nil {
		m.mirror.Put(address4(e.ipv4), netip.AddrFrom16(e.ipv6))
	}
}

func (m mirrored) remove(e *entry) {
	if m.mirror != nil {
		m.mirror.Remove(address4(e.ipv4), netip.AddrFrom16(e.ipv6))
	}
}

// seen returns what the mirror says of the host of e.
func (m mirrored) seen(e *entry) uint64 {
	if m.mirror == nil || e.static {
		return e.seen
	}
	return m.mirror.Seen(netip.AddrFrom16(e.ipv6))
}

// hasSent reports whether the host of e has sent packets since it was last asked,
// whoever translated them.
func (m mirrored) hasSent(e *entry) bool {
	sent, seen := e.used.Swap(false), m.seen(e)
	if seen != e.seen {
		e.seen, sent = seen, sent || seen != 0
	}
	return sent
}
