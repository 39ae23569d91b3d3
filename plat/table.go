package plat

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
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
	PREF64   netip.Prefix          // no host is in it
}

// maxMaps bounds the dynamic maps of a table, whatever the pool.
const maxMaps = 1 << 20

// Table maps IPv6 hosts to IPv4 addresses of a pool. It implements [siit.Hosts]:
// reading takes no lock, as every packet does it, and allocates nothing.
type Table struct {
	by4 [shards]atomic.Pointer[map[uint32]*entry]
	by6 [shards]atomic.Pointer[map[[16]byte]*entry]

	mu      sync.Mutex // of all that follows and of changes to the above
	config  TableConfig
	dynamic int
	pinned  int
	taken   int // addresses that could be given and are not free
	per64   map[[8]byte]int
	removed map[uint32]bool // addresses that wait for Reuse
	changes uint64          // of the dynamic maps
	refused [siit.NumReasons]uint64
	mirror  Mirror // nil: there is none
}

// shards is how many parts each direction has: a change copies one of them.
const shards = 1024

// entry is a map.
type entry struct {
	ipv4   uint32
	ipv6   [16]byte
	static bool
	kept   bool        // from the file of maps
	used   atomic.Bool // since the last sweep
	last   time.Time   // of the sweep that has seen it used
	seen   uint64      // of the mirror, at the last sweep
}

// NewTable returns a table with the static maps. They must not contradict each
// other.
func NewTable(c TableConfig) (*Table, error) {
	t := &Table{config: c, per64: map[[8]byte]int{}, removed: map[uint32]bool{}}
	for i := range t.by4 {
		t.by4[i].Store(&map[uint32]*entry{})
		t.by6[i].Store(&map[[16]byte]*entry{})
	}
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

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func shard6(a [16]byte) int {
	h := binary.LittleEndian.Uint64(a[:8])*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(a[8:])
	return int(h * 0xff51afd7ed558ccd >> 54) // 10 bits
}

func (t *Table) at4(a uint32) *entry   { return (*t.by4[a%shards].Load())[a] }
func (t *Table) at6(a [16]byte) *entry { return (*t.by6[shard6(a)].Load())[a] }

// To4 implements [siit.Hosts].
func (t *Table) To4(hi, lo uint64) (uint32, bool) {
	e := t.at6(join(hi, lo))
	if e == nil {
		return 0, false
	}
	e.touch()
	return e.ipv4, true
}

// To6 implements [siit.Hosts].
func (t *Table) To6(a uint32) (hi, lo uint64, ok bool) {
	e := t.at4(a)
	if e == nil {
		return 0, 0, false
	}
	hi, lo = halves(e.ipv6)
	return hi, lo, true
}

func join(hi, lo uint64) (a [16]byte) {
	binary.BigEndian.PutUint64(a[:], hi)
	binary.BigEndian.PutUint64(a[8:], lo)
	return a
}

func halves(a [16]byte) (hi, lo uint64) {
	return binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(a[8:])
}

// touch notes that the host has sent something: what others send to it does not
// keep its map. The flag is written once a sweep, so that it stays in the caches.
func (e *entry) touch() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

// Admit gives the host a an address unless it has one. The reason is
// [siit.None], or why it gets none.
func (t *Table) Admit(a netip.Addr) siit.Reason {
	key := a.As16()
	if t.at6(key) != nil {
		return siit.None // another queue was faster
	}
	if !t.config.Clients(a) {
		return t.refuse(siit.NotAClient)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.add(key, t.first(key), time.Now())
	if r != siit.None {
		t.refused[r]++
	}
	return r
}

func (t *Table) refuse(r siit.Reason) siit.Reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused[r]++
	return r
}

// add maps a to the first free address from n on. The caller holds t.mu.
func (t *Table) add(a [16]byte, n uint32, now time.Time) siit.Reason {
	if t.at6(a) != nil {
		return siit.None
	}
	net64 := [8]byte(a[:8])
	size, base := t.size(), number(t.config.Pool.Addr())
	switch {
	case t.config.PREF64.Contains(netip.AddrFrom16(a)):
		return siit.SourceIllegal
	case t.per64[net64] >= t.config.MaxPer64:
		return siit.TooManyMaps
	case t.dynamic >= maxMaps || uint32(t.taken) >= size:
		return siit.PoolExhausted // without a search, which every packet would cost
	}
	for range size {
		if t.at4(base+2+n) == nil && !t.removed[base+2+n] {
			t.put(&entry{ipv4: base + 2 + n, ipv6: a, last: now})
			t.per64[net64]++
			t.dynamic++
			t.changes++
			return siit.None
		}
		if n++; n == size {
			n = 0
		}
	}
	return siit.PoolExhausted
}

// size returns how many addresses of the pool can be given.
func (t *Table) size() uint32 {
	all := uint64(1) << (32 - t.config.Pool.Bits())
	if all < 4 {
		return 0
	}
	if l := t.config.Limit; l > 0 && uint64(l) < all-3 {
		return uint32(l)
	}
	return uint32(all - 3)
}

// first returns where in the pool a host's address is looked for, by a hash: the
// host gets the same one again if nobody else has got it meanwhile.
func (t *Table) first(a [16]byte) uint32 {
	size := t.size()
	if size == 0 {
		return 0
	}
	h := sha256.Sum256(a[:])
	return uint32(binary.BigEndian.Uint64(h[:]) % uint64(size))
}

// Pin gives the host a a static map unless it has one, and returns its IPv4
// address. It is to be called before Load and before packets come.
func (t *Table) Pin(a netip.Addr) (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.at6(a.As16()); e != nil {
		return address4(e.ipv4), nil
	}
	size, base, n := t.size(), number(t.config.Pool.Addr())+2, t.first(a.As16())
	for range size {
		if t.at4(base+n) == nil {
			t.put(&entry{ipv4: base + n, ipv6: a.As16(), static: true})
			t.pinned++
			return address4(base + n), nil
		}
		if n++; n == size {
			n = 0
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of the pool %s is left for %s", t.config.Pool, a)
}

// givable reports whether an address can be given to a host.
func (t *Table) givable(a uint32) bool {
	n := a - number(t.config.Pool.Addr())
	return n >= 2 && n-2 < t.size()
}

// put enters e. The caller holds t.mu, or is the only one.
func (t *Table) put(e *entry) {
	if t.givable(e.ipv4) {
		t.taken++
	}
	replace(&t.by6[shard6(e.ipv6)], e.ipv6, e)
	replace(&t.by4[e.ipv4%shards], e.ipv4, e)
	if t.mirror != nil {
		t.mirror.Put(address4(e.ipv4), netip.AddrFrom16(e.ipv6))
	}
}

// replace sets m[k] in a copy, or deletes it if e is nil.
func replace[K comparable](p *atomic.Pointer[map[K]*entry], k K, e *entry) {
	old := *p.Load()
	m := make(map[K]*entry, len(old)+1)
	for k, e := range old {
		m[k] = e
	}
	if m[k] = e; e == nil {
		delete(m, k)
	}
	p.Store(&m)
}

// Sweep takes back the dynamic maps of hosts that have been silent for the idle
// time, and of those that are no clients any more.
func (t *Table) Sweep(now time.Time) (removed int) {
	for i := range t.by6 {
		removed += t.sweep(i, now)
	}
	return removed
}

// sweep is Sweep for one part, so that packets of new hosts need not wait for long.
func (t *Table) sweep(part int, now time.Time) (removed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range *t.by6[part].Load() {
		switch {
		case e.static:
		case !t.config.Clients(netip.AddrFrom16(e.ipv6)):
			t.remove(e)
			removed++
		case t.hasSent(e):
			e.last = now
		case now.Sub(e.last) >= t.config.Idle:
			t.remove(e)
			removed++
		}
	}
	return removed
}

// remove is called with t.mu held, for a dynamic map. The mirror forgets it at once.
// Its address waits for Reuse.
func (t *Table) remove(e *entry) {
	if t.mirror != nil {
		t.mirror.Remove(address4(e.ipv4), netip.AddrFrom16(e.ipv6))
	}
	replace(&t.by4[e.ipv4%shards], e.ipv4, nil)
	replace(&t.by6[shard6(e.ipv6)], e.ipv6, nil)
	net64 := [8]byte(e.ipv6[:8])
	if t.per64[net64]--; t.per64[net64] == 0 {
		delete(t.per64, net64)
	}
	t.dynamic--
	t.removed[e.ipv4] = true
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
	for i := range t.by6 {
		for _, e := range *t.by6[i].Load() {
			m := Map{siit.Pair{IPv4: address4(e.ipv4), IPv6: netip.AddrFrom16(e.ipv6)}, e.static, e.last}
			if e.used.Load() || t.seen(e) != e.seen {
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
	return TableStats{Static: len(t.config.Static) + t.pinned, Dynamic: t.dynamic, Size: int(t.size()), Changes: t.changes, Refused: t.refused}
}
