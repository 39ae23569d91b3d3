package plat

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
)

// pool counts the addresses that a table can give, and keeps those that hosts have
// lost from being given until reuse says so: connections of the former hosts may
// still be tracked. Addresses are numbers, big endian. It may be used at any time.
type pool struct {
	base, size uint32 // the addresses base to base+size-1 can be given

	mu      sync.Mutex
	taken   int             // of them, by maps or because they wait
	waiting map[uint32]bool // for reuse
}

// newPool returns the addresses of a prefix without its first, second and last
// one, or the first limit of them unless limit is 0.
func newPool(prefix netip.Prefix, limit int) *pool {
	p := &pool{base: number(prefix.Addr()) + 2, waiting: map[uint32]bool{}}
	if all := uint64(1) << (32 - prefix.Bits()); all >= 4 {
		p.size = uint32(all - 3)
	}
	if limit > 0 && uint64(limit) < uint64(p.size) {
		p.size = uint32(limit)
	}
	return p
}

// has reports whether an address can be given to a host.
func (p *pool) has(a uint32) bool { return a-p.base < p.size }

// first returns where a host's address is looked for, by a hash: the host gets the
// same one again if nobody else has got it meanwhile.
func (p *pool) first(a [16]byte) uint32 {
	if p.size == 0 {
		return p.base
	}
	h := sha256.Sum256(a[:])
	return p.base + uint32(binary.BigEndian.Uint64(h[:])%uint64(p.size))
}

// take notes that a map has an address, which may be outside of the pool.
func (p *pool) take(a uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.has(a) {
		p.taken++
	}
}

// exhausted reports whether no address is free, without a search, which every
// packet would cost.
func (p *pool) exhausted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint64(p.taken) >= uint64(p.size)
}

// search returns the first address from a on for which free is true and that does
// not wait. ok is false if there is none.
func (p *pool) search(a uint32, free func(uint32) bool) (found uint32, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.size {
		if free(a) && !p.waiting[a] {
			return a, true
		}
		if a++; a-p.base == p.size {
			a = p.base
		}
	}
	return 0, false
}

// lose makes an address that a host had wait for reuse.
func (p *pool) lose(a uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[a] = true
}

// lost returns the addresses that wait.
func (p *pool) lost() (all []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := range p.waiting {
		all = append(all, address4(a))
	}
	return all
}

// reuse lets addresses that lost has returned be given again.
func (p *pool) reuse(addresses []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range addresses {
		if p.waiting[number(a)] {
			delete(p.waiting, number(a))
			p.taken--
		}
	}
}
