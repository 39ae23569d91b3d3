package engine

import (
	"encoding/binary"
	"hash/maphash"
)

// partials remembers of which IPv4 datagrams fragments have passed that were not
// joined into the whole. Another fragment may overlap with those, and only the
// receiver, who has all of them, can tell and drop the datagram (RFC 5722 section
// 4). It does not if the fragments that follow are joined into a whole datagram,
// which has no identification any more. Nor may they be joined into a part of it that
// begins before the end of what has passed: the receiver ignores a fragment that it
// has twice, but drops the datagram for one that overlaps with another in part.
//
// An entry stays until another takes its place. That a later datagram with the same
// identification is not joined does no harm. The zero value is ready for use.
type partials struct {
	seed maphash.Seed
	made bool
	all  [256]partial // at the remainders of their keys
}

// partial is a datagram.
type partial struct {
	key uint64 // a hash; 0: none
	end int    // of what has passed, in bytes
}

// key returns a number for what fragments of a datagram have in common (RFC 791):
// identification, protocol and addresses.
func (s *partials) key(b []byte) uint64 {
	if !s.made {
		s.seed, s.made = maphash.MakeSeed(), true
	}
	var key [11]byte
	copy(key[:], b[4:6])
	key[2] = b[9]
	copy(key[3:], b[12:20])
	return maphash.Bytes(s.seed, key[:]) | 1<<63
}

// add remembers the datagram of an IPv4 fragment that passes.
func (s *partials) add(b []byte) {
	key, end := s.key(b), int(binary.BigEndian.Uint16(b[6:])&0x1fff)*8+len(b)-ipv4Len
	if p := &s.all[key%uint64(len(s.all))]; p.key != key {
		*p = partial{key, end}
	} else {
		p.end = max(p.end, end)
	}
}

// end returns where what has passed of the datagram of an IPv4 fragment ends: the
// offset behind it in bytes; 0 if nothing is remembered.
func (s *partials) end(b []byte) int {
	key := s.key(b)
	if p := s.all[key%uint64(len(s.all))]; p.key == key {
		return p.end
	}
	return 0
}
