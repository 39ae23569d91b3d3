package plat

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"tnat64d/siit"
)

// TableConfig says which addresses a Table gives, and to whom.
type TableConfig struct {
	Pool     netip.Prefix          // IPv4; its first, second and last address are not given
	Static   []siit.Pair           // maps that stay
	MaxPer64 int                   // dynamic maps of the hosts of one /64 at most
	Idle     time.Duration         // a dynamic map that is silent that long may be given back
	Limit    int                   // of dynamic maps, which then have the pool's first addresses; 0: none
	Clients  func(netip.Addr) bool // who gets a dynamic map
	Named    bool                  // Clients does not depend on addresses of links, which may come later
	PREF64   netip.Prefix          // no host is in it
}

// maxMaps bounds the dynamic maps of a table, whatever the pool.
const maxMaps = 1 << 20

// Table maps IPv6 hosts to IPv4 addresses of a pool. The embedded index implements
// [siit.Hosts].
type Table struct {
	index
	pool *pool

	mu       sync.Mutex // of all that follows and of changes to the index
	config   TableConfig
	dynamic  int
	pinned   int
	per64    map[[8]byte]int
	changes  uint64 // of the dynamic maps
	refused  [siit.NumReasons]uint64
	mirrored mirrored
	places   places
}

// NewTable returns a table with the static maps. They must not contradict each
// other.
func NewTable(c TableConfig) (*Table, error) {
	t := &Table{config: c, pool: newPool(c.Pool, c.Limit), per64: map[[8]byte]int{}}
	t.index.empty()
	for _, p := range c.Static {
		if !p.IPv4.Is4() || !p.IPv6.Is6() || p.IPv6.Is4In6() {
			return nil, fmt.Errorf("static map %s to %s: not an IPv4 and an IPv6 address", p.IPv4, p.IPv6)
		}
		if c.PREF64.Contains(p.IPv6) {
			return nil, fmt.Errorf("static map %s to %s: the IPv6 address lies in the NAT64 prefix %s", p.IPv4, p.IPv6, c.PREF64)
		}
		e := &entry{ipv4: number(p.IPv4), ipv6: p.IPv6.As16(), static: true}
		if t.at4(e.ipv4) != nil || t.at6(e.ipv6) != nil {
			return nil, fmt.Errorf("static map %s to %s: one of the addresses has another map", p.IPv4, p.IPv6)
		}
		t.put(e)
	}
	return t, nil
}

// Admit gives the host a an address unless it has one. The reason is
// [siit.None], or why it gets none.
func (t *Table) Admit(a netip.Addr) siit.Reason {
	key := a.As16()
	if t.at6(key) != nil {
		return siit.None // another queue was faster
	}
	client := t.config.Clients(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	r := siit.NotAClient
	if client {
		r = t.add(key, t.pool.first(key), time.Now())
	}
	if r != siit.None {
		t.refused[r]++
	}
	return r
}

// add maps a to the first free address of the pool from first on. The caller holds
// t.mu.
func (t *Table) add(a [16]byte, first uint32, now time.Time) siit.Reason {
	if t.at6(a) != nil {
		return siit.None
	}
	net64 := [8]byte(a[:8])
	switch {
	case t.config.PREF64.Contains(netip.AddrFrom16(a)):
		return siit.SourceIllegal
	case t.per64[net64] >= t.config.MaxPer64:
		return siit.TooManyMaps
	case t.dynamic >= maxMaps || t.pool.exhausted():
		return siit.PoolExhausted
	}
	v4, ok := t.pool.search(first, func(a uint32) bool { return t.at4(a) == nil })
	if !ok {
		return siit.PoolExhausted
	}
	t.put(&entry{ipv4: v4, ipv6: a, last: now})
	t.per64[net64]++
	t.dynamic++
	t.changes++
	return siit.None
}

// restore adds a map of the file of maps, unless it does not fit.
func (t *Table) restore(m Map, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	v4, v6 := number(m.IPv4), m.IPv6.As16()
	if !t.config.Pool.Contains(m.IPv4) || !m.IPv6.IsGlobalUnicast() || t.config.Named && !t.config.Clients(m.IPv6) {
		return false
	}
	if e := t.at4(v4); e != nil && e.static && e.ipv6 == v6 {
		e.kept = true
		return true
	}
	if !t.pool.has(v4) || t.at4(v4) != nil || t.at6(v6) != nil || now.Sub(m.Last) >= t.config.Idle || t.add(v6, v4, m.Last) != siit.None {
		return false
	}
	t.at6(v6).kept = true
	return true
}

// Pin gives the host a a static map unless it has one, and returns its IPv4
// address. It is to be called before the maps are loaded and before packets come.
func (t *Table) Pin(a netip.Addr) (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.at6(a.As16()); e != nil {
		return address4(e.ipv4), nil
	}
	v4, ok := t.pool.search(t.pool.first(a.As16()), func(a uint32) bool { return t.at4(a) == nil })
	if !ok {
		return netip.Addr{}, fmt.Errorf("no address of the pool %s is left for %s", t.config.Pool, a)
	}
	t.put(&entry{ipv4: v4, ipv6: a.As16(), static: true})
	t.pinned++
	return address4(v4), nil
}

// put enters e. The caller holds t.mu, or is the only one.
func (t *Table) put(e *entry) {
	t.pool.take(e.ipv4)
	t.places.put(e.host())
	t.enter(e)
	t.mirrored.put(e)
}

// Sweep takes back the dynamic maps of hosts that have been silent for the idle
// time, and of those that are no clients any more.
func (t *Table) Sweep(now time.Time) (removed int) {
	for i := range shards {
		removed += t.sweep(i, now)
	}
	return removed
}

// sweep is Sweep for one part, so that packets of new hosts need not wait for long.
func (t *Table) sweep(part int, now time.Time) (removed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.part(part) {
		switch {
		case e.static:
		case !t.config.Clients(netip.AddrFrom16(e.ipv6)):
			t.remove(e)
			removed++
		case t.mirrored.hasSent(e):
			e.last = now
		case now.Sub(e.last) >= t.config.Idle:
			t.remove(e)
			removed++
		}
	}
	return removed
}

// remove is called with t.mu held, for a dynamic map. The mirror forgets it at once.
// Its address waits in the pool.
func (t *Table) remove(e *entry) {
	t.mirrored.remove(e)
	t.delete(e)
	net64 := [8]byte(e.ipv6[:8])
	if t.per64[net64]--; t.per64[net64] == 0 {
		delete(t.per64, net64)
	}
	t.dynamic--
	t.pool.lose(e.ipv4)
	t.changes++
}

// Map is one entry of a Table.
type Map struct {
	siit.Pair
	Static bool
	Last   time.Time // of a dynamic one: when the host was last known to send
}

// Maps returns the maps at the time now, in no order.
func (t *Table) Maps(now time.Time) []Map {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Map, 0, t.dynamic)
	for i := range shards {
		for _, e := range t.part(i) {
			m := Map{siit.Pair{IPv4: address4(e.ipv4), IPv6: netip.AddrFrom16(e.ipv6)}, e.static, e.last}
			if e.used.Load() || t.mirrored.seen(e) != e.seen {
				m.Last = now
			}
			all = append(all, m)
		}
	}
	return all
}

// TableStats describes the use of a table.
type TableStats struct {
	Static, Dynamic int
	Size            int    // of the pool: addresses that can be given
	Changes         uint64 // of the dynamic maps since the start
	Refused         [siit.NumReasons]uint64
}

// Stats returns the present use.
func (t *Table) Stats() TableStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TableStats{Static: len(t.config.Static) + t.pinned, Dynamic: t.dynamic, Size: int(t.pool.size), Changes: t.changes, Refused: t.refused}
}

// Room returns how many maps there can be.
func (t *Table) Room() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(int(t.pool.size), maxMaps) + len(t.config.Static) + t.pinned
}

// SetMirror gives m all maps, and from then on every change; nil ends that.
func (t *Table) SetMirror(m Mirror) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := mirrored{m}
	for i := range shards {
		for _, e := range t.part(i) {
			if t.mirrored.hasSent(e) {
				e.used.Store(true) // for the next sweep, which cannot ask any more
			}
			e.seen = 0
			next.put(e)
		}
	}
	t.mirrored = next
}
