package steernft

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// steered is which packets the table steers, and where to.
type steered struct {
	uplink, tun int
	linkHeader  bool // packets on the uplink begin with an Ethernet header
	ours        []netip.Prefix
	hops        []NextHop
	headers     map[int]bool // linkHeader of the other links in hops
	dropsToMany bool         // see Steering.SetDropUnicastToMany
}

var (
	protocolIPv6 = binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)
	protocolVLAN = binary.BigEndian.AppendUint16(nil, unix.ETH_P_8021Q)
)

const (
	ip6Source, ip6Destination = 8, 24 // offsets in the IPv6 header
	ll, network, transport    = unix.NFT_PAYLOAD_LL_HEADER, unix.NFT_PAYLOAD_NETWORK_HEADER, unix.NFT_PAYLOAD_TRANSPORT_HEADER
	eq, neq                   = unix.NFT_CMP_EQ, unix.NFT_CMP_NEQ
)

// rules returns the rules; the sets are those of t.
func (w *steered) rules(t *table) *ruleset {
	r := newRuleset(t, chainUplink, chainTUN, chainTake)
	w.uplinkRules(r)
	w.tunRules(r)
	return r
}

// linkControl adds rules that end with what for neighbour discovery (RFC 4861)
// and MLD (RFC 2710, RFC 3810), behind any extension headers.
func linkControl(r *ruleset, chain string, what ...expression) {
	icmp := []expression{meta(unix.NFT_META_L4PROTO), compare(eq, []byte{unix.IPPROTO_ICMPV6}), load(transport, 0, 1)}
	r.add(chain, icmp, compare(unix.NFT_CMP_GTE, []byte{130}), compare(unix.NFT_CMP_LTE, []byte{137}), what)
	r.add(chain, icmp, compare(eq, []byte{143}), what)
}

func (w *steered) uplinkRules(r *ruleset) {
	isIPv6 := []expression{meta(unix.NFT_META_PROTOCOL), compare(eq, protocolIPv6)}
	if w.linkHeader {
		// The tag of another VLAN makes it the packet of another link; a priority
		// tag (VLAN 0) does not.
		r.addGoto(chainUplink, chainTake, isIPv6, load(ll, 12, 2), compare(eq, protocolIPv6))
		r.addGoto(chainUplink, chainTake, isIPv6, load(ll, 12, 2), compare(eq, protocolVLAN),
			load(ll, 14, 2), masked([]byte{0x0f, 0xff}), compare(eq, []byte{0, 0}),
			load(ll, 16, 2), compare(eq, protocolIPv6))
	} else {
		r.addGoto(chainUplink, chainTake, isIPv6)
	}
	if len(w.ours) == 0 {
		return
	}
	ours := r.newSet(prefixSpans(w.ours), false)
	// Received only because the interface is promiscuous.
	r.add(chainTake, meta(unix.NFT_META_PKTTYPE), compare(eq, []byte{unix.PACKET_OTHERHOST}), accept())
	r.add(chainTake, load(network, ip6Destination, 16), isIn(ours, false), accept())
	linkControl(r, chainTake, count(LeftToKernel), accept())
	if w.dropsToMany {
		for _, to := range []byte{unix.PACKET_BROADCAST, unix.PACKET_MULTICAST} {
			r.add(chainTake, meta(unix.NFT_META_PKTTYPE), compare(eq, []byte{to}), count(UnicastToMany), drop())
		}
	}
	// Only IPv6 by its version: user space tells the families apart by that, not by the
	// protocol of the frame, and takes IPv4 for that of a local program. And only with a
	// whole destination: the rules that accept other ones do not match a shorter packet.
	take := []expression{
		load(network, 0, 1), masked([]byte{0xf0}), compare(eq, []byte{0x60}), load(network, ip6Destination, 16), count(SteeredIn),
	}
	if w.linkHeader {
		take = append(take, store(0, 0)...) // see "What user space has to know"
	}
	r.add(chainTake, take, forward(w.tun))
}

func (w *steered) tunRules(r *ruleset) {
	// IPv4 is a translated packet for the local stack and its firewall.
	r.add(chainTUN, meta(unix.NFT_META_PROTOCOL), compare(neq, protocolIPv6), accept())
	if len(w.ours) == 0 {
		r.add(chainTUN, count(ForeignSource), drop())
		return
	}
	ours := r.newSet(prefixSpans(w.ours), false)
	r.add(chainTUN, load(network, ip6Source, 16), isIn(ours, false), count(ForeignSource), drop())
	byLink := map[int]*destinations{}
	var rejected []span
	for _, p := range spans(w.hops) {
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
	r.addTo(rejected, false, func(x set) []expression { return []expression{isIn(x, true), count(Unroutable), drop()} })
	for _, link := range slices.Sorted(maps.Keys(byLink)) {
		w.linkRules(r, link, *byLink[link])
	}
	r.add(chainTUN, count(Unroutable), drop())
}

// destinations are those that a link leads to.
type destinations struct{ onLink, routed []span }

// anyNeighbour is a next hop on a link where packets need none.
var anyNeighbour = netip.MustParseAddr("fe80::1")

// linkRules adds the rules for a link; 0 is the uplink.
func (w *steered) linkRules(r *ruleset, link int, d destinations) {
	header, out := w.headers[link], link
	if link == 0 {
		header, out = w.linkHeader, w.uplink
	}
	if header {
		r.addTo(d.onLink, false, func(x set) []expression {
			return slices.Concat([]expression{isIn(x, true), count(SteeredOut)}, forwardTo(out))
		})
		r.addTo(d.routed, true, func(x set) []expression {
			return slices.Concat([]expression{mapped(x), count(SteeredOut)}, forwardTo(out))
		})
		return
	}
	r.addTo(append(d.onLink, d.routed...), false, func(x set) []expression {
		first := []expression{isIn(x, true), count(SteeredOut)}
		if !w.linkHeader {
			return append(first, forward(out)...)
		}
		// User space has added a hop, which only a neighbour takes.
		via := anyNeighbour.As16()
		return slices.Concat(first, []expression{immediate(reg1, via[:])}, forwardTo(out))
	})
}

// addTo adds a rule for the destinations in spans, if there are any.
func (r *ruleset) addTo(spans []span, isMap bool, f func(set) []expression) {
	if len(spans) == 0 {
		return
	}
	r.add(chainTUN, load(network, ip6Destination, 16), f(r.newSet(spans, isMap)))
}
