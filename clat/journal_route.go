package clat

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

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
	if word := metricsWord(f); word != metricsKey {
		words = append(words, word)
	}
	if f.Object.ID != 0 {
		words = append(words, objectsWord(f))
	}
	return words
}

// nhid begins the word of a journal's line that names the nexthop object of a route
// and those of its next hops.
const nhid = "nhid="

// objectsWord returns that word.
func objectsWord(f plan.ForeignRoute) string {
	object := func(o plan.NexthopObject) string {
		family := 4
		if o.IPv6 {
			family = 6
		}
		return fmt.Sprintf("%d,%d,%d", o.ID, family, o.Protocol)
	}
	all := []string{object(f.Object)}
	for _, h := range f.Hops() {
		all = append(all, object(h.Object))
	}
	return nhid + strings.Join(all, ";")
}

// parseObjects reads what objectsWord has written into f, whose next hops are known.
func parseObjects(word string, f *plan.ForeignRoute) error {
	objects := []*plan.NexthopObject{&f.Object}
	for i := range f.Hops() {
		objects = append(objects, &f.Multipath[i].Object)
	}
	all := strings.Split(word, ";")
	if len(all) != len(objects) {
		return fmt.Errorf("%d nexthop objects of %d next hops", len(all), len(objects)-1)
	}
	for i, text := range all {
		numbers := strings.Split(text, ",")
		if len(numbers) != 3 || numbers[1] != "4" && numbers[1] != "6" {
			return fmt.Errorf("nexthop object %q", text)
		}
		id, err := strconv.ParseUint(numbers[0], 10, 32)
		if err != nil || id == 0 {
			return fmt.Errorf("nexthop object %q", text)
		}
		protocol, err := strconv.ParseUint(numbers[2], 10, 8)
		if err != nil {
			return fmt.Errorf("nexthop object %q", text)
		}
		*objects[i] = plan.NexthopObject{ID: uint32(id), IPv6: numbers[1] == "6", Protocol: int(protocol)}
	}
	return nil
}

// parseSavedRoute reads the words of a line of the journal.
func parseSavedRoute(words []string) (s plan.SavedRoute, err error) {
	objects := ""
	if n := len(words); n > savedRouteWords && strings.HasPrefix(words[n-1], nhid) {
		objects, words = strings.TrimPrefix(words[n-1], nhid), words[:n-1]
	}
	metrics := ""
	if n := len(words); n > savedRouteWords && strings.HasPrefix(words[n-1], metricsKey) {
		metrics, words = strings.TrimPrefix(words[n-1], metricsKey), words[:n-1]
	}
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
	if objects != "" && err == nil {
		err = parseObjects(objects, f)
	}
	if metrics != "" && err == nil {
		err = parseMetrics(metrics, f)
	}
	if a := f.Destination.Addr(); err == nil && (f.Source.IsValid() && f.Source.Is4() != a.Is4() || f.Gateway.Is4() && a.Is6()) {
		err = fmt.Errorf("the route to %s has addresses of the other family", f.Destination)
	}
	return s, err
}
