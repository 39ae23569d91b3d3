package steer

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/steerable"
)

// Config says between which two interfaces packets are steered, and which.
// Interface indexes are those of the calling thread's network namespace.
type Config struct {
	Uplink int            // ifindex of the link towards the PLAT
	TUN    int            // ifindex of the TUN whose queues user space serves
	Ours   []netip.Prefix // IPv6: the CLAT address as /128, EAM prefixes
	Attach Attach
	Queues int // of the TUN; 0 means 1

	Guarded Guarded // see [Steering.SetGuarded]
	Token   Token   // of this process's translators

	Programs *Programs // is told of the programs attached; may be nil
	// Store, if not nil, keeps links and maps for the next process, and Inherited
	// has those of the former one.
	Store     Store
	Inherited *Inherited
	// Prepared has the programs loaded, if it was made for a Config like this one;
	// otherwise New loads them. It may be nil.
	Prepared *Prepared

	// Share is the address that is shared with the host at first; see
	// [Steering.SetShared]. The tables of flows take some 30 MB of the kernel's
	// memory. The zero Share is none, also later.
	Share Share
	// TranslatorFlows and HostFlows are flows on the shared address that have
	// begun already: those that a former Steering carried, and those of the host's
	// own sockets. They have the ports of their sockets on the wire.
	TranslatorFlows, HostFlows []Flow

	// KernelEngine asks for the programs that translate simple packets. If
	// the kernel refuses them, New succeeds without: see [Steering.KernelEngine].
	// They wait for [Steering.SetTranslation].
	KernelEngine bool
}

// Steering is a set of programs at work. Counters may be called at any time;
// the other methods by one goroutine at a time.
type Steering struct {
	installed
	ours    steeredPrefixes
	guarded guardMaps
	share   Share
	sharing bool // the tables of flows are there
	evicted evictions
	kept    kept
	next    nextAddress
	waiting func() error // attaches the programs; nil: they are attached
	routes  map[netip.Prefix]Route
}

// New loads the programs and attaches them. Where programs of a former process are
// in force, [Steering.Attach] does that. The caller's goroutine must be
// locked to its thread if that thread has a network namespace of its own. When
// New fails, everything it did is undone; the error is an [*Error].
func New(cfg Config) (_ *Steering, err error) {
	s := &Steering{installed: installed{hooks: attachment{known: cfg.Programs, inherited: cfg.Inherited}}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()

	tun, err := s.open(cfg.TUN)
	if err != nil {
		return nil, err
	}
	uplink, err := s.find("the uplink", cfg.Uplink)
	if err != nil {
		return nil, err
	}
	ethernet, err := steerable.LinkHeader(uplink)
	if err != nil {
		return nil, &Error{"use the uplink", err}
	}
	if header, err := steerable.LinkHeader(tun); err != nil || header {
		return nil, &Error{"use the TUN", fmt.Errorf("interface %q is none", tun.Attrs().Name)}
	}

	c := cfg.constants(ethernet, tun)
	s.sharing = c.sharing
	s.kept = kept{store: cfg.Store, tun: cfg.TUN, had: cfg.Inherited.takeMaps(cfg.TUN)}
	s.next = nextAddress{engine: &s.Engine, ours: &s.ours, kept: &s.kept, sharing: s.sharing, began: s.kept.take(beganFlows)}
	c.kept = &s.kept
	if err := s.load(c, cfg); err != nil {
		return nil, err
	}
	if err := s.SetGuarded(cfg.Guarded); err != nil {
		return nil, err
	}
	if err := s.SetOurs(cfg.Ours); err != nil {
		return nil, err
	}
	if err := s.SetShared(cfg.Share); err != nil {
		return nil, err
	}
	if err := s.kept.move(s.filledMaps()); err != nil {
		return nil, err
	}
	if err := s.remember(cfg.TranslatorFlows, cfg.HostFlows); err != nil {
		return nil, err
	}
	s.waiting = func() error {
		// What has begun since New.
		if err := s.kept.move(s.filledMaps()); err != nil {
			return err
		}
		// Packets are taken from the uplink only when they have a way back.
		hooks := steeringHooks(s.objects, c.sharing, s.refused == nil, uplink, tun)
		if err := s.hooks.attach(s.netlink, cfg.Attach, hooks, cfg.Inherited.attach(cfg.Store)); err != nil {
			return err
		}
		s.kept.keep(s.filledMaps())
		// What the former process attached there besides.
		return errors.Join(cfg.Inherited.Remove(cfg.TUN), cfg.Inherited.Remove(cfg.Uplink))
	}
	if cfg.Inherited.Steers(cfg.TUN) {
		return s, nil
	}
	return s, s.Attach()
}

// Attach attaches the programs in the place of those of a former process, where
// New has left that to its caller: when routes and translation are set, no packet
// misses them. A next address that is to go on must be set before. It does nothing
// where they are attached.
func (s *Steering) Attach() error {
	attach := s.waiting
	if attach == nil {
		return nil
	}
	s.waiting = nil
	// The table of a former process lacks the flows that begin from now on.
	if s.next.Next == (Next{}) {
		s.next.close()
	}
	return attach()
}

// filledMaps are the maps that packets fill.
func (s *Steering) filledMaps() map[string]*ebpf.Map {
	maps := map[string]*ebpf.Map{}
	if s.refused == nil {
		maps["queue_states"], maps["last_sent"] = s.objects.QueueStates, s.objects.LastSent
	}
	if s.sharing {
		maps["established_flows"], maps["new_flows"] = s.objects.EstablishedFlows, s.objects.NewFlows
		maps["host_flows"], maps["moved_flows"] = s.objects.HostFlows, s.objects.MovedFlows
		maps["fragment_owners"] = s.objects.FragmentOwners
	}
	return maps
}

// Close detaches the programs, last attached first, and frees them; a store keeps
// nothing of them either. It may be called twice, and after the interfaces have gone.
func (s *Steering) Close() error {
	s.next.close()
	s.kept.drop()
	return s.installed.Close()
}

// steeringHooks lists which of the programs are attached where; engine says
// whether the kernel engine is among them.
func steeringHooks(o *objects, sharing, engine bool, uplink, tun netlink.Link) []hook {
	switch {
	case sharing && engine:
		return []hook{
			{uplink, egress, o.SharingEgress, "uplink_egress"},
			{tun, ingress, o.SharingTunTranslate, "tun_translate"},
			{tun, egress, o.SharingTunEgress, "tun_egress"},
			{uplink, ingress, o.SharingTranslate, "uplink_translate"},
		}
	case sharing:
		return []hook{
			{uplink, egress, o.SharingEgress, "uplink_egress"},
			{tun, ingress, o.SharingTunIngress, "tun_ingress"},
			{tun, egress, o.SharingTunOwners, "tun_egress"},
			{uplink, ingress, o.SharingIngress, "uplink_ingress"},
		}
	case engine:
		return []hook{
			{uplink, egress, o.UplinkEgress, "uplink_egress"},
			{tun, ingress, o.TunTranslate, "tun_translate"},
			{tun, egress, o.TunEgress, "tun_egress"},
			{uplink, ingress, o.UplinkTranslate, "uplink_translate"},
		}
	}
	return []hook{
		{uplink, egress, o.UplinkEgress, "uplink_egress"},
		{tun, ingress, o.TunIngress, "tun_ingress"},
		{uplink, ingress, o.UplinkIngress, "uplink_ingress"},
	}
}

// load loads the programs, with the kernel engine or without, unless they are
// prepared.
func (s *Steering) load(c constants, cfg Config) (err error) {
	o, refused, ok := cfg.Prepared.take(c, cfg.KernelEngine, cfg.Store != nil)
	if !ok {
		if o, refused, err = loadFor(c, cfg.KernelEngine); err != nil {
			return &Error{"load the BPF programs", installing{err}}
		}
	}
	s.objects = o
	s.ours = newSteeredPrefixes(s.objects.Ours)
	s.guarded = newGuardMaps(s.objects.Guarded4, s.objects.Guarded6)
	switch {
	case !cfg.KernelEngine:
		s.refused = errNotAskedFor
	case refused != nil:
		s.refused = &Error{"load the kernel engine", installing{refused}}
	}
	return nil
}

// SetOurs makes the IPv6 prefixes that are steered equal to prefixes; calling it
// again with the same is harmless. New prefixes are added before old ones are
// removed. After an error call it again: it continues where it stopped.
func (s *Steering) SetOurs(prefixes []netip.Prefix) error {
	want := make(map[netip.Prefix]bool, len(prefixes))
	for _, p := range prefixes {
		if err := steerable.CheckPrefix(p); err != nil {
			return &Error{"set the steered prefixes", err}
		}
		want[p.Masked()] = true
	}
	s.share.keep(want)
	return s.ours.replace(want)
}

// SetRouter makes every packet go to this router on the uplink, whatever the
// host's routes say. The zero Addr, which is how New begins, leaves the choice
// to the routes; [Router] says when that is not good enough. On an uplink
// without link header there is nothing to choose and SetRouter has no effect.
func (s *Steering) SetRouter(router netip.Addr) error {
	const key = uint32(0)
	x := s.exits
	if !router.IsValid() {
		if err := s.objects.Router.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return &Error{"unset the router", err}
		}
		x.router = bpfNextHop{}
		return s.setExits(x)
	}
	if !router.Is6() || router.Is4In6() || router.IsMulticast() || router.IsUnspecified() {
		return &Error{"set the router", fmt.Errorf("%q is not the IPv6 address of a router", router)}
	}
	hop := bpfNextHop{Family: unix.AF_INET6, Addr: router.As16()}
	if err := s.objects.Router.Put(key, hop); err != nil {
		return &Error{fmt.Sprintf("set the router %s", router), err}
	}
	x.router = hop
	return s.setExits(x)
}

// Suspend leaves nothing to the kernel engine and drops what user space sends,
// until SetTranslation and SetOurs say otherwise. What arrives for addresses
// that were ours is left to the kernel, which should not have them any more.
func (s *Steering) Suspend() error {
	return errors.Join(s.SetTranslation(nil), s.SetNext(Next{}, nil), s.SetOurs(nil), s.SetShared(Share{}))
}
