package steernft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/steerable"
	"tnat64d/internal/cause"
)

// Config says between which two interfaces packets are steered, and which.
// Interface indexes are those of the calling thread's network namespace.
type Config struct {
	Uplink int            // ifindex of the link towards the PLAT
	TUN    int            // ifindex of the TUN whose queues user space serves
	Ours   []netip.Prefix // IPv6: the CLAT address as /128, EAM prefixes
}

// Steering is a table at work. Counters may be called at any time; the other
// methods by one goroutine at a time.
type Steering struct {
	netlink *netlink.Handle // of the namespace that New was called in
	conn    *conn
	table   table
	guard   *Guard
	noGuard error // why there is no guard, or nil

	steered steered // what the table does
}

const (
	chainUplink = "uplink" // what the uplink has received
	chainTake   = "take"   // of that, what is not for another VLAN
	chainTUN    = "tun"    // what user space has written
)

// priority comes after the filters of other programs, which may drop packets
// on the way in.
const priority = 100

// New makes the table. Until SetNextHops nothing leaves. The caller's goroutine
// must be locked to its thread if that thread has a network namespace of its
// own. When New fails, everything it did is undone; the error is an [*Error].
func New(cfg Config) (_ *Steering, err error) {
	s := &Steering{steered: steered{uplink: cfg.Uplink, tun: cfg.TUN}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	uplink, err := s.findLink(cfg.Uplink)
	if err != nil {
		return nil, err
	}
	tun, err := s.findLink(cfg.TUN)
	if err != nil {
		return nil, err
	}
	if s.steered.linkHeader, err = steerable.LinkHeader(uplink); err != nil {
		return nil, &Error{"use the uplink", err}
	}
	if s.conn, err = dial(); err != nil {
		return nil, err
	}
	s.table = table{conn: s.conn, family: unix.NFPROTO_NETDEV, name: prefix + tun.Attrs().Name}
	err = s.table.create([]Count{SteeredIn, LeftToKernel, SteeredOut, ForeignSource, Unroutable, UnicastToMany},
		chain{name: chainTake},
		chain{name: chainUplink, hooked: true, hook: unix.NF_NETDEV_INGRESS, priority: priority, device: uplink.Attrs().Name},
		chain{name: chainTUN, hooked: true, hook: unix.NF_NETDEV_INGRESS, priority: priority, device: tun.Attrs().Name})
	if err != nil {
		return nil, err
	}
	s.guard, s.noGuard = newGuard(s.conn, GuardConfig{Link: cfg.Uplink})
	if cause.Of(s.noGuard) == cause.Resource {
		return nil, s.noGuard
	}
	if err := s.SetOurs(cfg.Ours); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Steering) findLink(index int) (netlink.Link, error) {
	l, err := s.netlink.LinkByIndex(index)
	if err != nil {
		return nil, &Error{fmt.Sprintf("find interface %d", index), err}
	}
	return l, nil
}

// TakesHop reports whether what user space sends loses one from its hop limit:
// nf_tables takes one when it looks up a neighbour.
func (s *Steering) TakesHop() bool { return s.steered.linkHeader }

// Attached says by what packets are steered, and where the kernel lacks
// something in brackets what.
func (s *Steering) Attached() string {
	switch {
	case s.noGuard != nil:
		return fmt.Sprintf("nftables (no guard: %v)", s.noGuard)
	case !s.table.owned:
		return "nftables (tables without owner: the next start removes them after a crash)"
	}
	return "nftables"
}

// Intact reports whether the rules are as they were made. Other programs can
// change a table that has no owner.
func (s *Steering) Intact() bool {
	return s.table.intact() && (s.guard == nil || s.guard.Intact())
}

// SetOurs makes the IPv6 prefixes that are steered equal to ours. On an error
// nothing has changed.
func (s *Steering) SetOurs(ours []netip.Prefix) error {
	for _, p := range ours {
		if err := steerable.CheckPrefix(p); err != nil {
			return &Error{"set the steered prefixes", err}
		}
	}
	return s.set(func(w *steered) { w.ours = slices.Clone(ours) })
}

// SetDropUnicastToMany says whether IPv6 packets to one of our addresses are
// dropped that came in a broadcast or multicast frame, as the host does where
// the uplink's sysctl drop_unicast_in_l2_multicast is set.
func (s *Steering) SetDropUnicastToMany(drop bool) error {
	return s.set(func(w *steered) { w.dropsToMany = drop })
}

// SetNextHops sets the next hops on the uplink of packets for the PLAT. The longest
// prefix wins; packets to an address in no prefix are dropped. A few thousand hops
// fit. On an uplink without link header there is no next hop to choose, and only
// Reject matters.
func (s *Steering) SetNextHops(hops []NextHop) error {
	for _, h := range hops {
		if !h.Prefix.IsValid() || !h.Prefix.Addr().Is6() || h.Via.IsValid() && (!h.Via.Is6() || h.Via.Is4In6() || h.Via.IsMulticast() || h.Via.IsUnspecified()) {
			return &Error{"set the next hops", fmt.Errorf("%s via %s is no IPv6 route", h.Prefix, h.Via)}
		}
	}
	hops = slices.Clone(hops)
	headers := map[int]bool{}
	for i := range hops {
		h := &hops[i]
		if h.Via = h.Via.WithZone(""); h.Link == s.steered.uplink {
			h.Link = 0
		}
		if _, known := headers[h.Link]; h.Link == 0 || h.Reject || known {
			continue
		}
		l, err := s.findLink(h.Link)
		if err != nil {
			return err
		}
		if headers[h.Link], err = steerable.LinkHeader(l); err != nil {
			return &Error{"set the next hops", err}
		}
	}
	if slices.Equal(hops, s.steered.hops) && maps.Equal(headers, s.steered.headers) {
		return nil
	}
	return s.set(func(w *steered) { w.hops, w.headers = hops, headers })
}

// SetGuarded names the addresses of the host's CLATs, which the guard of the
// uplink guards, if the kernel lets there be one.
func (s *Steering) SetGuarded(ipv4 []netip.Addr, ipv6 []netip.Prefix) error {
	if s.guard == nil {
		return nil
	}
	return s.guard.SetGuarded(ipv4, ipv6)
}

// Suspend drops what user space sends until SetOurs says otherwise. What
// arrives for addresses that were ours is left to the kernel.
func (s *Steering) Suspend() error { return s.SetOurs(nil) }

// set makes the rules anew for what change makes of the steering. On an error
// nothing has changed.
func (s *Steering) set(change func(*steered)) error {
	next := s.steered
	change(&next)
	if err := s.table.replace(next.rules(&s.table)); err != nil {
		return err
	}
	s.steered = next
	return nil
}

// Counters reads the counters.
func (s *Steering) Counters() (Counters, error) {
	c, err := s.table.counters()
	if s.guard != nil {
		g, guardErr := s.guard.Counters()
		for i := range c {
			c[i] += g[i]
		}
		err = errors.Join(err, guardErr)
	}
	return c, err
}

// Close removes the tables. It may be called twice, and after the interfaces
// have gone.
func (s *Steering) Close() error {
	if s.netlink != nil {
		s.netlink.Close()
		s.netlink = nil
	}
	if s.conn == nil {
		return nil
	}
	var errs []error
	if s.table.uses != nil {
		errs = append(errs, s.table.remove())
	}
	if s.guard != nil {
		errs = append(errs, s.guard.Close())
	}
	errs = append(errs, s.conn.Close())
	s.conn, s.guard = nil, nil
	return errors.Join(errs...)
}
