package shim

import (
	"net/netip"
)

// Explanation is what would become of a destination, and why.
type Explanation struct {
	Decision Decision
	Why      Why
	IPv6     netip.Addr // that stands for it; invalid: no PREF64 covers it
	Route    Route      // the one that counts; the zero Route: none
}

// Explain says what a program would get that connects to the IPv4 address a at
// present. It sends nothing.
func (p Policy) Explain(a netip.Addr) (Explanation, error) {
	t, err := p.prepare()
	if err != nil {
		return Explanation{}, err
	}
	var e Explanation
	e.Decision, e.Why = t.decide(a, facts{
		ipv4: routeTo, ipv6: routeTo,
		remembered: func(netip.Addr) (bool, bool) { return false, false },
	})
	if r, _ := t.route(a); r != nil {
		e.Route = r.Route
	}
	e.IPv6, _ = t.embed(a)
	return e, nil
}

// Probe finds out how a program would run, by running one that does nothing.
func Probe(p Policy, m Method) (How, error) {
	c := &Cmd{Path: "/proc/self/exe", Args: []string{stageName, "nothing", "3"}, Policy: p, Method: m}
	if err := c.Start(); err != nil {
		return How{}, err
	}
	_, err := c.Wait()
	return c.How(), err
}
