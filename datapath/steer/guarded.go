package steer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"tnat64d/datapath/steerable"
)

// Guarded are the addresses of CLATs that a [Steering] and a [Guard] guard:
// nothing leaves from them, nor comes to the IPv4 ones, by other ways than the
// translator. They are those of all CLATs of the host, wherever they are.
type Guarded struct {
	IPv4 []netip.Addr
	IPv6 []netip.Prefix
}

// Token marks the packets of the translator while they are in the kernel. All
// Steerings and Guards of a process have the same one, and no other program may
// know it.
type Token uint64

// NewToken returns a Token that nobody can guess.
func NewToken() Token {
	var b [8]byte
	for {
		rand.Read(b[:])                                                                 // never fails
		if t := Token(binary.NativeEndian.Uint64(b[:])); t>>32 != 0 && uint32(t) != 0 { // 0 is what others leave there
			return t
		}
	}
}

// seed returns a number that nobody can guess who does not know the Token.
func (t Token) seed() uint64 {
	sum := sha256.Sum256(binary.NativeEndian.AppendUint64([]byte("flow seed "), uint64(t)))
	return binary.NativeEndian.Uint64(sum[:])
}

// guardMaps are the addresses of a Guarded in the kernel.
type guardMaps struct {
	ipv4, ipv6 *ebpf.Map
	has4       map[netip.Addr]bool
	has6       map[netip.Prefix]bool
}

func newGuardMaps(ipv4, ipv6 *ebpf.Map) guardMaps {
	return guardMaps{ipv4: ipv4, ipv6: ipv6, has4: map[netip.Addr]bool{}, has6: map[netip.Prefix]bool{}}
}

// set makes the maps equal to g. New addresses are added before old ones are
// removed. After an error call it again: it continues where it stopped.
func (m *guardMaps) set(g Guarded) error {
	want4, want6 := make(map[netip.Addr]bool), make(map[netip.Prefix]bool)
	for _, a := range g.IPv4 {
		if !a.Is4() {
			return &Error{"set the guarded addresses", fmt.Errorf("%q is not an IPv4 address", a)}
		}
		want4[a] = true
	}
	for _, p := range g.IPv6 {
		if err := steerable.CheckPrefix(p); err != nil {
			return &Error{"set the guarded addresses", err}
		}
		want6[p.Masked()] = true
	}
	err := replace(m.ipv4, m.has4, want4, func(a netip.Addr) any { return a.As4() })
	return errors.Join(err, replace(m.ipv6, m.has6, want6, func(p netip.Prefix) any { return prefixKey(p) }))
}

// replace makes the keys of a map in the kernel, which are has, equal to want.
func replace[K interface {
	comparable
	fmt.Stringer
}](m *ebpf.Map, has, want map[K]bool, key func(K) any) error {
	for k := range want {
		if has[k] {
			continue
		}
		if err := m.Put(key(k), uint8(1)); err != nil {
			return &Error{fmt.Sprintf("note %s", k), err}
		}
		has[k] = true
	}
	for k := range has {
		if want[k] {
			continue
		}
		if err := m.Delete(key(k)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return &Error{fmt.Sprintf("forget %s", k), err}
		}
		delete(has, k)
	}
	return nil
}

// SetGuarded makes the guarded addresses equal to g; calling it again with the
// same is harmless.
func (s *Steering) SetGuarded(g Guarded) error { return s.guarded.set(g) }

// SetGuarded is that of [Steering].
func (g *Guard) SetGuarded(want Guarded) error { return g.guarded.set(want) }

// SetDropUnicastToMany says whether IPv6 packets to one of our addresses are
// dropped that came in a broadcast or multicast frame, as the host does where
// the uplink's sysctl drop_unicast_in_l2_multicast is set. New begins without.
func (s *Steering) SetDropUnicastToMany(drop bool) error {
	if err := s.objects.Multicast.Put(uint32(0), bpfMulticastPolicy{Drop: flag(drop)}); err != nil {
		return &Error{"set what is done with unicast in multicast frames", err}
	}
	return nil
}
