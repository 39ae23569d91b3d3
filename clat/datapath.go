package clat

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// pathState says how far the packet path of a CLAT is.
type pathState uint8

const (
	pathClosed    pathState = iota // there is none
	pathLost                       // another program removed the TUN, and it is not opened again yet
	pathOpen                       // packets pass as far as they are translated
	pathSuspended                  // it is there, and has to be told anew what to steer and to translate
)

// datapath is the resource of the packet path: the TUN with its settings, the
// steering and the mapping by which packets are translated.
type datapath struct {
	tools
	opener  Opener
	guarded func() Guarded // addresses of all CLATs
	uplink  plan.Uplink
	name    string // of the TUN
	ipv4    netip.Addr

	state     pathState
	path      Path         // nil: closed or lost
	inherited int          // index of the TUN of a former process that Open will take over; 0: none
	link      plan.TUNLink // as it was set up
	drifted   bool         // it is no longer as link says, and not restored yet

	steering Steering // nil: none
	steered  steered
	mapping  siit.Config // in force; zero: none
	started  bool        // packets are translated

	renumbering renumbering

	lostDrift, linkDrift, steeringDrift driftLimit // of the TUN, its settings and the steering
}

// steered is what the steering was last told.
type steered struct {
	ours       []netip.Prefix
	share      Share
	guarded    Guarded
	dropToMany bool // IPv6 unicast in frames to many
	follows    followed
}

// followed is for what the steering was last asked to follow the host's routes,
// and the generation of these routes.
type followed struct {
	src        netip.Addr
	pref64     netip.Prefix
	networks   []netip.Prefix // prefixes of networks
	via        netip.Addr
	generation uint64 // grows with that of any of the prefixes
}

func (f followed) equal(g followed) bool {
	return f.src == g.src && f.pref64 == g.pref64 && f.via == g.via && f.generation == g.generation && slices.Equal(f.networks, g.networks)
}

// Ensure opens the TUN, steers and translates as p.want says. While a TUN that
// another program removed may not be restored yet, it returns Pending.
func (d *datapath) Ensure(p pass) (Progress, error) {
	lost := "interface " + d.name
	wasLost := d.state == pathLost
	if wasLost && !d.lostDrift.mayRestore(d.tools, lost) {
		return Pending, nil
	}
	for _, step := range []func(pass) error{d.ensureTUN, d.ensureSteering, d.ensureMapping} {
		if err := step(p); err != nil {
			return Down, err
		}
	}
	d.state = pathOpen
	if wasLost {
		d.lostDrift.restored(d.tools, lost)
	}
	return Up, nil
}

// Remove closes the path. Nothing of it is left, whatever the error.
func (d *datapath) Remove() error {
	d.opener.Unprepare(d.uplink)
	var err error
	if d.path != nil {
		if err = d.path.Close(); err != nil {
			err = fmt.Errorf("close %s: %w", d.name, err)
		}
	}
	d.state, d.path, d.inherited, d.steering, d.started, d.drifted = pathClosed, nil, 0, nil, false, false
	d.link, d.steered, d.mapping = plan.TUNLink{}, steered{}, siit.Config{}
	d.renumbering.next = Next{}
	return err
}

// gone reports whether another program has removed the TUN.
func (d *datapath) gone(o plan.Observed) bool {
	if d.path == nil {
		return false
	}
	_, ok := o.LinkByIndex(d.path.Index())
	return !ok
}

// index returns the interface index of the TUN, or 0.
func (d *datapath) index() int {
	if d.path == nil {
		return d.inherited
	}
	return d.path.Index()
}

func (d *datapath) ensureTUN(p pass) error {
	want := p.want
	opened := d.path == nil
	if opened {
		path, err := d.opener.Open(want.TUN, want.Queues, d.uplink)
		if err != nil {
			return fmt.Errorf("open TUN %s: %w", want.TUN, err)
		}
		d.path, d.inherited = path, 0
	}
	t := plan.TUNLink{Index: d.path.Index(), Alias: plan.AliasPrefix + want.Uplink.Name, MTU: want.MTU, QueueLen: want.QueueLen, IPv4: want.IPv4}
	name := "settings of " + want.TUN
	d.drifted = !opened && t == d.link && !t.Matches(p.o)
	if !opened && t == d.link && !d.drifted || d.drifted && !d.linkDrift.mayRestore(d.tools, name) {
		return nil
	}
	if err := d.host.SetTUN(t); err != nil {
		return fmt.Errorf("set up %s: %w", want.TUN, err)
	}
	d.link = t
	if d.drifted {
		d.drifted = false
		d.linkDrift.restored(d.tools, name)
	}
	return nil
}

func (d *datapath) ensureSteering(p pass) error {
	want, ours := p.want, p.want.Ours()
	// Nothing reports it when somebody removes BPF programs. But what follows
	// from it, a PLAT that seems to be silent, leads here.
	name := "steering between " + d.uplink.Name + " and " + want.TUN
	drifted := d.steering != nil && !d.steering.Intact() && d.steeringDrift.mayRestore(d.tools, name)
	if drifted {
		err := d.steering.Close()
		d.steering, d.state = nil, pathSuspended
		if err != nil {
			return fmt.Errorf("remove the remains of the steering: %w", err)
		}
	}
	share, next := shareOf(want), d.renumbering.wanted(p)
	if d.steering != nil {
		if err := d.renumbering.end(d.steering, d.mapping.Mapping, next, want.IPv6); err != nil {
			return err
		}
	}
	if d.steering != nil && (share == (Share{})) != (d.steered.share == (Share{})) {
		// Other programs do it.
		err := d.steering.Close()
		d.steering, d.state = nil, pathSuspended
		if err != nil {
			return fmt.Errorf("remove the previous steering: %w", err)
		}
	}
	switch {
	case d.steering == nil:
		g := d.guarded()
		s, err := d.path.Steer(d.uplink.Index, ours, share, begun(d.host, want, share), g)
		if err != nil {
			return fmt.Errorf("steer packets between %s and %s: %w", d.uplink.Name, want.TUN, err)
		}
		d.steering, d.steered = s, steered{guarded: g}
		d.renumbering.next, d.renumbering.unsupported, d.renumbering.refused = Next{}, false, netip.Addr{}
		if drifted {
			d.steeringDrift.restored(d.tools, name)
		}
	case d.state == pathSuspended || !slices.Equal(ours, d.steered.ours) || share != d.steered.share:
		if err := d.steering.SetOurs(ours); err != nil {
			return fmt.Errorf("steer packets for %s: %w", want.IPv6, err)
		}
		if share == (Share{}) {
			break
		}
		if err := d.steering.SetShared(share); err != nil {
			return fmt.Errorf("share %s with the host: %w", want.IPv6, err)
		}
	}
	d.steered.ours, d.steered.share = ours, share
	if uplink, ok := p.o.LinkByIndex(d.uplink.Index); ok && uplink.DropUnicastToMany != d.steered.dropToMany {
		if err := d.steering.SetDropUnicastToMany(uplink.DropUnicastToMany); err != nil {
			return fmt.Errorf("unicast in multicast frames on %s: %w", d.uplink.Name, err)
		}
		d.steered.dropToMany = uplink.DropUnicastToMany
	}
	d.follow(want)
	d.renumbering.ensure(d.steering, want, next, d.steered.follows.generation)
	return nil
}

// shareOf returns what a CLAT shares with the host.
func shareOf(c *plan.CLAT) Share {
	if !c.Shared {
		return Share{}
	}
	m := c.Translation.Mapping
	return Share{Addr: c.IPv6, PREF64: c.PREF64.Prefix, IPv4: c.IPv4, Everybody: len(m.EAM)+len(m.Networks) > 0}
}

// begun lists the connections of h on a shared address.
func begun(h Host, c *plan.CLAT, share Share) (b Begun) {
	if share == (Share{}) {
		return b
	}
	b.Host = h.Connections(share.Addr)
	b.CLAT = allBehind(c.Translation.Mapping, h.Connections(share.IPv4))
	return b
}

// follow has the steering follow the host's routes to PREF64 and the prefixes of
// networks. Without a route to the PLAT nothing can be sent anyway, and the route
// will be a change to observe.
func (d *datapath) follow(want *plan.CLAT) {
	f := followed{src: want.IPv6, pref64: want.PREF64.Prefix, via: want.Via}
	f.generation = d.host.RouteState(f.pref64)
	for _, n := range want.Translation.Mapping.Networks {
		if p := n.PREF64; p.IsValid() && p != f.pref64 && !slices.Contains(f.networks, p) {
			f.networks = append(f.networks, p)
			f.generation += d.host.RouteState(p)
		}
	}
	if d.steered.follows.equal(f) {
		return
	}
	d.steered.follows = f
	if err := d.steering.Follow(f.src, f.pref64, f.networks, f.via); err != nil {
		d.steered.follows = followed{}
		d.log.Debug("no route to the PLAT", "iface", d.uplink.Name, "reason", err)
	}
}

func (d *datapath) ensureMapping(p pass) error {
	if d.started && d.state != pathSuspended && reflect.DeepEqual(d.mapping, p.want.Translation) {
		return nil
	}
	if err := d.path.SetMapping(p.want.Translation); err != nil {
		return fmt.Errorf("apply the new mapping: %w", err)
	}
	d.started, d.mapping = true, p.want.Translation
	return nil
}

// await steers what comes for an address that is in DAD. From the moment that is
// over the kernel would take the address for its own, and answer what is left of
// a connection from before with a reset.
func (d *datapath) await(want *plan.CLAT) error {
	ours := want.Ours()
	if d.steering == nil || slices.Equal(ours, d.steered.ours) {
		return nil
	}
	if err := d.steering.SetOurs(ours); err != nil {
		return fmt.Errorf("steer packets for %s: %w", want.IPv6, err)
	}
	d.steered.ours = ours
	return nil
}

// suspend drops packets until the next Ensure.
func (d *datapath) suspend() error {
	if d.path != nil {
		d.state = pathSuspended
	}
	d.renumbering.next = Next{}
	if d.steering == nil {
		return nil
	}
	return d.steering.Suspend()
}

// changes reports whether to is another mapping than was, for the host's
// connections.
func changes(was, to siit.Mapping) bool {
	return was.PREF64 != to.PREF64 || was.CLAT.IPv6 != to.CLAT.IPv6
}

// translatesBy reports whether the mapping in force has this PREF64.
func (d *datapath) translatesBy(pref64 netip.Prefix) bool {
	return d.started && pref64.IsValid() && d.mapping.Mapping.PREF64 == pref64
}

// breakFlowsTo ends the connections that do not survive when the CLAT address becomes
// to: where that has been the next address, those that have it go on.
func (d *datapath) breakFlowsTo(to netip.Addr) {
	if n := d.renumbering.next; n == (Next{}) || n.Addr != to || d.steering == nil {
		d.breakFlows()
		return
	}
	m := d.mapping.Mapping
	d.flows.abort(d.ipv4, func(c plan.Connection) bool { return keepsMain(d.steering, m, c) }, d.uplink.Name)
	d.mapping = siit.Config{}
}

// breakFlows ends the connections by the mapping in force. To be called before
// that changes, so that the other side hears of it too.
func (d *datapath) breakFlows() {
	if d.mapping.Mapping.PREF64.IsValid() {
		d.flows.abort(d.ipv4, nil, d.uplink.Name)
	}
	d.mapping = siit.Config{}
}
