package clat

import (
	"fmt"
	"net/netip"
	"slices"

	"tnat64d/siit"
)

// Desired is what the host should look like.
type Desired struct {
	// Uplink is the link whose PREF64 matters, also before one is known. Its
	// Index is 0 if there is no uplink.
	Uplink Uplink
	// CLAT is nil if none should run.
	CLAT *CLAT
	// Why says in plain words why there is a CLAT, or why not.
	Why string
	// Warnings are circumstances that the user may want to change. The CLAT
	// runs nevertheless.
	Warnings []string
}

// Uplink names a link.
type Uplink struct {
	Name  string
	Index int
}

// CLAT is one translator with everything around it.
type CLAT struct {
	Uplink Uplink
	TUN    string // interface name
	Queues int
	IPv6   netip.Addr
	IPv4   netip.Addr
	PREF64 PREF64
	MTU    MTU6
	Metric int

	// Translation is complete, ready for siit.New.
	Translation siit.Config

	// Forwarding takes the place of steering; nil: packets are steered.
	Forwarding *Forwarding
	// MayForward says that steering may be refused.
	MayForward bool
}

// Ours lists the IPv6 destinations that belong to the translator and not to
// the host's own IPv6 stack.
func (c CLAT) Ours() []netip.Prefix { return c.Translation.Mapping.Ours() }

// maxTries is how many addresses DAD may refuse before we give up (standards.md N-9).
const maxTries = 3

// Plan decides what should run, for one uplink. It is pure and total: the same
// observation and configuration always give the same answer, and every answer
// has its Why.
func Plan(o Observed, c Config) Desired {
	c = c.withDefaults()
	if c.Enable == Never {
		return Desired{Why: `clat.enable is "never"`}
	}
	l, why := o.uplink(c)
	if why != "" {
		return Desired{Why: why}
	}
	d := Desired{Uplink: Uplink{Name: l.Name, Index: l.Index}}
	if c.Enable == Auto && o.nativeIPv4(l.Index) {
		d.Why = fmt.Sprintf("native IPv4 on %s: standing aside", l.Name)
		return d
	}
	p, why := o.pref64(l)
	if why != "" {
		d.Why = why
		return d
	}
	mtu, why := o.mtu(l, c)
	if why != "" {
		d.Why = why
		return d
	}
	v4, why := o.clatIPv4(c)
	if why != "" {
		d.Why = why
		return d
	}
	v6, why := o.clatIPv6(l, c, v4, p.Prefix)
	if why != "" {
		d.Why = why
		return d
	}

	t := c.Translation
	t.Mapping.PREF64 = p.Prefix
	t.Mapping.CLAT = siit.Pair{IPv4: v4, IPv6: v6}
	if t.ICMPSource4 == v4 {
		// An error that came from the host itself would not show in traceroute.
		t.ICMPSource4 = rfc7335.Addr().Next()
		for t.ICMPSource4 == v4 {
			t.ICMPSource4 = t.ICMPSource4.Next()
		}
	}
	t.MTU6, t.MTU4 = int(mtu), int(mtu.IPv4())
	if t.LowestIPv6MTU > int(mtu) {
		t.LowestIPv6MTU = int(mtu)
	}
	d.CLAT = &CLAT{
		Uplink: d.Uplink, TUN: c.TUN, Queues: c.Queues,
		IPv6: v6, IPv4: v4, PREF64: p, MTU: mtu, Metric: c.Metric,
		Translation: t, MayForward: c.Forward,
	}
	if c.Forward && o.Memory.NoSteering != "" && o.Forwarding != nil {
		d.CLAT.Forwarding = o.forwarding(l, c.TUN)
	}
	d.Why = fmt.Sprintf("PREF64 %s on %s (%s)", p.Prefix, l.Name, p.Source)
	d.Warnings = o.warnings(d.CLAT)
	return d
}

// pref64 returns the first usable prefix of a link. One that contains an
// address of the host is none: translated destinations and neighbours could
// not be told apart, and only a misconfigured or hostile router sends it.
func (o Observed) pref64(l Link) (PREF64, string) {
	why := "waiting for a PREF64 on " + l.Name
	for _, p := range o.PREF64 {
		if p.Link != l.Index {
			continue
		}
		i := slices.IndexFunc(o.Addrs, func(a Addr) bool { return p.Prefix.Contains(a.Prefix.Addr()) })
		if i < 0 {
			return p, ""
		}
		why = fmt.Sprintf("PREF64 %s on %s is refused: it contains this host's own address %s", p.Prefix, l.Name, o.Addrs[i].Prefix.Addr())
	}
	return PREF64{}, why
}

// mtu returns the MTU of the IPv6 side. A configured one may exceed what the
// router advertises, but not what the device can send.
func (o Observed) mtu(l Link, c Config) (MTU6, string) {
	m := o.uplinkMTU(l)
	if c.MTU != 0 {
		m = min(c.MTU.IPv6(), MTU6(l.MTU))
	}
	if m < MinMTU6 {
		return 0, fmt.Sprintf("the IPv6 MTU of %s is %d, below the 1280 bytes that IPv6 needs", l.Name, m)
	}
	return m, ""
}

// rfc7335 is the IPv4 service continuity prefix, for the inner side of
// translators on hosts.
var rfc7335 = netip.MustParsePrefix("192.0.0.0/29")

// clatIPv4 returns the IPv4 address of the CLAT: the configured one, or the
// first of 192.0.0.0/29 that no other link has and that the translator does
// not use for its own errors (RFC 7335, standards.md C-42).
func (o Observed) clatIPv4(c Config) (netip.Addr, string) {
	taken := func(a netip.Addr) string {
		if a == c.Translation.ICMPSource4 {
			return "is the source of the translator's own errors (translation.icmp-source)"
		}
		for _, e := range o.Addrs {
			if l, _ := o.linkByIndex(e.Link); e.Prefix.Addr() == a && l.Name != c.TUN {
				return "is an address of " + l.Name
			}
		}
		return ""
	}
	if c.IPv4.IsValid() && c.IPv4 == c.Translation.ICMPSource4 {
		return c.IPv4, "" // and the errors get another source
	}
	if c.IPv4.IsValid() {
		if why := taken(c.IPv4); why != "" {
			return netip.Addr{}, fmt.Sprintf("the configured IPv4 address %s %s", c.IPv4, why)
		}
		return c.IPv4, ""
	}
	if o.Memory.IPv4.IsValid() && rfc7335.Contains(o.Memory.IPv4) && taken(o.Memory.IPv4) == "" {
		return o.Memory.IPv4, ""
	}
	for _, last := range [...]byte{1, 2, 3, 4, 5, 6, 7, 0} {
		if a := netip.AddrFrom4([4]byte{192, 0, 0, last}); taken(a) == "" {
			return a, ""
		}
	}
	return netip.Addr{}, "every address of 192.0.0.0/29 is in use on this host"
}

// clatIPv6 returns the IPv6 address of the CLAT: the configured one, or the
// first of three candidates in the uplink's /64 that DAD has not refused.
func (o Observed) clatIPv6(l Link, c Config, v4 netip.Addr, pref64 netip.Prefix) (netip.Addr, string) {
	if c.IPv6.IsValid() {
		switch {
		case pref64.Contains(c.IPv6):
			return netip.Addr{}, fmt.Sprintf("the configured IPv6 address %s lies in PREF64 %s", c.IPv6, pref64)
		case o.foreign(c.IPv6):
			return netip.Addr{}, fmt.Sprintf("the configured IPv6 address %s is already one of this host's own; the CLAT needs one for itself", c.IPv6)
		case slices.Contains(o.Memory.Refused, c.IPv6):
			return netip.Addr{}, fmt.Sprintf("the configured IPv6 address %s is in use by another host on %s", c.IPv6, l.Name)
		}
		return c.IPv6, ""
	}
	prefix, why := o.slaacPrefix(l, pref64)
	if why != "" {
		return netip.Addr{}, why
	}
	id := identity{secret: c.Secret, prefix: prefix, iface: l.Name, ipv4: v4, pref64: pref64}
	for n := range maxTries {
		if a := id.address(n); !slices.Contains(o.Memory.Refused, a) && !o.foreign(a) {
			return a, ""
		}
	}
	return netip.Addr{}, fmt.Sprintf("%d addresses in %s on %s are in use by other hosts: clat.ipv6 can name one that is free", maxTries, prefix, l.Name)
}

// owns reports whether a CLAT address on the host is ours.
func (o Observed) owns(a netip.Addr) bool { return slices.Contains(o.Memory.Own, a) }

// foreign reports whether the host has the address for another purpose.
func (o Observed) foreign(a netip.Addr) bool {
	return !o.owns(a) && slices.ContainsFunc(o.Addrs, func(e Addr) bool { return e.Prefix.Addr() == a })
}

// warnings tells what may keep packets from a CLAT that runs.
func (o Observed) warnings(c *CLAT) []string {
	var ws []string
	t, ok := o.linkByName(c.TUN)
	if ok && t.RPFilter == 1 {
		for _, r := range o.Routes {
			if !r.IPv6 && r.Link != t.Index && r.Table == TableMain && r.Metric < c.Metric {
				ws = append(ws, fmt.Sprintf("net.ipv4 rp_filter is 1 (strict): while %s has the better IPv4 default route, replies that arrive on %s are dropped; 2 (loose) would let them in",
					o.linkName(r.Link), c.TUN))
				break
			}
		}
	}
	return ws
}
