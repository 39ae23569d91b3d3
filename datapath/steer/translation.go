package steer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"tnat64d/siit"
)

// Translation is what the kernel engine translates between: the CLAT pair and the
// EAM table on this side, or the hosts of a [Gateway], and PREF64 on the other. It
// holds for the simple packets what siit.Config holds for all, and must say the
// same. TOS is copied: where the configuration wants it otherwise, user space has
// to do it all.
type Translation struct {
	IPv4, IPv6 netip.Addr     // of the CLAT; zero in a gateway
	EAM        []siit.EAM     // of a CLAT, at most MaxEAM
	Networks   []siit.Network // of a CLAT, at most MaxNetworks
	PREF64     netip.Prefix   // RFC 6052, length 32, 40, 48, 56, 64 or 96

	// IPv4 networks that the hosts of a gateway do not reach through PREF64,
	// except for each other.
	DeniedIPv4 []netip.Prefix

	MTU6, MTU4    int // bytes, of the next hops; packets that do not fit are left to user space
	LowestIPv6MTU int // larger packets without DF are left to user space, which fragments them
	// Packets whose source stands for an address in one of these IPv4 networks
	// are left to user space, which drops them.
	LocalIPv4 []netip.Prefix

	ZeroTrafficClass, ZeroTOS bool // write 0 to that field instead of the other one's value

	DropWKPPrivate bool // leave packets between private IPv4 addresses and 64:ff9b::/96 to user space, which drops them
}

// check refuses what the programs have no rule for.
func (t *Translation) check(gateway bool) error {
	switch {
	case gateway && (t.IPv4.IsValid() || t.IPv6.IsValid() || len(t.EAM) > 0 || len(t.Networks) > 0 || len(t.LocalIPv4) > 0):
		return errors.New("a gateway has no CLAT addresses, explicit mappings, networks or local networks")
	case gateway:
	case !t.IPv4.Is4():
		return fmt.Errorf("CLAT address %q is not IPv4", t.IPv4)
	case !t.IPv6.Is6() || t.IPv6.Is4In6() || t.IPv6.IsMulticast() || t.IPv6.IsUnspecified() || t.IPv6.IsLoopback():
		return fmt.Errorf("CLAT address %q is not a host's IPv6 address", t.IPv6)
	case len(t.DeniedIPv4) > 0:
		return errors.New("a CLAT denies no networks")
	case len(t.Networks) > MaxNetworks:
		return fmt.Errorf("%d networks are more than %d", len(t.Networks), MaxNetworks)
	case len(t.EAM) > MaxEAM:
		return fmt.Errorf("%d explicit mappings are more than %d", len(t.EAM), MaxEAM)
	}
	switch {
	case !t.PREF64.IsValid() || !t.PREF64.Addr().Is6() || t.PREF64.Addr().Is4In6() || t.PREF64.Addr().IsMulticast():
		return fmt.Errorf("PREF64 %q is not an IPv6 prefix", t.PREF64)
	case t.IPv6.IsValid() && t.PREF64.Contains(t.IPv6):
		return fmt.Errorf("the CLAT address %s lies in PREF64 %s", t.IPv6, t.PREF64)
	}
	if _, err := siit.NewPrefix(t.PREF64); err != nil {
		return err
	}
	for _, n := range append(slices.Clone(t.LocalIPv4), t.DeniedIPv4...) {
		if !n.IsValid() || !n.Addr().Is4() {
			return fmt.Errorf("%q is not an IPv4 network", n)
		}
	}
	for _, mtu := range []int{t.MTU6, t.MTU4, t.LowestIPv6MTU} {
		if mtu <= 0 || mtu > 65535 {
			return fmt.Errorf("MTU %d is not between 1 and 65535", mtu)
		}
	}
	return nil
}

// value is t as the programs want it.
func (t *Translation) value() bpfTranslation {
	pref := t.PREF64.Masked().Addr().As16()
	var clat6 [16]byte
	var clat4 [4]byte
	if t.IPv4.IsValid() {
		clat6, clat4 = t.IPv6.As16(), t.IPv4.As4()
	}
	prefix, _ := siit.NewPrefix(t.PREF64) // check has seen to it
	var mask [16]byte
	for i := range t.PREF64.Bits() / 8 {
		mask[i] = 0xff
	}
	half := func(a [16]byte, i int) uint64 { return binary.BigEndian.Uint64(a[i:]) }
	return bpfTranslation{
		Clat6Hi: half(clat6, 0), Clat6Lo: half(clat6, 8),
		PrefHi: half(pref, 0), PrefLo: half(pref, 8),
		MaskHi: half(mask, 0), MaskLo: half(mask, 8),
		PrefLen:     uint32(t.PREF64.Bits()),
		Clat4:       binary.BigEndian.Uint32(clat4[:]),
		Mtu6:        uint32(t.MTU6),
		Mtu4:        uint32(t.MTU4),
		Limit6:      uint32(min(t.LowestIPv6MTU, t.MTU6)),
		Neutral:     flag(t.IPv4.IsValid() && prefix.Neutral(siit.Pair{IPv4: t.IPv4, IPv6: t.IPv6})),
		ClassMask:   octet(!t.ZeroTrafficClass),
		FirstMask:   firstMask(t.ZeroTOS),
		HasEam:      flag(len(t.EAM) > 0),
		HasLocal:    flag(len(t.LocalIPv4) > 0),
		HasNetworks: flag(len(t.Networks) > 0),
		DropPrivate: flag(t.DropWKPPrivate),
		WellKnown:   flag(t.PREF64.Masked() == siit.WellKnownPrefix()),
	}
}

// octet returns a mask that keeps an octet, or nothing.
func octet(keep bool) uint32 { return 0xff * flag(keep) }

// firstMask returns a mask for the first 64 bits of an IPv6 header (RFC 8200 section 3)
// that keeps all, or all but the Traffic Class.
func firstMask(zeroClass bool) uint64 {
	if zeroClass {
		return ^uint64(0xff << 52)
	}
	return ^uint64(0)
}

// SetTranslation makes the kernel engine translate the simple packets of t, or
// with nil leave all to user space. It may be called at any time: every packet
// sees one translation or the other and none is lost. When it returns, no
// packet sees the old one any more.
func (e *Engine) SetTranslation(t *Translation) error {
	if t == nil {
		return e.switchOff()
	}
	if e.refused != nil {
		return e.refused
	}
	if err := t.check(e.objects.GatewayIngress != nil); err != nil {
		return &Error{"switch the kernel engine on", err}
	}
	if err := addNetworks(e.objects.Local4, &e.local, t.LocalIPv4); err != nil {
		return err
	}
	if err := addNetworks(e.objects.Denied4, &e.denied, t.DeniedIPv4); err != nil {
		return err
	}
	if !slices.Equal(e.eam, t.EAM) || !slices.Equal(e.networks, t.Networks) {
		// Nobody sees the tables while they change.
		if err := e.switchOff(); err != nil {
			return err
		}
		if err := e.networks.replace(e.objects, t.Networks); err != nil {
			return err
		}
		if err := e.eam.replace(e.objects, t.EAM); err != nil {
			return err
		}
	}
	if err := e.put(t, e.exits); err != nil {
		return err
	}
	if err := removeNetworks(e.objects.Local4, e.local, t.LocalIPv4); err != nil {
		return err
	}
	return removeNetworks(e.objects.Denied4, e.denied, t.DeniedIPv4)
}

// put brings a translation into force, with the ways out of the host.
func (e *Engine) put(t *Translation, x exits) error {
	value := t.value()
	value.Router, value.HasRoutes, value.HasNext = x.router, flag(x.routes), flag(x.next)
	if err := exchange(e.objects.Translations, e.objects.translation, value); err != nil {
		return &Error{"switch the kernel engine on", err}
	}
	e.translation, e.exits = t, x
	return nil
}

// setExits says which ways out of the host there are, also for the translations
// that come.
func (e *Engine) setExits(x exits) error {
	if e.exits == x {
		return nil
	}
	if e.translation == nil {
		e.exits = x
		return nil
	}
	return e.put(e.translation, x)
}

// lookForRoutes says whether the programs look for routes inside PREF64.
func (e *Engine) lookForRoutes(are bool) error {
	x := e.exits
	x.routes = are
	return e.setExits(x)
}

// switchOff leaves all packets to user space.
func (e *Engine) switchOff() error {
	e.translation = nil
	if err := withdraw(e.objects.Translations); err != nil {
		return &Error{"switch the kernel engine off", err}
	}
	return nil
}

// addNetworks adds networks to those that a trie has, before a translation counts
// on them.
func addNetworks(trie *ebpf.Map, has *map[netip.Prefix]bool, networks []netip.Prefix) error {
	if *has == nil {
		*has = make(map[netip.Prefix]bool)
	}
	want := maps.Clone(*has)
	for _, n := range networks {
		want[n.Masked()] = true
	}
	return replace(trie, *has, want, networkKey)
}

// removeNetworks removes all but networks.
func removeNetworks(trie *ebpf.Map, has map[netip.Prefix]bool, networks []netip.Prefix) error {
	want := make(map[netip.Prefix]bool)
	for _, n := range networks {
		want[n.Masked()] = true
	}
	return replace(trie, has, want, networkKey)
}

// networkKey is n as the key of a trie of IPv4 networks.
func networkKey(n netip.Prefix) any {
	a := n.Addr().As4()
	return bpfNetwork4{Len: uint32(n.Bits()), Addr: binary.NativeEndian.Uint32(a[:])}
}
