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

	// KernelEngine asks for the programs that translate simple packets. If
	// the kernel refuses them, New succeeds without: see [Steering.KernelEngine].
	// They wait for [Steering.SetTranslation].
	KernelEngine bool
}

// Steering is a set of programs at work. Counters may be called at any time;
// the other methods by one goroutine at a time.
type Steering struct {
	Engine
	netlink *netlink.Handle // of the namespace that New was called in
	hooks   attachment
	ours    map[netip.Prefix]bool // what the kernel's map holds
	guarded guardMaps
	routes  map[netip.Prefix]Route
}

// New loads the programs and attaches them. The caller's goroutine must be
// locked to its thread if that thread has a network namespace of its own. When
// New fails, everything it did is undone; the error is an [*Error].
func New(cfg Config) (_ *Steering, err error) {
	s := &Steering{ours: make(map[netip.Prefix]bool), hooks: attachment{known: cfg.Programs}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()

	if s.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	uplink, err := s.netlink.LinkByIndex(cfg.Uplink)
	if err != nil {
		return nil, &Error{fmt.Sprintf("find the uplink, interface %d", cfg.Uplink), err}
	}
	tun, err := s.netlink.LinkByIndex(cfg.TUN)
	if err != nil {
		return nil, &Error{fmt.Sprintf("find the TUN, interface %d", cfg.TUN), err}
	}
	ethernet, err := steerable.LinkHeader(uplink)
	if err != nil {
		return nil, &Error{"use the uplink", err}
	}
	if header, err := steerable.LinkHeader(tun); err != nil || header {
		return nil, &Error{"use the TUN", fmt.Errorf("interface %q is none", tun.Attrs().Name)}
	}

	c := newConstants(cfg.Uplink, ethernet, cfg.TUN)
	c.queues, c.token, c.explicit = max(cfg.Queues, 1), cfg.Token, MaxEAM
	c.jumboKept = tun.Attrs().GSOIPv4MaxSize > 0 // the attribute came with what uses it
	if err := s.load(c, cfg.KernelEngine); err != nil {
		return nil, err
	}
	if err := s.SetGuarded(cfg.Guarded); err != nil {
		return nil, err
	}
	if err := s.SetOurs(cfg.Ours); err != nil {
		return nil, err
	}
	// Packets are taken from the uplink only when they have a way back.
	hooks := []hook{
		{uplink, egress, s.objects.UplinkEgress, "uplink_egress"},
	}
	if s.refused == nil {
		hooks = append(hooks,
			hook{tun, ingress, s.objects.TunTranslate, "tun_translate"},
			hook{tun, egress, s.objects.TunEgress, "tun_egress"},
			hook{uplink, ingress, s.objects.UplinkTranslate, "uplink_translate"})
	} else {
		hooks = append(hooks,
			hook{tun, ingress, s.objects.TunIngress, "tun_ingress"},
			hook{uplink, ingress, s.objects.UplinkIngress, "uplink_ingress"})
	}
	if err = s.hooks.attach(s.netlink, cfg.Attach, hooks, attachTCX); err != nil {
		return nil, err
	}
	return s, nil
}

// load loads the programs, with the kernel engine or without.
func (s *Steering) load(c constants, kernelEngine bool) (err error) {
	var refused error
	if kernelEngine {
		s.objects, refused, err = loadEngine(c)
	} else {
		s.objects, err = load(c)
	}
	if err != nil {
		return &Error{"load the BPF programs", err}
	}
	s.guarded = newGuardMaps(s.objects.Guarded4, s.objects.Guarded6)
	switch {
	case !kernelEngine:
		s.refused = errNotAskedFor
	case refused != nil:
		s.refused = &Error{"load the kernel engine", refused}
	}
	return nil
}

// Attached says by what the programs are attached: "tcx", or "clsact" and in
// brackets why not tcx.
func (s *Steering) Attached() string { return s.hooks.by }

// Intact reports whether every program is where New has attached it. Others who
// may attach programs may also detach them, which nothing reports.
func (s *Steering) Intact() bool { return s.hooks.intact() }

// SetOurs makes the IPv6 prefixes that are steered equal to ours; calling it
// again with the same is harmless. New prefixes are added before old ones are
// removed. After an error call it again: it continues where it stopped.
func (s *Steering) SetOurs(ours []netip.Prefix) error {
	want := make(map[netip.Prefix]bool, len(ours))
	for _, p := range ours {
		if err := steerable.CheckPrefix(p); err != nil {
			return &Error{"set the steered prefixes", err}
		}
		want[p.Masked()] = true
	}
	for p := range want {
		if s.ours[p] {
			continue
		}
		if err := s.objects.Ours.Put(prefixKey(p), uint8(1)); err != nil {
			return &Error{fmt.Sprintf("steer %s", p), err}
		}
		s.ours[p] = true
	}
	for p := range s.ours {
		if want[p] {
			continue
		}
		if err := s.objects.Ours.Delete(prefixKey(p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return &Error{fmt.Sprintf("stop steering %s", p), err}
		}
		delete(s.ours, p)
	}
	return nil
}

// SetRouter makes every packet go to this router on the uplink, whatever the
// host's routes say. The zero Addr, which is how New begins, leaves the choice
// to the routes; [Router] says when that is not good enough. On an uplink
// without link header there is nothing to choose and SetRouter has no effect.
func (s *Steering) SetRouter(router netip.Addr) error {
	const key = uint32(0)
	if !router.IsValid() {
		if err := s.objects.Router.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return &Error{"leave the router to the routes", err}
		}
		return nil
	}
	if !router.Is6() || router.Is4In6() || router.IsMulticast() || router.IsUnspecified() {
		return &Error{"set the router", fmt.Errorf("%q is not the IPv6 address of a router", router)}
	}
	hop := bpfNextHop{Family: unix.AF_INET6, Addr: router.As16()}
	if err := s.objects.Router.Put(key, hop); err != nil {
		return &Error{fmt.Sprintf("set the router %s", router), err}
	}
	return nil
}

// Suspend leaves nothing to the kernel engine and drops what user space sends,
// until SetTranslation and SetOurs say otherwise. What arrives for addresses
// that were ours is left to the kernel, which should not have them any more.
func (s *Steering) Suspend() error {
	return errors.Join(s.SetTranslation(nil), s.SetOurs(nil))
}

// Close detaches the programs, last attached first, and frees them. It may be
// called twice, and after the interfaces have gone.
func (s *Steering) Close() error {
	errs := []error{s.hooks.Close()}
	if s.objects != nil {
		errs = append(errs, s.objects.Close())
		s.objects = nil
	}
	if s.netlink != nil {
		s.netlink.Close()
		s.netlink = nil
	}
	return errors.Join(errs...)
}
