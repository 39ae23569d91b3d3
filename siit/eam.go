package siit

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// u128 is an IPv6 address as a number; IPv4 addresses stand in the top 32 bits,
// so that one table serves both columns.
type u128 struct{ hi, lo uint64 }

func (a u128) compare(b u128) int {
	if c := cmp.Compare(a.hi, b.hi); c != 0 {
		return c
	}
	return cmp.Compare(a.lo, b.lo)
}

func (a u128) or(b u128) u128 { return u128{a.hi | b.hi, a.lo | b.lo} }

// shl and shr shift by 0 to 128 bits; Go's shifts by 64 and more give 0.
func (a u128) shl(n uint) u128 { return u128{a.hi<<n | a.lo>>(64-n) | a.lo<<(n-64), a.lo << n} }
func (a u128) shr(n uint) u128 { return u128{a.hi >> n, a.lo>>n | a.hi<<(64-n) | a.hi>>(n-64)} }

// eamEntry is an entry of the table with its prefix bits as numbers.
type eamEntry struct {
	addr4, addr6 u128
	bits4, bits6 uint
}

// to6 maps an IPv4 address: EAM6 prefix bits, then the IPv4 suffix bits, then
// zeros (RFC 7757 section 3.3.1).
func (e *eamEntry) to6(a u128) u128 { return e.addr6.or(a.shl(e.bits4).shr(e.bits6)) }

// to4 maps an IPv6 address: EAM4 prefix bits, then as many leading bits of the
// IPv6 suffix as there is room for (RFC 7757 section 3.3.2).
func (e *eamEntry) to4(a u128) u128 { return e.addr4.or(a.shl(e.bits6).shr(e.bits4)) }

// span is a range of addresses, from start to the next span, that belong to
// one entry; entry < 0: to none.
type span struct {
	start u128
	entry int32
}

// column is one column of the table, made for finding the longest prefix by
// binary search: nested prefixes are cut into spans that do not overlap.
type column []span

// find returns the index of the entry with the longest prefix that a lies in, or -1.
func (c column) find(a u128) int32 {
	lo, hi := 0, len(c) // the last span with start <= a is in c[lo-1:hi]
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if c[mid].start.compare(a) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return -1
	}
	return c[lo-1].entry
}

// eamTable is an explicit address mapping table (RFC 7757 section 3.1).
type eamTable struct {
	entries  []eamEntry
	by4, by6 column
}

// to6 finds and maps an IPv4 address.
func (t *eamTable) to6(v4 uint32, dst []byte) bool {
	a := u128{hi: uint64(v4) << 32}
	i := t.by4.find(a)
	if i < 0 {
		return false
	}
	r := t.entries[i].to6(a)
	binary.BigEndian.PutUint64(dst, r.hi)
	binary.BigEndian.PutUint64(dst[8:], r.lo)
	return true
}

// to4 finds and maps the IPv6 address in the first 16 bytes of a.
func (t *eamTable) to4(a []byte) (uint32, bool) {
	n := number(a)
	i := t.by6.find(n)
	if i < 0 {
		return 0, false
	}
	return uint32(t.entries[i].to4(n).hi >> 32), true
}

func newEAMTable(list []EAM) (eamTable, error) {
	t := eamTable{entries: make([]eamEntry, len(list))}
	for i, m := range list {
		e, err := newEAMEntry(m)
		if err != nil {
			return eamTable{}, err
		}
		t.entries[i] = e
	}
	key4 := func(e *eamEntry) (u128, uint) { return e.addr4, e.bits4 }
	key6 := func(e *eamEntry) (u128, uint) { return e.addr6, e.bits6 }
	var dup int32
	if t.by4, dup = newColumn(t.entries, key4); dup >= 0 {
		return eamTable{}, fmt.Errorf("EAM prefix %v is in the table twice", list[dup].IPv4)
	}
	if t.by6, dup = newColumn(t.entries, key6); dup >= 0 {
		return eamTable{}, fmt.Errorf("EAM prefix %v is in the table twice", list[dup].IPv6)
	}
	return t, nil
}

func newEAMEntry(m EAM) (eamEntry, error) {
	if !m.IPv4.IsValid() || !m.IPv4.Addr().Is4() {
		return eamEntry{}, fmt.Errorf("EAM prefix %q is not an IPv4 prefix", m.IPv4)
	}
	if !m.IPv6.IsValid() || !m.IPv6.Addr().Is6() || m.IPv6.Addr().Is4In6() {
		return eamEntry{}, fmt.Errorf("EAM prefix %q is not an IPv6 prefix", m.IPv6)
	}
	if s4, s6 := 32-m.IPv4.Bits(), 128-m.IPv6.Bits(); s4 > s6 {
		return eamEntry{}, fmt.Errorf("EAM %v to %v: the IPv4 suffix of %d bits does not fit the IPv6 suffix of %d bits (RFC 7757 section 3.2)", m.IPv4, m.IPv6, s4, s6)
	}
	a6 := m.IPv6.Masked().Addr().As16()
	return eamEntry{
		addr4: u128{hi: uint64(v4(m.IPv4.Masked().Addr())) << 32},
		addr6: u128{binary.BigEndian.Uint64(a6[:]), binary.BigEndian.Uint64(a6[8:])},
		bits4: uint(m.IPv4.Bits()),
		bits6: uint(m.IPv6.Bits()),
	}, nil
}

// newColumn cuts the prefixes that key returns into spans. dup is the index of
// an entry whose prefix is there twice, or -1.
func newColumn(entries []eamEntry, key func(*eamEntry) (u128, uint)) (c column, dup int32) {
	order := make([]int32, len(entries))
	for i := range order {
		order[i] = int32(i)
	}
	// Enclosing prefixes come before the ones inside them.
	slices.SortFunc(order, func(i, j int32) int {
		a, abits := key(&entries[i])
		b, bbits := key(&entries[j])
		if d := a.compare(b); d != 0 {
			return d
		}
		return cmp.Compare(abits, bbits)
	})
	mark := func(at u128, entry int32) {
		if n := len(c); n > 0 && c[n-1].start == at {
			c[n-1].entry = entry // a span of no length
			return
		}
		c = append(c, span{at, entry})
	}
	type enclosing struct {
		entry int32
		last  u128 // its last address
	}
	var open []enclosing
	leave := func() {
		last := open[len(open)-1].last
		open = open[:len(open)-1]
		next := u128{last.hi, last.lo + 1}
		if next.lo == 0 {
			next.hi++
		}
		if next == (u128{}) {
			return // the end of the address space
		}
		outer := int32(-1)
		if len(open) > 0 {
			outer = open[len(open)-1].entry
		}
		mark(next, outer)
	}
	for k, i := range order {
		a, bits := key(&entries[i])
		if k > 0 {
			if b, bbits := key(&entries[order[k-1]]); a == b && bits == bbits {
				return nil, i
			}
		}
		for len(open) > 0 && open[len(open)-1].last.compare(a) < 0 {
			leave()
		}
		mark(a, i)
		ones := u128{^uint64(0), ^uint64(0)}
		open = append(open, enclosing{i, a.or(ones.shr(bits))})
	}
	for len(open) > 0 {
		leave()
	}
	return c, -1
}

// host returns a as a prefix that holds this address only.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// number returns the IPv6 address in the first 16 bytes of a.
func number(a []byte) u128 { return u128{binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])} }
