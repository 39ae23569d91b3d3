package clat

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Where BPF is refused packets cannot be steered, and the kernel forwards
// them between uplink and TUN instead. What that takes on top of the usual:
//
//   - Forwarding: force_forwarding on the two interfaces (Linux 6.17), or else
//     all.forwarding. The latter makes a host deaf to router advertisements
//     unless accept_ra is 2, so it is 2 before.
//   - The CLAT IPv6 address stays an ordinary address of the uplink, so that
//     DAD, MLD and neighbour solicitations are still the kernel's, with the
//     right source and flags. Only its route in the local table goes, and one
//     into the TUN comes: what is for the address is no longer delivered
//     locally, where it would meet a reset or a port unreachable.
//   - Solicitations by unicast (neighbour unreachability detection) would take
//     that route too. A proxy neighbour entry and all.proxy_ndp bring them back
//     to the kernel, and it answers them as it does those by multicast.
//   - The host's routes may lead to the PLAT by another link, or into a VPN.
//     Then a rule sends what comes from the TUN by the uplink's own default
//     route, in a table of its own. The routes into the TUN are in the local
//     table, which no VPN comes before.
//
// A proxy entry without the address would not do: before all.forwarding or
// the uplink's own forwarding is on the kernel answers for none, and when it
// does, then late and from another address.
//
// Every sysctl is in the [Journal] with its old value before it is changed.

// Sysctl names net.ipv6.conf.LINK.KEY. LINK may be "all" or "default".
type Sysctl struct {
	Link, Key string
}

// The keys we read or write.
const (
	acceptRA        = "accept_ra"
	disableIPv6     = "disable_ipv6"
	forceForwarding = "force_forwarding"
	ipForwarding    = "forwarding"
	proxyNDP        = "proxy_ndp"

	allLinks, newLinks = "all", "default"
)

var sysctlKeys = []string{acceptRA, disableIPv6, forceForwarding, ipForwarding, proxyNDP}

// String returns the name as sysctl(8) wants it, which exchanges dots and
// slashes: VLAN interfaces have dots in their names.
func (s Sysctl) String() string {
	return "net.ipv6.conf." + strings.ReplaceAll(s.Link, ".", "/") + "." + s.Key
}

func (s Sysctl) path() string { return "/proc/sys/net/ipv6/conf/" + s.Link + "/" + s.Key }

// valid guards what is read from a file.
func (s Sysctl) valid() bool {
	return s.Link != "" && s.Link != "." && s.Link != ".." && !strings.Contains(s.Link, "/") && slices.Contains(sysctlKeys, s.Key)
}

// Change is a sysctl that we have changed.
type Change struct {
	Sysctl
	Was, Is int
}

func (c Change) String() string { return fmt.Sprintf("%s %d -> %d", c.Sysctl, c.Was, c.Is) }

// Forwarding is the part of a CLAT that takes the place of steering.
type Forwarding struct {
	Why string // steering is refused
	// Source is the address of the uplink from which the kernel's own errors
	// come; invalid if there is none yet.
	Source netip.Addr
	// Way is the uplink's default route in [TableForwarding]; the zero Route
	// if the host's routes will do.
	Way Route
	// Settings are to be made in this order and taken back in reverse.
	Settings []Setting
}

// Setting is a sysctl as it should be.
type Setting struct {
	Change
	// Implied settings are not written. all.forwarding overwrites those of
	// all links; what they were comes back after it is 0 again.
	Implied bool
}

// ForwardingState is the part of an observation that matters to Forwarding.
type ForwardingState struct {
	// Sysctls of all links; one that the kernel has not is missing.
	Sysctls map[Sysctl]int
	// Diverted has the destinations for which [Forwarder.Divert] has nothing
	// left to do.
	Diverted []Diversion
	// Rule says that the rule for [TableForwarding] is there.
	Rule bool
}

// TableForwarding is the number of our routing table, and the priority of the
// rule for it and the metric of routes beside those of others.
const TableForwarding = Protocol

// before returns what a sysctl was before we changed it.
func (o Observed) before(s Sysctl) (value int, ok bool) {
	value, ok = o.Forwarding.Sysctls[s]
	if c, ours := o.Memory.change(s); ours && value == c.Is {
		value = c.Was
	}
	return value, ok
}

func (m Memory) change(s Sysctl) (Change, bool) {
	i := slices.IndexFunc(m.Changes, func(c Change) bool { return c.Sysctl == s })
	if i < 0 {
		return Change{}, false
	}
	return m.Changes[i], true
}

// forwarding says which sysctls let the kernel forward between l and a TUN.
// What is as it should be already is left out, and stays at the end.
func (o Observed) forwarding(l Link, tun string) *Forwarding {
	f := &Forwarding{Why: o.Memory.NoSteering, Source: o.ordinaryAddr(l), Way: o.way(l)}
	want := func(s Sysctl, value int) {
		if was, ok := o.before(s); ok && was != value {
			f.Settings = append(f.Settings, Setting{Change: Change{s, was, value}})
		}
	}
	// Of the TUN, which does not exist yet: it is made with the defaults.
	onTUN := func(key string, value int) {
		if was, ok := o.before(Sysctl{newLinks, key}); ok && was != value {
			f.Settings = append(f.Settings, Setting{Change: Change{Sysctl{tun, key}, was, value}})
		}
	}
	onTUN(disableIPv6, 0)
	all, _ := o.before(Sysctl{allLinks, ipForwarding})
	_, one := o.Forwarding.Sysctls[Sysctl{newLinks, forceForwarding}]
	switch {
	case all != 0: // a router already
	case one:
		onTUN(forceForwarding, 1)
		want(Sysctl{l.Name, forceForwarding}, 1)
	default:
		for _, e := range o.Links {
			if was, ok := o.before(Sysctl{e.Name, acceptRA}); ok && was == 1 && !e.Loopback && e.Name != tun {
				want(Sysctl{e.Name, acceptRA}, 2)
			}
		}
		f.Settings = append(f.Settings, o.overwritten(tun)...)
		want(Sysctl{allLinks, ipForwarding}, 1)
	}
	want(Sysctl{allLinks, proxyNDP}, 1)
	return f
}

// way returns the default route of l, with our marks, if another link has one
// that might be preferred.
func (o Observed) way(l Link) Route {
	var own Route
	for _, r := range append(o.ipv6Defaults(), o.Routes...) {
		if r.IPv6 && r.Link == l.Index && r.Protocol != Protocol {
			own = r
			break
		}
	}
	if own == (Route{}) {
		return own
	}
	elsewhere := slices.ContainsFunc(o.Routes, func(r Route) bool {
		return r.IPv6 && r.Link != l.Index && (r.Table != TableMain || own.Table != TableMain || r.Metric <= own.Metric)
	})
	if !elsewhere {
		return Route{}
	}
	return Route{IPv6: true, Link: l.Index, Gateway: own.Gateway, Metric: TableForwarding, Table: TableForwarding, Protocol: Protocol}
}

// ordinaryAddr returns the address by which other hosts know this one, as long
// as it lasts the same.
func (o Observed) ordinaryAddr(l Link) netip.Addr {
	var best Addr
	for _, a := range o.Addrs {
		ip := a.Prefix.Addr()
		if a.Link != l.Index || !ip.Is6() || ip.IsLinkLocalUnicast() || o.owns(ip) || a.Tentative || a.DADFailed || a.Deprecated {
			continue
		}
		if !best.Prefix.IsValid() || best.Temporary && !a.Temporary || best.Temporary == a.Temporary && ip.Less(best.Prefix.Addr()) {
			best = a
		}
	}
	return best.Prefix.Addr()
}

// overwritten lists the links that forward on their own account, which they
// would no longer after all.forwarding has been 1 and 0.
func (o Observed) overwritten(tun string) []Setting {
	var ss []Setting
	add := func(s Sysctl) { ss = append(ss, Setting{Change: Change{s, 1, 0}, Implied: true}) }
	all := Sysctl{allLinks, ipForwarding}
	if c, ours := o.Memory.change(all); ours && o.Forwarding.Sysctls[all] == c.Is {
		// It has been overwritten: only memory knows.
		for _, c := range o.Memory.Changes {
			if c.Key == ipForwarding && c.Link != allLinks {
				add(c.Sysctl)
			}
		}
		return ss
	}
	names := []string{newLinks}
	for _, l := range o.Links {
		if l.Name != tun {
			names = append(names, l.Name)
		}
	}
	for _, name := range names {
		if s := (Sysctl{name, ipForwarding}); o.Forwarding.Sysctls[s] != 0 {
			add(s)
		}
	}
	return ss
}
