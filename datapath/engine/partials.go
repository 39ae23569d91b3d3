package engine

import "hash/maphash"

// partials remembers of which IPv4 datagrams fragments have passed that were not
// joined into the whole. Another fragment may overlap with those, and only the
// receiver, who has all of them, can tell and drop the datagram (RFC 5722 section
// 4). It does not if the fragments that follow are joined into a whole datagram,
// which has no identification any more.
//
// An entry stays until another takes its place. That a later datagram with the same
// identification is not joined does no harm. The zero value is ready for use.
type partials struct {
	seed maphash.Seed
	made bool
	all  [256]uint64 // hashes of keys, at their remainders; 0: none
}

// hash returns a number for what fragments of a datagram have in common (RFC 791):
// identification, protocol and addresses.
func (s *partials) hash(b []byte) uint64 {
	if !s.made {
		s.seed, s.made = maphash.MakeSeed(), true
	}
	var key [11]byte
	copy(key[:], b[4:6])
	key[2] = b[9]
	copy(key[3:], b[12:20])
	return maphash.Bytes(s.seed, key[:]) | 1<<63
}

// add remembers the datagram of an IPv4 fragment.
func (s *partials) add(b []byte) {
	h := s.hash(b)
	s.all[h%uint64(len(s.all))] = h
}

// has reports whether the datagram of an IPv4 fragment is remembered.
func (s *partials) has(b []byte) bool {
	h := s.hash(b)
	return s.all[h%uint64(len(s.all))] == h
}
