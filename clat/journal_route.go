package clat

import (
	"fmt"
	"net/netip"
	"strconv"

	"tnat64d/clat/plan"
)

const (
	savedRouteWords = 14
	hopWords        = 4 // for each next hop of a multipath route
)

// savedRouteFields returns the words of a line of the journal.
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
	for _, h := range f.Hops() {
		link := h.Link
		if h.TUN {
			link = "-"
		}
		words = append(words, link, addr(h.Gateway), strconv.Itoa(h.Weight), strconv.Itoa(h.Flags))
	}
	return words
}

// parseSavedRoute reads the words of a line of the journal.
func parseSavedRoute(words []string) (s plan.SavedRoute, err error) {
	hops := len(words) - savedRouteWords
	if hops < 0 || hops%hopWords != 0 || hops/hopWords > plan.MaxHops {
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
	number := func(w string) int {
		var n uint64
		if err == nil {
			n, err = strconv.ParseUint(w, 10, 32)
		}
		return int(n)
	}
	s.TUN, s.Network = words[0], plan.Network{Uplink: words[1], IPv6: addr(words[2]), PREF64: prefix(words[3])}
	f := &s.Route
	f.Destination, f.Source, f.Gateway = prefix(words[4]), addr(words[5]), addr(words[6])
	for i, n := range []*int{&f.Metric, &f.MTU, &f.Table, &f.Protocol, &f.Scope, &f.TOS, &f.Flags} {
		*n = number(words[7+i])
	}
	for i := range hops / hopWords {
		w := words[savedRouteWords+i*hopWords:]
		h := plan.Hop{TUN: w[0] == "-", Link: w[0], Gateway: addr(w[1]), Weight: number(w[2]), Flags: number(w[3])}
		if h.TUN {
			h.Link = s.TUN
		}
		if err == nil && (h.Weight < 1 || h.Weight > 256) {
			err = fmt.Errorf("weight %d", h.Weight)
		}
		f.Multipath[i] = h
	}
	if a := f.Destination.Addr(); err == nil && (f.Source.IsValid() && f.Source.Is4() != a.Is4() || f.Gateway.Is4() && a.Is6()) {
		err = fmt.Errorf("the route to %s has addresses of the other family", f.Destination)
	}
	return s, err
}
