package steernft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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

	uplink, tun int
	linkHeader  bool
	ours        []netip.Prefix
	hops        []NextHop
	headers     map[int]bool // of other links in hops: packets begin with an Ethernet header
	dropsToMany bool         // see SetDropUnicastToMany
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
	s := &Steering{uplink: cfg.Uplink, tun: cfg.TUN}
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
	if s.linkHeader, err = hasLinkHeader(uplink); err != nil {
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

// hasLinkHeader reports whether packets on the link begin with an Ethernet
// header. Kinds of link that have another header are an error.
func hasLinkHeader(l netlink.Link) (bool, error) {
	a := l.Attrs()
	switch a.EncapType {
	case "ether":
		return true, nil
	case "none", // TUN, WireGuard
		"unknown519", // ARPHRD_RAWIP: mobile broadband
		"ppp",
		"ipip", "tunnel6", "sit", "gre",
		"unknown823": // ARPHRD_IP6GRE
		return false, nil
	}
	return false, fmt.Errorf("interface %q has a link type that is neither Ethernet nor plain IP: %q", a.Name, a.EncapType)
}

// TakesHop reports whether what user space sends loses one from its hop limit:
// nf_tables takes one when it looks up a neighbour.
func (s *Steering) TakesHop() bool { return s.linkHeader }

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
		if err := checkOurs(p); err != nil {
			return &Error{"set the steered prefixes", err}
		}
	}
	old := s.ours
	s.ours = slices.Clone(ours)
	if err := s.apply(); err != nil {
		s.ours = old
		return err
	}
	return nil
}

// SetDropUnicastToMany says whether IPv6 packets to one of our addresses are
// dropped that came in a broadcast or multicast frame, as the host does where
// the uplink's sysctl drop_unicast_in_l2_multicast is set.
func (s *Steering) SetDropUnicastToMany(drop bool) error {
	old := s.dropsToMany
	s.dropsToMany = drop
	if err := s.apply(); err != nil {
		s.dropsToMany = old
		return err
	}
	return nil
}

// SetNextHops says where packets for the PLAT go on the uplink: by the longest
// prefix. Some thousand hops fit. What no prefix contains is dropped. On an uplink without link header
// there is nothing to choose, and only Reject matters.
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
		if h.Via = h.Via.WithZone(""); h.Link == s.uplink {
			h.Link = 0
		}
		if _, known := headers[h.Link]; h.Link == 0 || h.Reject || known {
			continue
		}
		l, err := s.findLink(h.Link)
		if err != nil {
			return err
		}
		if headers[h.Link], err = hasLinkHeader(l); err != nil {
			return &Error{"set the next hops", err}
		}
	}
	if slices.Equal(hops, s.hops) && maps.Equal(headers, s.headers) {
		return nil
	}
	old, oldHeaders := s.hops, s.headers
	s.hops, s.headers = hops, headers
	if err := s.apply(); err != nil {
		s.hops, s.headers = old, oldHeaders
		return err
	}
	return nil
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

// apply makes the rules anew.
func (s *Steering) apply() error { return s.table.replace(s.rules()) }

var (
	protocolIPv6 = binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)
	protocolVLAN = binary.BigEndian.AppendUint16(nil, unix.ETH_P_8021Q)
)

const (
	ip6Source, ip6Destination = 8, 24 // offsets in the IPv6 header
	ll, network, transport    = unix.NFT_PAYLOAD_LL_HEADER, unix.NFT_PAYLOAD_NETWORK_HEADER, unix.NFT_PAYLOAD_TRANSPORT_HEADER
	eq, neq                   = unix.NFT_CMP_EQ, unix.NFT_CMP_NEQ
)

// rules are the rules for ours and hops.
func (s *Steering) rules() *ruleset {
	r := newRuleset(chainUplink, chainTUN, chainTake)
	s.uplinkRules(r)
	s.tunRules(r)
	return r
}

// linkControl adds rules that end with what for neighbour discovery (RFC 4861)
// and MLD (RFC 2710, RFC 3810), behind any extension headers.
func linkControl(r *ruleset, chain string, what ...expression) {
	icmp := []expression{meta(unix.NFT_META_L4PROTO), compare(eq, []byte{unix.IPPROTO_ICMPV6}), load(transport, 0, 1)}
	r.add(chain, icmp, compare(unix.NFT_CMP_GTE, []byte{130}), compare(unix.NFT_CMP_LTE, []byte{137}), what)
	r.add(chain, icmp, compare(eq, []byte{143}), what)
}

func (s *Steering) uplinkRules(r *ruleset) {
	isIPv6 := []expression{meta(unix.NFT_META_PROTOCOL), compare(eq, protocolIPv6)}
	if s.linkHeader {
		// The tag of another VLAN makes it the packet of another link; a priority
		// tag (VLAN 0) does not.
		r.addGoto(chainUplink, chainTake, isIPv6, load(ll, 12, 2), compare(eq, protocolIPv6))
		r.addGoto(chainUplink, chainTake, isIPv6, load(ll, 12, 2), compare(eq, protocolVLAN),
			load(ll, 14, 2), masked([]byte{0x0f, 0xff}), compare(eq, []byte{0, 0}),
			load(ll, 16, 2), compare(eq, protocolIPv6))
	} else {
		r.addGoto(chainUplink, chainTake, isIPv6)
	}
	if len(s.ours) == 0 {
		return
	}
	ours := s.table.newSet(prefixSpans(s.ours), false)
	r.sets = append(r.sets, ours)
	// Received only because the interface is promiscuous.
	r.add(chainTake, meta(unix.NFT_META_PKTTYPE), compare(eq, []byte{unix.PACKET_OTHERHOST}), accept())
	r.add(chainTake, load(network, ip6Destination, 16), isIn(ours, false), accept())
	linkControl(r, chainTake, count(LeftToKernel), accept())
	if s.dropsToMany {
		for _, to := range []byte{unix.PACKET_BROADCAST, unix.PACKET_MULTICAST} {
			r.add(chainTake, meta(unix.NFT_META_PKTTYPE), compare(eq, []byte{to}), count(UnicastToMany), drop())
		}
	}
	take := []expression{count(SteeredIn)}
	if s.linkHeader {
		take = append(take, store(0, 0)...) // see "What user space has to know"
	}
	r.add(chainTake, take, forward(s.tun))
}

func (s *Steering) tunRules(r *ruleset) {
	// IPv4 is a translated packet for the local stack and its firewall.
	r.add(chainTUN, meta(unix.NFT_META_PROTOCOL), compare(neq, protocolIPv6), accept())
	if len(s.ours) == 0 {
		r.add(chainTUN, count(ForeignSource), drop())
		return
	}
	ours := s.table.newSet(prefixSpans(s.ours), false)
	r.sets = append(r.sets, ours)
	r.add(chainTUN, load(network, ip6Source, 16), isIn(ours, false), count(ForeignSource), drop())
	byLink := map[int]*destinations{}
	var rejected []span
	for _, p := range spans(s.hops) {
		d := byLink[p.hop.Link]
		if d == nil {
			d = &destinations{}
			byLink[p.hop.Link] = d
		}
		switch {
		case p.hop.Reject:
			rejected = append(rejected, p)
		case p.hop.Via.IsValid():
			d.routed = append(d.routed, p)
		default:
			d.onLink = append(d.onLink, p)
		}
	}
	s.addTo(r, rejected, false, func(x set) []expression { return []expression{isIn(x, true), count(Unroutable), drop()} })
	for _, link := range slices.Sorted(maps.Keys(byLink)) {
		s.linkRules(r, link, *byLink[link])
	}
	r.add(chainTUN, count(Unroutable), drop())
}

// destinations are those that a link leads to.
type destinations struct{ onLink, routed []span }

// anyNeighbour is a next hop on a link where packets need none.
var anyNeighbour = netip.MustParseAddr("fe80::1")

// linkRules adds the rules for a link; 0 is the uplink.
func (s *Steering) linkRules(r *ruleset, link int, d destinations) {
	header, out := s.headers[link], link
	if link == 0 {
		header, out = s.linkHeader, s.uplink
	}
	if header {
		s.addTo(r, d.onLink, false, func(x set) []expression {
			return slices.Concat([]expression{isIn(x, true), count(SteeredOut)}, forwardTo(out))
		})
		s.addTo(r, d.routed, true, func(x set) []expression {
			return slices.Concat([]expression{mapped(x), count(SteeredOut)}, forwardTo(out))
		})
		return
	}
	s.addTo(r, append(d.onLink, d.routed...), false, func(x set) []expression {
		first := []expression{isIn(x, true), count(SteeredOut)}
		if !s.TakesHop() {
			return append(first, forward(out)...)
		}
		// User space has added a hop, which only a neighbour takes.
		via := anyNeighbour.As16()
		return slices.Concat(first, []expression{immediate(reg1, via[:])}, forwardTo(out))
	})
}

// addTo adds a rule for the destinations in spans, if there are any.
func (s *Steering) addTo(r *ruleset, spans []span, isMap bool, f func(set) []expression) {
	if len(spans) == 0 {
		return
	}
	x := s.table.newSet(spans, isMap)
	r.sets = append(r.sets, x)
	r.add(chainTUN, load(network, ip6Destination, 16), f(x))
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
