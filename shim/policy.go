package shim

import (
	"fmt"
	"net/netip"
	"slices"

	"tnat64d/siit"
)

// Fallback says when IPv4 is used in the place of NAT64.
type Fallback uint8

const (
	// FallbackAuto: where IPv4 has a route, or IPv6 has none.
	FallbackAuto Fallback = iota
	// FallbackNever: not at all.
	FallbackNever
	// FallbackFirst: IPv4 is tried before NAT64.
	FallbackFirst
)

// Method says how a program is taken to NAT64.
type Method uint8

const (
	// MethodAuto: the first that the kernel allows: nothing where IPv4 has a
	// route, sockets, namespace.
	MethodAuto Method = iota
	// MethodSockets: sockets are replaced one by one.
	MethodSockets
	// MethodNamespace: the whole program runs in a network namespace.
	MethodNamespace
)

// Route is the prefix that stands for the addresses of a network.
type Route struct {
	Network netip.Prefix // IPv4, masked
	PREF64  netip.Prefix // the zero Prefix: there is none, the network is unreachable
}

// Policy says what to do about a destination. Its zero value knows no prefix.
type Policy struct {
	Routes   []Route        // the longest network wins
	Local    []netip.Prefix // these stay IPv4, besides [alwaysLocal]
	Fallback Fallback
}

// Decision says how a destination is reached.
type Decision uint8

const (
	// Native: the kernel's IPv4 does it.
	Native Decision = iota
	// Translate: through NAT64.
	Translate
	// NoPrefix: there is no PREF64 for this network.
	NoPrefix
)

// Why is the reason for a [Decision].
type Why uint8

const (
	WhyPREF64 Why = iota
	WhyNoPREF64
	WhyUnspecified
	WhyLoopback
	WhyLinkLocal
	WhyMulticast
	WhyBroadcast
	WhyLocal
	WhyRouted
	WhyRemembered
	WhyFirst
	WhyNoIPv6
	numWhys
)

var whyText = [numWhys]struct{ name, sentence string }{
	WhyPREF64:      {"pref64", "a PREF64 covers it and IPv4 has no route to it"},
	WhyNoPREF64:    {"no-pref64", "no PREF64 covers it and IPv4 has no route to it"},
	WhyUnspecified: {"unspecified", "0.0.0.0/8 means this host"},
	WhyLoopback:    {"loopback", "it is a loopback address"},
	WhyLinkLocal:   {"link-local", "it is a link-local address"},
	WhyMulticast:   {"multicast", "it is a multicast address"},
	WhyBroadcast:   {"broadcast", "it is the broadcast address"},
	WhyLocal:       {"local", "the configuration lists its network under local"},
	WhyRouted:      {"routed", "IPv4 has a route to it"},
	WhyRemembered:  {"remembered", "NAT64 failed for it and IPv4 worked, less than 10 minutes ago"},
	WhyFirst:       {"ipv4-first", "the configuration says to try IPv4 first, and IPv4 has a route to it"},
	WhyNoIPv6:      {"no-ipv6", "IPv6 has no route to its PREF64"},
}

// String returns one word, in kebab case.
func (w Why) String() string { return whyText[w].name }

// Sentence returns one sentence for people, without full stop.
func (w Why) Sentence() string { return whyText[w].sentence }

// alwaysLocal stay IPv4 without being listed.
var alwaysLocal = []struct {
	network netip.Prefix
	why     Why
}{
	{netip.MustParsePrefix("0.0.0.0/8"), WhyUnspecified},
	{netip.MustParsePrefix("127.0.0.0/8"), WhyLoopback},
	{netip.MustParsePrefix("169.254.0.0/16"), WhyLinkLocal},
	{netip.MustParsePrefix("224.0.0.0/4"), WhyMulticast},
	{netip.MustParsePrefix("255.255.255.255/32"), WhyBroadcast},
}

// table is a Policy that is ready to decide. It does not change.
type table struct {
	local    []netip.Prefix
	fallback Fallback
	routes   []prepared // longest network first
}

type prepared struct {
	Route
	embed siit.Prefix
}

// prepare checks a Policy.
func (p Policy) prepare() (*table, error) {
	t := &table{local: p.Local, fallback: p.Fallback}
	for _, r := range p.Routes {
		if !r.Network.IsValid() || !r.Network.Addr().Is4() {
			return nil, fmt.Errorf("network %q is not an IPv4 prefix", r.Network)
		}
		q := prepared{Route: Route{r.Network.Masked(), r.PREF64}}
		if r.PREF64.IsValid() {
			var err error
			if q.embed, err = siit.NewPrefix(r.PREF64); err != nil {
				return nil, err
			}
		}
		t.routes = append(t.routes, q)
	}
	slices.SortStableFunc(t.routes, func(a, b prepared) int { return b.Network.Bits() - a.Network.Bits() })
	return t, nil
}

// stays reports whether a is one of the addresses that are never translated.
func (t *table) stays(a netip.Addr) (Why, bool) {
	for _, l := range alwaysLocal {
		if l.network.Contains(a) {
			return l.why, true
		}
	}
	for _, l := range t.local {
		if l.Contains(a) {
			return WhyLocal, true
		}
	}
	return 0, false
}

// route returns the route of the longest network that contains a.
func (t *table) route(a netip.Addr) (*prepared, bool) {
	for i := range t.routes {
		if t.routes[i].Network.Contains(a) {
			return &t.routes[i], t.routes[i].PREF64.IsValid()
		}
	}
	return nil, false
}

// embed returns the IPv6 address that stands for a.
func (t *table) embed(a netip.Addr) (netip.Addr, bool) {
	r, ok := t.route(a)
	if !ok {
		return netip.Addr{}, false
	}
	return r.embed.Embed(a), true
}

// extract returns the IPv4 address for which a stands: the one that this table
// embeds as a.
func (t *table) extract(a netip.Addr) (netip.Addr, bool) {
	for i := range t.routes {
		if !t.routes[i].PREF64.IsValid() {
			continue
		}
		if v4, ok := t.routes[i].embed.Extract(a); ok {
			if back, ok := t.embed(v4); ok && back == a {
				return v4, true
			}
		}
	}
	return netip.Addr{}, false
}

// facts are what a decision depends on besides the policy. Each is asked only
// when it matters.
type facts struct {
	ipv4       func(netip.Addr) bool // IPv4 has a route to a
	ipv6       func(netip.Addr) bool // IPv6 has a route to a
	remembered func(netip.Addr) (ipv4, known bool)
}

// decide says what becomes of a packet or connection to the IPv4 address a.
func (t *table) decide(a netip.Addr, f facts) (Decision, Why) {
	if why, ok := t.stays(a); ok {
		return Native, why
	}
	to, have := t.embed(a)
	if t.fallback == FallbackNever {
		if !have {
			return NoPrefix, WhyNoPREF64
		}
		return Translate, WhyPREF64
	}
	if ipv4, known := f.remembered(a); known {
		if ipv4 && f.ipv4(a) {
			return Native, WhyRemembered
		}
		if !ipv4 && have {
			return Translate, WhyPREF64
		}
	}
	if f.ipv4(a) {
		if t.fallback == FallbackFirst {
			return Native, WhyFirst
		}
		return Native, WhyRouted
	}
	switch {
	case !have:
		return NoPrefix, WhyNoPREF64
	case !f.ipv6(to):
		return Translate, WhyNoIPv6 // it fails as IPv6 does
	}
	return Translate, WhyPREF64
}

// String names the value as the configuration does.
func (f Fallback) String() string { return [...]string{"auto", "never", "first"}[f] }

// String names the value as the configuration does.
func (m Method) String() string { return [...]string{"auto", "sockets", "namespace"}[m] }
