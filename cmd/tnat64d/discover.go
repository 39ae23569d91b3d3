package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/bus"
	"tnat64d/internal/config"
	"tnat64d/pref64"
)

// discovery looks for the PREF64 of one link. It begins before the link is an
// uplink, as the router advertisement that brings the default route most often
// brings PREF64 too, and goes on while the link is without a network.
type discovery struct {
	link     plan.Uplink
	asks     asks
	finder   *pref64.Finder
	own      []netip.Prefix   // what the finder was last told
	gateways []pref64.Gateway // so too
	network  networkID        // as last observed
	carrier  bool
	changes  int // of the carrier
	paused   bool
	tunnel   atomic.Bool // there is a tunnel beside the link: resolv.conf may be its
	stop     context.CancelFunc
}

// asks is the part of the configuration that a discovery follows.
type asks struct {
	static  []netip.Prefix
	sources []config.Source
	servers []netip.Addr
}

func (a asks) equal(b asks) bool {
	return slices.Equal(a.static, b.static) && slices.Equal(a.sources, b.sources) && slices.Equal(a.servers, b.servers)
}

// maxLinks bounds the links that are listened to: a host with hundreds of
// virtual ones has few that lead to a network.
const maxLinks = 16

// asksOf returns what of the configuration a discovery follows.
func asksOf(c config.Config) asks {
	return asks{static: c.CLAT.PREF64, sources: c.Discovery.Sources, servers: c.Discovery.DNSServers}
}

// discoveries look for PREF64 on links, and know the DNS servers to ask.
type discoveries struct {
	*inbox
	log    *slog.Logger
	bus    *bus.Bus
	links  map[int]*discovery // by index
	nudged *nudges            // what network managers' hooks have told
	memory *memory            // of the process before, and for the next one

	wokeUp  time.Time
	byClock bool // it was the clock that told of that
}

// search looks for PREF64 on every candidate, and no longer on other links. Where the
// configuration asks for another way it starts over with the prefix in use.
func (d *discoveries) search(candidates []plan.Link, want asks) {
	candidates = candidates[:min(len(candidates), maxLinks)]
	keep := map[int]bool{}
	for _, l := range candidates {
		up := plan.Uplink{Name: l.Name, Index: l.Index}
		old := d.links[l.Index]
		var inUse pref64.Remembered
		if old != nil && (old.link != up || !old.asks.equal(want)) {
			inUse = old.inUse(l)
			old.close()
			old = nil
		}
		if old == nil {
			d.links[l.Index] = d.discover(up, want, l)
			if inUse.Check() == nil {
				d.links[l.Index].finder.Restore(inUse)
			}
		} else {
			old.attach(l)
		}
		keep[l.Index] = true
	}
	for index, l := range d.links {
		if !keep[index] {
			l.close()
			delete(d.links, index)
		}
	}
}

// discover starts to look for the PREF64 of a link.
func (d *discoveries) discover(up plan.Uplink, a asks, link plan.Link) *discovery {
	ctx, stop := context.WithCancel(d.ctx)
	l := &discovery{link: up, asks: a, stop: stop, carrier: link.Carrier, changes: link.CarrierChanges, paused: true}
	l.finder = pref64.NewFinder(pref64.Options{
		Interface: up.Index, Name: up.Name,
		Static:    a.static,
		RA:        slices.Contains(a.sources, config.RA),
		DNS:       slices.Contains(a.sources, config.DNS),
		Servers:   a.servers,
		Resolvers: func(ctx context.Context) []netip.Addr { return d.resolvers(ctx, up, &l.tunnel) },
		Log:       d.log.With(slog.String("iface", up.Name)),
	})
	l.finder.Pause(true) // until the link is an uplink
	go l.finder.Run(ctx)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.finder.Changed():
				d.post(prefixChanged{})
			}
		}
	}()
	return l
}

// attach notes whether the link has a carrier. One that has come back, even
// before anybody saw that it was away, may lead to another network.
func (l *discovery) attach(link plan.Link) {
	if link.Carrier && (!l.carrier || link.CarrierChanges != l.changes) {
		l.finder.Attached()
	}
	l.carrier, l.changes = link.Carrier, link.CarrierChanges
}

// inUse returns the prefix in use, for another search on the link; the zero value if
// there is none, or if the link may lead to another network by now.
func (l *discovery) inUse(link plan.Link) (r pref64.Remembered) {
	if l.carrier && link.Carrier && l.changes == link.CarrierChanges {
		r, _ = l.finder.Remembered()
	}
	return r
}

// pause stops questions to resolvers while there is no use for an answer.
func (l *discovery) pause(on bool) {
	if l.paused != on {
		l.paused = on
		l.finder.Pause(on)
	}
}

func (l *discovery) close() {
	l.stop()
	l.finder.Close()
}

// close ends the search on all links, and notes for the next process what it found.
func (d *discoveries) close() {
	d.memory.leave(d.links)
	for index, l := range d.links {
		l.close()
		delete(d.links, index)
	}
}

// listensTo reports whether PREF64 is looked for on the link of that name.
func (d *discoveries) listensTo(name string) bool {
	for _, l := range d.links {
		if l.link.Name == name {
			return true
		}
	}
	return false
}

// nudge takes in what a network manager's hook has told.
func (d *discoveries) nudge(e nudged) {
	if e.Resolvers != nil && d.nudged.set(e.Interface, e.Resolvers, d.listensTo) {
		d.log.Info("a nudge set the DNS servers of an interface", "iface", e.Interface, "servers", e.Resolvers, "uid", e.by.UID, "pid", e.by.PID)
	}
	d.refresh(e.Interface)
}

// resolversChanged asks again where the DNS servers of a link have changed.
func (d *discoveries) resolversChanged() {
	for _, l := range d.links {
		l.finder.ResolversChanged()
	}
}

// askDNS has resolvers asked where the plan has use for an answer.
func (d *discoveries) askDNS(p plan.Plan) {
	asked := map[int]bool{}
	for _, want := range p.Uplinks {
		asked[want.Uplink.Index] = want.AskDNS
	}
	for index, l := range d.links {
		l.pause(!asked[index])
	}
}

// refresh asks again on a link, or on all if it has no name: somebody knows
// that the network has changed.
func (d *discoveries) refresh(name string) {
	for _, l := range d.links {
		if name == "" || l.link.Name == name {
			l.finder.Refresh()
		}
	}
}

// heard returns the observation with what routers and resolvers have said, and
// tells the finders which prefixes cannot be a PREF64.
func (d *discoveries) heard(o plan.Observed, c plan.Config) plan.Observed {
	o.Links = slices.Clone(o.Links)
	own := map[int][]netip.Prefix{}
	for _, a := range o.Addrs {
		if ip := a.Prefix.Addr(); ip.Is6() && !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
			own[a.Link] = append(own[a.Link], a.Prefix.Masked())
		}
	}
	for index, l := range d.links {
		l.tunnel.Store(o.HasTunnelBeside(index, c))
		l.tell(own[index], gateways(o.Routes, index))
		l.network = networkOn(o, l.link)
		d.memory.restore(l)
		l.add(&o)
	}
	return o
}

// tell tells the finder of the host's own prefixes and next hops on the link.
func (l *discovery) tell(own []netip.Prefix, gateways []pref64.Gateway) {
	if !slices.Equal(own, l.own) {
		l.own = own
		l.finder.SetOwn(own)
	}
	if !slices.Equal(gateways, l.gateways) {
		l.gateways = gateways
		l.finder.SetRouters(gateways)
	}
}

// add adds to an observation what is known on the link.
func (l *discovery) add(o *plan.Observed) {
	index, s := l.link.Index, l.finder.Snapshot()
	for i, c := range s.Candidates {
		o.PREF64 = append(o.PREF64, plan.PREF64{Link: index, Prefix: c.Prefix, Source: source(c), Routers: s.Routers[i], Excused: s.Excused})
	}
	if s.HeardRA || len(s.OnLink) > 0 {
		a := plan.Advertised{Link: index, Default: s.HeardRA}
		for _, p := range s.OnLink {
			a.SLAAC = append(a.SLAAC, plan.SLAAC(p))
		}
		o.Advertised = append(o.Advertised, a)
	}
	// Where the kernel accepts router advertisements it has done this itself.
	if mtu := plan.MTU6(s.MTU); mtu != 0 {
		for i := range o.Links {
			if e := &o.Links[i]; e.Index == index && (e.MTU6 == 0 || mtu < e.MTU6) {
				e.MTU6 = mtu
			}
		}
	}
}

// gateways returns the link-local next hops of the default routes over a link.
func gateways(routes []plan.Route, link int) (gs []pref64.Gateway) {
	for _, r := range routes {
		if g := r.Gateway.WithZone(""); r.IPv6 && r.Link == link && r.Protocol != plan.Protocol && g.Is6() && g.IsLinkLocalUnicast() {
			gs = append(gs, pref64.Gateway{Addr: g, Metric: r.Metric})
		}
	}
	return gs
}

// source says for people where a prefix is from.
func source(p pref64.Observation) string {
	if p.Router.IsValid() {
		return fmt.Sprintf("%s from %s", p.Origin, p.Router)
	}
	return p.Origin.String()
}

// ignored returns what was not used while looking for PREF64, by link.
func (d *discoveries) ignored() map[string][pref64.NumReasons]uint64 {
	all := map[string][pref64.NumReasons]uint64{}
	for _, l := range d.links {
		all[l.link.Name] = l.finder.IgnoredTotals()
	}
	return all
}
