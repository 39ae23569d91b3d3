package config

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// together checks what only shows in several keys of a gateway's file at
// once.
func (r *gatewayReading) together() {
	r.interfaces()
	r.prefixes()
	r.outsideAddresses()
	r.staticMaps()
	r.portForwards()
	r.dns64()
	r.advertise()
}

func (r *gatewayReading) interfaces() {
	n, a := &r.conf.NAT64, r.conf.Advertise
	if r.given["nat64.inside"] == nil {
		n.Inside = a.Interfaces
	}
	if len(n.Inside) == 0 && len(n.Clients) == 0 {
		what, allowed := "no interface of IPv6-only hosts is named", `nat64.inside = ["lan0"], or nat64.clients if they are behind other routers`
		at := r.given["nat64.inside"]
		if at == nil {
			at = r.given["nat64"]
		}
		if at == nil {
			r.problems = append(r.problems, Problem{File: r.file, Key: "nat64.inside", What: what, Allowed: allowed})
		} else {
			r.refuse("nat64.inside", at, what, allowed)
		}
	}
	for _, l := range []struct {
		key   string
		names []string
	}{{"nat64.inside", n.Inside}, {"nat64.outside", n.Outside}, {"advertise.interfaces", a.Interfaces}} {
		at := r.given[l.key]
		for i, name := range l.names {
			switch {
			case at == nil:
			case name == n.TUN:
				r.refuse(l.key, at.items[i], fmt.Sprintf("%q is nat64.tun, the gateway's own interface", name), "interfaces other than nat64.tun")
			case l.key == "nat64.outside" && slices.Contains(n.Inside, name):
				r.warn(l.key, at.items[i], fmt.Sprintf("%q is also in nat64.inside", name))
			case l.key == "advertise.interfaces" && slices.Contains(n.Outside, name) && !slices.Contains(n.Inside, name):
				r.refuse(l.key, at.items[i], fmt.Sprintf("%q is an interface of nat64.outside", name), "interfaces of nat64.inside")
			case l.key == "advertise.interfaces" && !slices.Contains(n.Inside, name):
				r.warn(l.key, at.items[i], fmt.Sprintf("%q is not in nat64.inside: its hosts get advertisements but may not use NAT64", name))
			}
		}
	}
}

func (r *gatewayReading) prefixes() {
	n := r.conf.NAT64
	if at := r.given["nat64.prefix"]; at != nil && n.Prefix.Bits() == 96 && n.Prefix.Addr().As16()[8] != 0 {
		r.warn("nat64.prefix", at, fmt.Sprintf("%q has bits 64 to 71 set, which must be zero (RFC 6052)", n.Prefix))
	}
	at := r.given["nat64.clients"]
	for i, p := range n.Clients {
		switch {
		case n.Prefix.Bits() <= p.Bits() && n.Prefix.Contains(p.Addr()):
			// RFC 6146 section 3.5: such a packet has been translated before.
			r.refuse("nat64.clients", at.items[i], fmt.Sprintf("%q lies in %q, nat64.prefix, and packets from there are dropped", p, n.Prefix), "prefixes outside nat64.prefix")
		case p.Bits() == 0:
			r.warn("nat64.clients", at.items[i], fmt.Sprintf("%q lets everyone who reaches the gateway use it", p))
		default:
			for _, q := range n.Clients[:i] {
				if p.Overlaps(q) {
					r.warn("nat64.clients", at.items[i], fmt.Sprintf("%q overlaps %q", p, q))
				}
			}
		}
	}
}

func (r *gatewayReading) outsideAddresses() {
	n := r.conf.NAT64
	at := r.given["nat64.addresses"]
	switch {
	case n.NAT44 == NAT44Pool && len(n.Addresses) == 0:
		where := at
		if where == nil {
			where = r.given["nat64.nat44"]
		}
		r.refuse("nat64.addresses", where, `nat64.nat44 is "pool", but nat64.addresses is empty`, addressRange.allowed)
	case n.NAT44 != NAT44Pool && len(n.Addresses) > 0:
		r.warn("nat64.addresses", at, fmt.Sprintf("not used because nat64.nat44 is %q", n.NAT44))
	}
	if ports := r.given["nat64.ports-per-client"]; ports != nil && n.NAT44 != NAT44Pool {
		r.warn("nat64.ports-per-client", ports, fmt.Sprintf("not used because nat64.nat44 is %q", n.NAT44))
	}
	for _, key := range []string{"nat64.connections-per-client", "nat64.connections-per-64"} {
		if limit := r.given[key]; limit != nil && n.NAT44 == NAT44None {
			r.warn(key, limit, `not used because nat64.nat44 is "none"`)
		}
	}
	total := uint64(0)
	for i, a := range n.Addresses {
		if total += a.size(); total > maxAddresses {
			r.refuse("nat64.addresses", at.items[i], fmt.Sprintf("%d addresses are more than %d", total, maxAddresses), "fewer addresses")
			break
		}
		if a.overlaps(AddrRange{n.Pool.Addr(), lastOf(n.Pool)}) {
			r.refuse("nat64.addresses", at.items[i], fmt.Sprintf("%q overlaps %q, nat64.pool", a, n.Pool), "addresses outside nat64.pool")
		}
		for _, q := range n.Addresses[:i] {
			if a.overlaps(q) {
				r.refuse("nat64.addresses", at.items[i], fmt.Sprintf("%q overlaps %q", a, q), "each address once")
				break
			}
		}
	}
	denied := r.given["nat64.deny"]
	for i, d := range n.Deny {
		if d.Bits() == 0 {
			r.warn("nat64.deny", denied.items[i], fmt.Sprintf("%q denies everything", d))
		}
		if d.Overlaps(n.Pool) {
			r.warn("nat64.deny", denied.items[i], fmt.Sprintf("%q overlaps nat64.pool, which is only reachable through a map anyway", d))
		}
	}
}

// maxAddresses bounds nat64.addresses.
const maxAddresses = 65536

// size returns how many addresses r has.
func (r AddrRange) size() uint64 { return uint64(number4(r.Last)) - uint64(number4(r.First)) + 1 }

func (r AddrRange) overlaps(o AddrRange) bool {
	return !r.Last.Less(o.First) && !o.Last.Less(r.First)
}

func (r AddrRange) contains(a netip.Addr) bool { return r.overlaps(AddrRange{a, a}) }

func (r *gatewayReading) staticMaps() {
	n := r.conf.NAT64
	seen4, seen6 := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for i, m := range n.Maps {
		at4, at6 := r.maps[i].get("ipv4"), r.maps[i].get("ipv6")
		switch {
		case !n.Pool.Contains(m.IPv4):
			r.refuse("nat64.map.ipv4", at4, fmt.Sprintf("%q is outside %q, nat64.pool", m.IPv4, n.Pool), mapIPv4.allowed)
		case m.IPv4 == n.Own():
			r.refuse("nat64.map.ipv4", at4, fmt.Sprintf("%q is the gateway's own address, the first of nat64.pool", m.IPv4), "another address of nat64.pool")
		case m.IPv4 == n.Pool.Addr():
			r.refuse("nat64.map.ipv4", at4, fmt.Sprintf("%q is the network address of nat64.pool", m.IPv4), "another address of nat64.pool")
		case n.NAT44 == NAT44Pool && n.beyondPorts(m.IPv4):
			r.refuse("nat64.map.ipv4", at4, fmt.Sprintf("%q has no outside address: there are port ranges for %d clients only", m.IPv4, n.fixedClients()),
				"an address nearer to the start of nat64.pool, more nat64.addresses, or fewer nat64.ports-per-client")
		case seen4[m.IPv4]:
			r.refuse("nat64.map.ipv4", at4, fmt.Sprintf("%q occurs twice", m.IPv4), "each address once")
		}
		r.insideClients("nat64.map.ipv6", at6, m.IPv6)
		if seen6[m.IPv6] {
			r.refuse("nat64.map.ipv6", at6, fmt.Sprintf("%q occurs twice", m.IPv6), "each address once")
		}
		seen4[m.IPv4], seen6[m.IPv6] = true, true
	}
}

// fixedClients returns how many clients get a range of ports each with
// NAT44Pool; 0: ports are shared.
func (n NAT64) fixedClients() (clients uint64) {
	if n.PortsPerClient <= 0 {
		return 0
	}
	for _, r := range n.Addresses {
		clients += r.size() * uint64((65536-1024)/n.PortsPerClient)
	}
	return clients
}

// beyondPorts reports whether an address of the pool has no range of ports: they
// are given from the third address on.
func (n NAT64) beyondPorts(a netip.Addr) bool {
	i := uint64(number4(a)) - uint64(number4(n.Pool.Addr()))
	return n.PortsPerClient > 0 && i >= 2+n.fixedClients()
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// insideClients refuses the address of a host that could not answer.
func (r *gatewayReading) insideClients(key string, at *node, a netip.Addr) {
	n := r.conf.NAT64
	switch {
	case n.Prefix.Contains(a):
		r.refuse(key, at, fmt.Sprintf("%q lies in %q, nat64.prefix", a, n.Prefix), "an address of a host")
	case len(n.Clients) > 0 && !slices.ContainsFunc(n.Clients, func(p netip.Prefix) bool { return p.Contains(a) }):
		r.refuse(key, at, fmt.Sprintf("%q is in none of nat64.clients, so its packets are dropped", a), "an address in nat64.clients")
	}
}

func (r *gatewayReading) portForwards() {
	n := r.conf.NAT64
	seen := map[outsidePort]bool{}
	for i, f := range n.Forwards {
		item := r.forwards[i]
		at, o := item.get("outside"), outsidePort{f.Outside, f.Protocol}
		switch {
		case n.NAT44 == NAT44None:
			r.refuse("nat64.forward", item, `nat64.nat44 is "none": the pool is routed, and hosts are reachable at their pool addresses`, `[[nat64.map]], or another value of nat64.nat44`)
		case n.Pool.Contains(f.Outside.Addr()):
			r.refuse("nat64.forward.outside", at, fmt.Sprintf("%q is in %q, nat64.pool", f.Outside.Addr(), n.Pool), "an outside address of the gateway")
		case n.NAT44 == NAT44Pool && !slices.ContainsFunc(n.Addresses, func(r AddrRange) bool { return r.contains(f.Outside.Addr()) }):
			r.warn("nat64.forward.outside", at, fmt.Sprintf("%q is in none of nat64.addresses", f.Outside.Addr()))
		}
		if seen[o] {
			r.refuse("nat64.forward.outside", at, fmt.Sprintf("%q occurs twice", o), "each address and port once")
		}
		seen[o] = true
		r.insideClients("nat64.forward.inside", item.get("inside"), f.Inside.Addr())
	}
}

// maxDNS64Prefixes bounds dns64.prefixes, as package plat/dns64 does.
const maxDNS64Prefixes = 8

func (r *gatewayReading) dns64() {
	d := r.conf.DNS64
	if at := r.given["dns64"]; at != nil && len(d.Listen) == 0 {
		r.warn("dns64", at, "DNS64 is off because dns64.listen names no address")
	}
	for i, u := range d.Upstream {
		for _, l := range d.Listen {
			if u.Port() == l.Port() && (u.Addr() == l.Addr() || l.Addr().IsUnspecified() && u.Addr().IsLoopback()) {
				r.refuse("dns64.upstream", r.given["dns64.upstream"].items[i], fmt.Sprintf("%q is this DNS64 itself (dns64.listen)", u), "other resolvers")
			}
		}
	}
	if at := r.given["dns64.prefixes"]; len(d.Prefixes) > maxDNS64Prefixes {
		r.refuse("dns64.prefixes", at.items[maxDNS64Prefixes], fmt.Sprintf("%d prefixes are more than %d", len(d.Prefixes), maxDNS64Prefixes), "fewer prefixes")
	}
	seen := map[string]bool{}
	for i, z := range d.Zones {
		if seen[z.Name] {
			r.refuse("dns64.zone.name", r.zones[i].get("name"), fmt.Sprintf("%q occurs twice", z.Name), "each zone once")
		}
		seen[z.Name] = true
	}
}

func (r *gatewayReading) advertise() {
	a, n := r.conf.Advertise, r.conf.NAT64
	if at := r.given["advertise"]; at != nil && len(a.Interfaces) == 0 {
		r.warn("advertise", at, "no router advertisements are sent because advertise.interfaces names no interface")
	}
	at := r.given["advertise.prefix"]
	switch {
	case at == nil:
	case a.Prefix.Overlaps(n.Prefix):
		r.refuse("advertise.prefix", at, fmt.Sprintf("%q overlaps %q, nat64.prefix", a.Prefix, n.Prefix), "a prefix of the link")
	case len(a.Interfaces) > 1:
		r.refuse("advertise.prefix", at, fmt.Sprintf("%q cannot be the prefix of all %d links of advertise.interfaces", a.Prefix, len(a.Interfaces)), "one interface, or no advertise.prefix: the /64s of each interface's own addresses are then announced")
	case len(n.Clients) > 0 && !slices.ContainsFunc(n.Clients, func(p netip.Prefix) bool { return p.Overlaps(a.Prefix) }):
		r.warn("advertise.prefix", at, fmt.Sprintf("%q is in none of nat64.clients: its hosts may not use NAT64", a.Prefix))
	}
}
