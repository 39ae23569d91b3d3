package plan

import (
	"net/netip"
	"slices"
	"time"

	"tnat64d/siit"
)

// Plan is what the host should look like.
type Plan struct {
	// Why says why there is no uplink; zero if there is one. Uplinks may
	// nevertheless list links that are held.
	Why Why
	// Uplinks has one entry per link that matters, as [Uplinks] lists them.
	Uplinks []Desired
	// Guard lists the links on which IPv4 packets of a CLAT could leave
	// untranslated: all with a default route while there is a CLAT.
	Guard []Uplink
	// SourceRules are wanted if there are other default routes than a CLAT's, so
	// that packets from its address need a routing rule to find its route.
	SourceRules SourceRules
}

// Desired is what should run for one link. No CLAT, Hold and Standby exclude
// each other; none of them means: nothing yet, or no more.
type Desired struct {
	// Uplink is the link, even before a PREF64 is known.
	Uplink
	// CLAT is nil if none should run.
	CLAT *CLAT
	// Hold says that the network of a CLAT is gone for the moment: it keeps
	// TUN, IPv4 address and sockets, but no route, for a minute.
	Hold bool
	// Standby says that there is no need for a CLAT: native IPv4, or another
	// CLAT on this host.
	Standby bool
	// Reserve is the address that a CLAT will have when native IPv4, or the other
	// CLAT, goes. The uplink has it in the meantime, past DAD and used by nobody;
	// invalid: none.
	Reserve netip.Addr
	// Queues is the number of queues of the TUN that comes with Reserve.
	Queues int
	// Detect is the address that the CLAT will have when the host's own address has
	// passed DAD. Its own DAD begins now, before the uplink has it; invalid: none.
	Detect netip.Addr
	// Backoff is set while the CLAT waits because its bring-up just failed.
	Backoff bool
	// MoveIn is the time until the CLAT has to leave its address, whose prefix
	// expires, and the host is to be planned again; 0: it can stay.
	MoveIn time.Duration
	// AskDNS is set if a PREF64 from the link's resolvers is useful, and they may
	// be reachable.
	AskDNS bool
	// Why is the reason for having a CLAT or none.
	Why Why
	// Warnings are conditions that the user may want to change. The CLAT runs
	// regardless.
	Warnings []Warning
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
	Shared bool // IPv6 is an address of the host's
	IPv4   netip.Addr
	PREF64 PREF64
	Via    netip.Addr // the router that packets go to; invalid: the host's routes choose
	// Next is the address in another prefix that flows have which begin while the
	// prefix of IPv6 is deprecated; invalid: all have IPv6. NextVia is its Via.
	Next, NextVia netip.Addr
	MTU           MTU6
	// QueueLen is how many packets may wait in each queue of the TUN.
	QueueLen int
	Table    int          // of the IPv4 default route: main, or one behind it
	Metric   int          // of the IPv4 default route in Table
	Tables   []TableRoute // further IPv4 default routes, and parts of them

	// Translation is complete, ready for siit.New.
	Translation siit.Config
	// EAMAddrs are addresses of explicit mappings that the uplink needs besides
	// IPv6, so that neighbours can resolve them.
	EAMAddrs []netip.Addr
}

// Ours lists the IPv6 destinations that belong to the translator instead of the
// host's own IPv6 stack. It does not contain a shared address.
func (c CLAT) Ours() []netip.Prefix {
	ours := c.Translation.Mapping.Ours()
	if c.Next.IsValid() {
		ours = append(slices.Clone(ours), netip.PrefixFrom(c.Next, 128))
	}
	if c.Shared {
		ours = slices.DeleteFunc(slices.Clone(ours), func(p netip.Prefix) bool { return p == netip.PrefixFrom(c.IPv6, 128) })
	}
	return ours
}

// maxTries is how many addresses DAD may refuse before we give up.
const maxTries = 3

// Make decides what should run. It is pure and total: the same observation and
// configuration always give the same plan, and every entry has its Why.
func Make(o Observed, c Config) Plan {
	c = c.withDefaults()
	if c.Enable == Never {
		return Plan{Why: because(Disabled, `clat.enable is "never"`)}
	}
	chosen, why := chooseUplinks(o, c)
	p := planner{o: o, c: c, given: map[netip.Addr]string{}, table: defaultTable(o, c), uplinks: len(chosen)}
	p.metric = firstMetric(o, c, p.table, len(chosen))
	plans := Plan{Why: why}
	for i, l := range chosen {
		plans.Uplinks = append(plans.Uplinks, p.desired(l, i))
	}
	for _, l := range abandonedLinks(o, c, chosen) {
		d := Desired{Uplink: Uplink{l.Name, l.Index}, Hold: true, Why: l.lost()}
		if why := whyStandby(o, l); why.is() && c.Enable == Auto {
			d.Hold, d.Standby, d.Why = false, true, why
		}
		plans.Uplinks = append(plans.Uplinks, d)
	}
	plans.Guard, plans.SourceRules = guardedLinks(o, plans.Uplinks), sourceRules(o, plans.Uplinks)
	for i := range plans.Uplinks {
		if d := &plans.Uplinks[i]; d.CLAT != nil {
			d.Warnings = append(d.Warnings, warningsFor(o, d.CLAT, plans.SourceRules.Wanted)...)
		}
	}
	for i := range plans.Uplinks {
		plans.Uplinks[i].AskDNS = mayAskDNS(o, plans.Uplinks[i])
		o.Memory.backOff(&plans.Uplinks[i])
	}
	return plans
}

// mayAskDNS reports whether to ask resolvers on the link of d. A network that has
// withdrawn its PREF64 may announce it again by DNS; one without carrier does not
// answer.
func mayAskDNS(o Observed, d Desired) bool {
	l, _ := o.LinkByIndex(d.Uplink.Index)
	return !d.Standby && (!d.Hold || l.Carrier)
}

// planner is what the plans for several uplinks have to agree on.
type planner struct {
	o       Observed
	c       Config
	given   map[netip.Addr]string // IPv4 addresses of CLATs, and whose they are
	tuns    []string              // names given so far
	fixed   bool                  // the configured addresses are given away
	table   int                   // of the CLATs' default routes
	metric  int
	uplinks int // number of them
}

// desired decides for one uplink, the nth of them.
func (p *planner) desired(l Link, n int) Desired {
	o, c := p.o, p.c
	d := Desired{Uplink: Uplink{Name: l.Name, Index: l.Index}}
	if why := whyStandby(o, l); why.is() && c.Enable == Auto {
		d.Standby, d.Why, d.Reserve = true, why, p.reserve(l, why)
		if d.Reserve.IsValid() {
			d.Queues = c.Queues
		}
		return d
	}
	running := o.Memory.CLAT(l.Index)
	// hold keeps a running CLAT whose network may return.
	hold := func(why Why) Desired {
		d.Why, d.Hold = why, running.TUN != ""
		return d
	}
	p64, why := pref64For(o, l)
	if why.is() {
		return hold(why)
	}
	mtu, why := mtuFor(o, l, c)
	if why.is() {
		d.Why = why
		return d
	}
	fixed := p.hasFixed(l)
	p.fixed = p.fixed || fixed
	v4, why := p.ipv4(l, running, fixed)
	if why.is() {
		d.Why = why
		return d
	}
	v6, shared, why := p.ipv6(l, fixed, running, v4, p64)
	switch {
	case why.is() && why.missing():
		return hold(why)
	case why.is():
		d.Why = why
		return d
	}
	if why := whyNoCLATAddr(o, l, c); why.is() {
		if _, present := o.Addr(l.Index, v6); why.Reason == HostInDAD && !shared && !present {
			d.Detect = v6
		}
		return hold(why)
	}

	p.given[v4] = "is the IPv4 address of the CLAT on " + l.Name
	d.CLAT = &CLAT{
		Uplink: d.Uplink, TUN: p.tun(running), Queues: c.Queues,
		IPv6: v6, Shared: shared, IPv4: v4, PREF64: p64, Via: routerFor(o, l.Index, v6, p64), MTU: mtu, QueueLen: queueLen(l), Table: p.table, Metric: p.metric + n, Tables: p.tableRoutes(n),
		Translation: p.translation(v4, v6, p64.Prefix, mtu),
	}
	d.Warnings = p.sourceWarnings(d.CLAT)
	eam, unanswered := eamAddrs(o, l, d.CLAT.Translation.Mapping)
	d.CLAT.EAMAddrs, d.Warnings = eam, append(d.Warnings, unanswered...)
	if v6 == running.IPv6 && !shared {
		d.MoveIn = moveIn(o, l.Index, v6)
		if d.CLAT.Next = p.next(l, v4, v6, p64); d.CLAT.Next.IsValid() {
			d.CLAT.NextVia = routerFor(o, l.Index, d.CLAT.Next, p64)
		}
	}
	d.Why = because(PREF64Known, "PREF64 %s on %s (%s)", p64.Prefix, l.Name, p64.Source)
	return d
}

// translation fills in the template.
func (p *planner) translation(v4, v6 netip.Addr, pref64 netip.Prefix, mtu MTU6) siit.Config {
	t := p.c.Translation
	t.Mapping.PREF64 = pref64
	t.Mapping.CLAT = siit.Pair{IPv4: v4, IPv6: v6}
	t.ICMPSource4, _ = p.icmpSource(v4)
	t.LocalIPv4, t.RoutedIPv4 = localNetworks4(p.o, v4), routedNetworks4(p.o)
	t.MTU6, t.MTU4 = int(mtu), int(mtu.IPv4())
	t.LowestIPv6MTU = min(t.LowestIPv6MTU, int(mtu))
	return t
}

// tun returns the name of the TUN: that of the running CLAT, else the configured
// one, else the configured name with the next free number.
func (p *planner) tun(running Remembered) string {
	name := running.TUN
	if name == "" || stem(name) != stem(p.c.TUN) {
		name = p.c.TUN
	}
	for n := 0; p.tunTaken(name, running); n++ {
		name = numbered(p.c.TUN, n)
	}
	p.tuns = append(p.tuns, name)
	return name
}

// tunTaken reports whether another CLAT of ours uses the name. A name that is not
// the configured one is also taken if any other interface has it.
func (p *planner) tunTaken(name string, running Remembered) bool {
	if slices.Contains(p.tuns, name) {
		return true
	}
	if name == running.TUN {
		return false
	}
	if slices.ContainsFunc(p.o.Memory.CLATs, func(r Remembered) bool { return r.TUN == name }) {
		return true
	}
	l, exists := p.o.LinkByName(name)
	return exists && !p.o.IsOurs(l) && name != p.c.TUN
}

// pref64For returns the first usable prefix of a link. It refuses one that contains
// an address of the link, because translated destinations and neighbours would be
// indistinguishable.
func pref64For(o Observed, l Link) (PREF64, Why) {
	why := because(NoPREF64, "waiting for a PREF64 on %s", l.Name)
	for _, p := range o.PREF64 {
		if p.Link != l.Index {
			continue
		}
		i := slices.IndexFunc(o.Addrs, func(a Addr) bool {
			return a.Link == l.Index && p.Prefix.Contains(a.Prefix.Addr()) && !slices.Contains(p.Excused, a.Prefix.Masked())
		})
		if i < 0 {
			return p, Why{}
		}
		why = because(PREF64ContainsHost, "PREF64 %s on %s is refused: it contains this host's own address %s", p.Prefix, l.Name, o.Addrs[i].Prefix.Addr())
	}
	return PREF64{}, why
}

// mtuFor returns the MTU of the IPv6 side. A configured MTU may exceed the one that
// the router advertises, but not that of the device.
func mtuFor(o Observed, l Link, c Config) (MTU6, Why) {
	m := o.UplinkMTU(l)
	if c.MTU != 0 {
		m = min(c.MTU.IPv6(), MTU6(l.MTU))
	}
	if m < MinMTU6 {
		return 0, because(MTUTooSmall, "the IPv6 MTU of %s is %d, below the 1280 bytes that IPv6 needs", l.Name, m)
	}
	return m, Why{}
}

// warningsFor returns conditions that may keep packets from a running CLAT. The
// kernel's reverse path check follows source rules, so that with them strict
// rp_filter does no harm.
func warningsFor(o Observed, c *CLAT, sourceRules bool) (ws []Warning) {
	t, ok := o.LinkByName(c.TUN)
	if ok && t.RPFilter == 1 && !sourceRules {
		for _, r := range o.Routes {
			if !r.IPv6 && !r.Part.IsValid() && r.Link != t.Index && r.Protocol != Protocol && r.Table == TableMain && r.Metric < c.Metric {
				ws = append(ws, warn(RPFilterStrict, o.LinkName(r.Link), "net.ipv4 rp_filter is 1 (strict): while %s has the better IPv4 default route, replies that arrive on %s are dropped; set it to 2 (loose)",
					o.LinkName(r.Link), c.TUN))
				break
			}
		}
	}
	for _, f := range ForeignCLATs(o, c.Uplink.Index) {
		if f.Alive() {
			ws = append(ws, warn(BesideOtherCLAT, nil, "%s; clat.enable is \"always\", so both run", f))
		} else {
			ws = append(ws, warn(DeadOtherCLAT, f.Link.Name, "%s; this CLAT takes its place", f))
		}
	}
	return ws
}
