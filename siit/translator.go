package siit

import (
	"errors"
	"fmt"
	"net/netip"
)

// Translator translates packets. It is immutable and may be used by any
// number of goroutines at once, each with its own Scratch.
type Translator struct {
	mapping          mapping
	routes           routeTable
	limits           limits
	sources          sources
	classMask        uint8 // what of the TOS becomes the Traffic Class
	tosMask          uint8 // and the other way
	dropZeroChecksum bool
	nodeID           bool
}

// minMTU6 is the smallest MTU of an IPv6 link (RFC 8200 section 5).
const minMTU6 = 1280

// New checks cfg and builds a Translator.
func New(cfg Config) (*Translator, error) {
	m, err := newMapping(cfg.Mapping)
	if err != nil {
		return nil, err
	}
	m.dropPrivate = cfg.DropWKPPrivate
	if m.local4, err = cidrs(cfg.LocalIPv4); err != nil {
		return nil, err
	}
	if m.routed4, err = cidrs(cfg.RoutedIPv4); err != nil {
		return nil, err
	}
	if m.deny4, err = cidrs(cfg.DenyIPv4); err != nil {
		return nil, err
	}
	if cfg.PoolIPv4.IsValid() {
		if m.pool4, err = cidrs([]netip.Prefix{cfg.PoolIPv4}); err != nil {
			return nil, err
		}
	}
	l, err := newLimits(cfg)
	if err != nil {
		return nil, err
	}
	own, err := newSources(cfg)
	if err != nil {
		return nil, err
	}
	if m.host && own.ipv4 == m.clat4 {
		// Linux drops what arrives from one of its own addresses.
		return nil, errors.New("ICMP errors must not come from the CLAT's own IPv4 address")
	}
	return &Translator{mapping: m, limits: l, sources: own, dropZeroChecksum: cfg.DropUDPZeroChecksum, classMask: mask(cfg.ZeroTrafficClass), tosMask: mask(cfg.ZeroTOS), nodeID: cfg.NodeID}, nil
}

func newLimits(cfg Config) (limits, error) {
	l := limits{mtu6: or(cfg.MTU6, 1500), lowest6: or(cfg.LowestIPv6MTU, minMTU6)}
	l.mtu4 = or(cfg.MTU4, l.mtu6-20)
	switch {
	case l.mtu6 < minMTU6 || l.mtu6 > 65535:
		return l, fmt.Errorf("IPv6 MTU %d is not between 1280 and 65535", l.mtu6)
	case l.mtu4 < 68 || l.mtu4 > 65535:
		return l, fmt.Errorf("IPv4 MTU %d is not between 68 and 65535", l.mtu4)
	case l.lowest6 < minMTU6 || l.lowest6 > 65535:
		return l, fmt.Errorf("lowest IPv6 MTU %d is not between 1280 and 65535", l.lowest6)
	}
	l.lowest6 = min(l.lowest6, l.mtu6)
	return l, nil
}

func newSources(cfg Config) (sources, error) {
	var own sources
	src4 := cfg.ICMPSource4
	if !src4.IsValid() {
		src4 = netip.AddrFrom4([4]byte{192, 0, 0, 2})
	}
	if !src4.Is4() {
		return own, fmt.Errorf("ICMP source %q is not an IPv4 address", src4)
	}
	own.ipv4 = v4(src4)
	src6 := cfg.ICMPSource6
	if !src6.IsValid() {
		src6 = cfg.Mapping.CLAT.IPv6
	}
	if src6.IsValid() {
		if !src6.Is6() || src6.Is4In6() {
			return own, fmt.Errorf("ICMP source %q is not an IPv6 address", src6)
		}
		own.ipv6, own.hasIPv6 = src6.As16(), true
	}
	return own, nil
}

// mask returns what is kept of an octet.
func mask(zero bool) uint8 {
	if zero {
		return 0
	}
	return 0xff
}

func or(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// Translate translates p, from IPv4 to IPv6 or the other way by its version.
//
// The work is done in p's own buffer where that is possible: an ordinary packet
// and a super-packet alike stay where they are and get another header. p should
// have Headroom free bytes in front; with less it is copied first. A packet
// that is refused (Drop or Reply) is left as it was.
func (t *Translator) Translate(s *Scratch, p Packet) Result {
	s.reset()
	if uint(p.Off) > uint(len(p.Buf)) || p.Off == len(p.Buf) {
		return Result{Verdict: Drop, Reason: NotIP}
	}
	if p.Off < Headroom {
		if len(p.Buf)-p.Off > ipv6Len+65535 {
			p.Buf = p.Buf[:p.Off+ipv6Len+65535] // no header speaks of more
		}
		q := s.packet(len(p.Buf) - p.Off)
		copy(q.Bytes(), p.Bytes())
		q.Offload = p.Offload
		p = q
	}
	var v Verdict
	var r Reason
	switch p.Buf[p.Off] >> 4 {
	case 4:
		v, r = t.from4(s, &p)
	case 6:
		v, r = t.from6(s, &p)
	default:
		r = NotIP
	}
	if v == Drop {
		return Result{Reason: r}
	}
	return Result{Verdict: v, Reason: r, Packets: s.out}
}
