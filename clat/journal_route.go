package clat

import (
	"fmt"
	"net/netip"
	"strconv"

	"tnat64d/clat/plan"
)

// savedRouteFields are the words of a line of the journal.
func savedRouteFields(s plan.SavedRoute) []string {
	addr := func(a netip.Addr) string {
		if !a.IsValid() {
			return "-"
		}
		return a.String()
	}
	f := s.Route
	words := []string{s.TUN, s.Network.Uplink, addr(s.Network.IPv6), s.Network.PREF64.String(), f.Destination.String(), addr(f.Source), addr(f.Gateway)}
	for _, n := range []int{f.Metric, f.MTU, f.Table, f.Protocol, f.Scope, f.TOS, f.Flags} {
		words = append(words, strconv.Itoa(n))
	}
	return words
}

// parseSavedRoute reads the words of a line of the journal.
func parseSavedRoute(words []string) (s plan.SavedRoute, err error) {
	if len(words) != 14 {
		return s, fmt.Errorf("%d words", len(words))
	}
	addr := func(w string) (a netip.Addr) {
		if w != "-" && err == nil {
			a, err = netip.ParseAddr(w)
		}
		return a
	}
	prefix := func(w string) (p netip.Prefix) {
		if err == nil {
			p, err = netip.ParsePrefix(w)
		}
		return p
	}
	s.TUN, s.Network = words[0], plan.Network{Uplink: words[1], IPv6: addr(words[2]), PREF64: prefix(words[3])}
	f := &s.Route
	f.Destination, f.Source, f.Gateway = prefix(words[4]), addr(words[5]), addr(words[6])
	for i, n := range []*int{&f.Metric, &f.MTU, &f.Table, &f.Protocol, &f.Scope, &f.TOS, &f.Flags} {
		var v uint64
		if v, err = strconv.ParseUint(words[7+i], 10, 32); err != nil {
			return s, err
		}
		*n = int(v)
	}
	if err == nil && (!f.Destination.Addr().Is4() || f.Source.IsValid() && !f.Source.Is4() || f.Gateway.IsValid() && !f.Gateway.Is4()) {
		err = fmt.Errorf("%s is not an IPv4 route", f.Destination)
	}
	return s, err
}
