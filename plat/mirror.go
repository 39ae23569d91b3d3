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

// SetMirror gives m all maps, and from then on every change; nil ends that.
func (t *Table) SetMirror(m Mirror) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.by6 {
		for _, e := range *t.by6[i].Load() {
			if t.hasSent(e) {
				e.used.Store(true) // for the next sweep, which cannot ask any more
			}
			if e.seen = 0; m != nil {
				m.Put(address4(e.ipv4), netip.AddrFrom16(e.ipv6))
			}
		}
	}
	t.mirror = m
}

// Room returns how many maps there can be.
func (t *Table) Room() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(int(t.size()), maxMaps) + len(t.config.Static) + t.pinned
}

// seen returns what the mirror says of the host of e. The caller holds t.mu.
func (t *Table) seen(e *entry) uint64 {
	if t.mirror == nil || e.static {
		return e.seen
	}
	return t.mirror.Seen(netip.AddrFrom16(e.ipv6))
}

// hasSent reports whether the host of e has sent packets since it was last asked,
// whoever translated them. The caller holds t.mu.
func (t *Table) hasSent(e *entry) bool {
	sent, seen := e.used.Swap(false), t.seen(e)
	if seen != e.seen {
		e.seen, sent = seen, sent || seen != 0
	}
	return sent
}
