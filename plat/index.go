package plat

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
)

// shards is how many parts each direction of an index has: a change copies one.
const shards = 1024

// index finds maps by either address. It implements [siit.Hosts]: reading takes no
// lock, as every packet does it, and allocates nothing. Writers exclude each other.
type index struct {
	by4 [shards]atomic.Pointer[map[uint32]*entry]
	by6 [shards]atomic.Pointer[map[[16]byte]*entry]
}

// entry is a map.
type entry struct {
	ipv4   uint32 // big endian as a number
	ipv6   [16]byte
	static bool
	kept   bool        // from the file of maps
	used   atomic.Bool // since the last sweep
	last   time.Time   // of the sweep that has seen it used
	seen   uint64      // of the mirror, at the last sweep
}

// empty makes an index without maps of x.
func (x *index) empty() {
	for i := range x.by4 {
		x.by4[i].Store(&map[uint32]*entry{})
		x.by6[i].Store(&map[[16]byte]*entry{})
	}
}

func (x *index) at4(a uint32) *entry   { return (*x.by4[a%shards].Load())[a] }
func (x *index) at6(a [16]byte) *entry { return (*x.by6[shard6(a)].Load())[a] }

// part returns one of the shards maps that have all entries together.
func (x *index) part(i int) map[[16]byte]*entry { return *x.by6[i].Load() }

func (x *index) enter(e *entry) {
	replace(&x.by6[shard6(e.ipv6)], e.ipv6, e)
	replace(&x.by4[e.ipv4%shards], e.ipv4, e)
}

func (x *index) delete(e *entry) {
	replace(&x.by4[e.ipv4%shards], e.ipv4, nil)
	replace(&x.by6[shard6(e.ipv6)], e.ipv6, nil)
}

// To4 implements [siit.Hosts].
func (x *index) To4(hi, lo uint64) (uint32, bool) {
	e := x.at6(join(hi, lo))
	if e == nil {
		return 0, false
	}
	e.touch()
	return e.ipv4, true
}

// To6 implements [siit.Hosts].
func (x *index) To6(a uint32) (hi, lo uint64, ok bool) {
	e := x.at4(a)
	if e == nil {
		return 0, 0, false
	}
	hi, lo = halves(e.ipv6)
	return hi, lo, true
}

// touch notes that the host has sent something: what others send to it does not
// keep its map. The flag is written once a sweep, so that it stays in the caches.
func (e *entry) touch() {
	if !e.used.Load() {
		e.used.Store(true)
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

func join(hi, lo uint64) (a [16]byte) {
	binary.BigEndian.PutUint64(a[:], hi)
	binary.BigEndian.PutUint64(a[8:], lo)
	return a
}

func halves(a [16]byte) (hi, lo uint64) {
	return binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(a[8:])
}
