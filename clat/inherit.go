package clat

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"tnat64d/clat/plan"
)

// Inherited is the TUN of a CLAT of a former process, which still carries packets.
type Inherited struct {
	TUN    string // name
	Index  int
	Queues int
}

// inherited is what a former process has left working. Each CLAT goes on as it is
// until the plan has one for its uplink, which takes it over, or cannot.
type inherited struct {
	tools
	unremoved *unremoved
	remove    func(tun string)
	since     time.Time
	all       []inheritedCLAT
	settled   bool // nothing is left of it, or there was nothing
}

type inheritedCLAT struct {
	Inherited
	uplink plan.Uplink
	ipv4   netip.Addr
	ipv6   netip.Addr // invalid: not known
	routes []plan.Route
	rule   plan.SourceRule // the source rule; zero: there is none
}

// Inherit takes over what a former process has left working, instead of CleanUp:
// its TUNs, and the addresses, rules and routes that o has. o is observed before the
// first Reconcile. What no plan wants remove takes away: one TUN with what belongs
// to it, or, for "", all that is still there.
func (r *Reconciler) Inherit(o plan.Observed, tuns []Inherited, remove func(tun string)) {
	now := time.Now()
	i := &inherited{tools: r.tools, unremoved: r.unremoved, remove: remove, since: now}
	r.inherited = i
	var ours []plan.Addr
	noted := map[JournalEntry]bool{}
	if r.journal.journal != nil {
		for _, e := range r.journal.journal.Entries() {
			noted[e] = true
		}
	}
	for _, a := range o.Addrs {
		e := JournalEntry{o.LinkName(a.Link), a.Prefix.Addr()}
		if a.LooksLikeCLAT() && (a.Protocol == plan.Protocol || noted[e]) {
			ours = append(ours, a)
			delete(noted, e)
			r.unremoved.all = append(r.unremoved.all, unremovedAddr{plan.Uplink{Name: e.Link, Index: a.Link}, e.Addr, now})
		}
	}
	for e := range noted { // gone
		r.journal.del(e.Link, e.Addr)
	}
	for _, t := range tuns {
		c, ok := describe(o, ours, t)
		if !ok {
			remove(t.TUN)
			continue
		}
		i.all = append(i.all, c)
		r.log.Info("took over the interface of the previous process", "iface", c.uplink.Name, "tun", t.TUN)
	}
}

// describe completes t from what is on the host.
func describe(o plan.Observed, ours []plan.Addr, t Inherited) (c inheritedCLAT, ok bool) {
	c.Inherited = t
	l, _ := o.LinkByIndex(t.Index)
	name, isCLAT := strings.CutPrefix(l.Alias, plan.AliasPrefix)
	uplink, there := o.LinkByName(name)
	if !isCLAT || !there {
		return c, false
	}
	c.uplink = plan.Uplink{Name: uplink.Name, Index: uplink.Index}
	for _, a := range o.Addrs {
		if a.Link == t.Index && a.Prefix.Addr().Is4() && a.Prefix.IsSingleIP() {
			c.ipv4 = a.Prefix.Addr()
		}
	}
	on := slices.DeleteFunc(slices.Clone(ours), func(a plan.Addr) bool { return a.Link != uplink.Index })
	switch len(on) {
	case 1:
		c.ipv6 = on[0].Prefix.Addr()
	case 2:
		if main, _, ok := plan.MainOf(o, uplink.Index, on[0].Prefix.Addr(), on[1].Prefix.Addr()); ok {
			c.ipv6 = main
		}
	}
	for _, r := range o.Routes {
		if r.Link == t.Index && !r.IPv6 && r.Protocol == plan.Protocol {
			c.routes = append(c.routes, r)
		}
	}
	if i := slices.IndexFunc(o.Rules, plan.SourceRuleFor(c.ipv4, 0).SameFlows); c.ipv4.IsValid() && i >= 0 {
		c.rule = o.Rules[i]
	}
	return c, c.ipv4.IsValid()
}

// remembered lists the CLATs for the next plan.
func (i *inherited) remembered() (all []plan.Remembered) {
	if i == nil {
		return nil
	}
	for _, c := range i.all {
		all = append(all, plan.Remembered{Uplink: c.uplink, TUN: c.TUN, TUNIndex: c.Index, IPv4: c.ipv4, IPv6: c.ipv6})
	}
	return all
}

// settle takes away what the plan cannot go on with, and reports on which uplinks.
// What belongs to a network that may return, or whose PREF64 is not found yet, stays
// for a minute.
func (i *inherited) settle(p plan.Plan) (changed []plan.Uplink) {
	if i == nil {
		return nil
	}
	left := holdFor - time.Since(i.since)
	i.all = slices.DeleteFunc(i.all, func(c inheritedCLAT) bool {
		at := slices.IndexFunc(p.Uplinks, func(d plan.Desired) bool { return d.Uplink == c.uplink })
		if at >= 0 {
			switch d := p.Uplinks[at]; {
			case d.CLAT != nil && d.CLAT.TUN == c.TUN && d.CLAT.Queues == c.Queues && d.CLAT.IPv4 == c.ipv4:
				return false
			case d.CLAT == nil && (d.Hold || d.Backoff) && left > 0:
				i.wake.in(left)
				return false
			}
		}
		i.drop(c)
		changed = append(changed, c.uplink)
		return true
	})
	return changed
}

// drop removes a CLAT. The addresses go before the steering does: see inService.
func (i *inherited) drop(c inheritedCLAT) {
	i.log.Info("removed the interface of the previous process: this CLAT cannot use it", "iface", c.uplink.Name, "tun", c.TUN)
	var served []netip.Addr
	err := i.unremoved.remove(func(s unremovedAddr) bool {
		if s.uplink == c.uplink {
			served = append(served, s.addr)
		}
		return s.uplink == c.uplink
	})
	for _, a := range served {
		i.left.add(c.uplink.Name, a, time.Now())
	}
	if err != nil {
		i.log.Warn("cannot remove an address of the previous process", "iface", c.uplink.Name, "reason", err)
	}
	i.remove(c.TUN)
	if c.rule != (plan.SourceRule{}) {
		if err := i.host.DelSourceRule(c.rule); err != nil {
			i.log.Warn("cannot remove a rule of the previous process", "iface", c.uplink.Name, "reason", err)
		}
	}
}

// take gives what there is for want to its CLAT, which has nothing yet.
func (i *inherited) take(c *instance) {
	if i == nil {
		return
	}
	at := slices.IndexFunc(i.all, func(h inheritedCLAT) bool { return h.uplink == c.uplink })
	if at < 0 {
		return
	}
	h := i.all[at]
	i.all = slices.Delete(i.all, at, at+1)
	for _, r := range h.routes {
		if r.Table == plan.SourceRuleFor(h.ipv4, 0).Table {
			c.rule.added = append(c.rule.added, r)
		} else {
			c.routes.added = append(c.routes.added, r)
		}
	}
	if h.rule != (plan.SourceRule{}) {
		c.rule.state, c.rule.made = rulePresent, h.rule
	}
	c.foreign.restored = true // nothing has gone
	c.datapath.inherited = h.Index
}

// finish removes what is left when every CLAT has what it wants of it.
func (i *inherited) finish(clats []*instance) {
	if i == nil || i.settled || len(i.all) > 0 || slices.ContainsFunc(clats, func(c *instance) bool { return !c.datapath.started }) {
		return
	}
	i.settled = true
	i.remove("")
}

// abandon removes everything that no CLAT has taken over.
func (i *inherited) abandon() {
	if i == nil {
		return
	}
	for _, c := range i.all {
		i.drop(c)
	}
	i.all, i.settled = nil, true
	i.remove("")
}

// Leave records what the next process has to know, and leaves everything as it is,
// for it to Inherit.
func (r *Reconciler) Leave() {
	for _, c := range r.clats.running() {
		c.foreign.save(true)
	}
}
