package plan

import (
	"net/netip"
	"slices"
)

// IsPart reports whether IPv4 routes to p are part of a default route, such as the
// two halves 0.0.0.0/1 and 128.0.0.0/1. A network has a longer prefix, and multicast
// is no part.
func IsPart(p netip.Prefix) bool {
	return p.Addr().Is4() && p.Bits() > 0 && p.Bits() < MinNetwork && !multicastAndReserved.Contains(p.Masked().Addr())
}

// multicastAndReserved is 224.0.0.0/4 (RFC 5771) with 240.0.0.0/4 (RFC 1112 section 4).
var multicastAndReserved = netip.MustParsePrefix("224.0.0.0/3")

// ProbesIn returns global IPv4 destinations by which to judge routes to a part of
// IPv4 (see [IsPart]), or the default route if part is invalid: those of
// [GlobalIPv4] that are in it, or else one.
func ProbesIn(part netip.Prefix) []netip.Addr {
	if !part.IsValid() {
		return GlobalIPv4
	}
	var in []netip.Addr
	for _, a := range GlobalIPv4 {
		if part.Contains(a) {
			in = append(in, a)
		}
	}
	if len(in) > 0 {
		return in
	}
	a := GlobalIPv4[0].As4()
	a[0] = part.Masked().Addr().As4()[0]
	if a[0] == 0 || a[0] == 10 { // 0.0.0.0/8 and 10.0.0.0/8 are not global
		a[0]++
	}
	return []netip.Addr{netip.AddrFrom4(a)}
}

// ProbesFor returns the destinations by which to judge the IPv4 default routes of
// o that which selects, whole and in parts: [GlobalIPv4] and those of the parts, at
// most one in each /7.
func ProbesFor(o Observed, which func(Route) bool) []netip.Addr {
	probes := slices.Clone(GlobalIPv4)
	for _, r := range o.Routes {
		if r.IPv6 || !r.Part.IsValid() || r.Protocol == Protocol || !which(r) {
			continue
		}
		for _, a := range ProbesIn(r.Part) {
			if !slices.Contains(probes, a) {
				probes = append(probes, a)
			}
		}
	}
	return probes
}
