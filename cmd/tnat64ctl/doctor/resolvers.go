package doctor

import (
	"context"
	"net/netip"
	"slices"

	"tnat64d/internal/bus"
	"tnat64d/internal/resolvconf"
)

// linkServers lists the resolvers of the uplink: those given, or what routers
// advertise and what resolved or NetworkManager know, and only if nobody knows
// any those of resolv.conf that are not reached through a tunnel.
func (h host) linkServers(ctx context.Context, o Options, b *bus.Bus, u Uplink, ra RA, conf resolvconf.Config) []Server {
	var servers []Server
	add := func(a netip.Addr, from string) {
		if a.IsLinkLocalUnicast() && a.Is6() {
			a = a.WithZone(u.Name)
		}
		known := slices.ContainsFunc(servers, func(s Server) bool { return s.Address == a })
		if !known && len(servers) < maxServers {
			servers = append(servers, Server{Address: a, From: from})
		}
	}
	for _, a := range o.Servers {
		add(a, "-dns")
	}
	if len(servers) > 0 {
		return servers
	}
	for _, r := range ra.Routers {
		for _, a := range r.Resolvers {
			add(a, "router advertisement")
		}
	}
	if known, source, err := b.LinkDNS(ctx, u.Index, u.Name); err == nil {
		for _, a := range known {
			add(a, source)
		}
	}
	if len(servers) > 0 {
		return servers
	}
	for _, a := range conf.Servers {
		if via, tunnel := h.towards(a); a.Is6() && !tunnel && via == u.Name {
			add(a, conf.Path)
		}
	}
	return servers
}

// systemServers lists whom programs ask: what resolv.conf has, a resolver on
// this machine included.
func (h host) systemServers(conf resolvconf.Config) []Server {
	asked := conf.Stubs
	if len(asked) == 0 {
		asked = conf.Servers
	}
	var servers []Server
	for _, a := range asked[:min(len(asked), resolverLimit)] {
		s := Server{Address: a, From: conf.Path}
		if a.IsLoopback() {
			s.From = "a resolver on this machine"
		}
		s.Via, s.Tunnel = h.towards(a)
		servers = append(servers, s)
	}
	return servers
}

// resolverLimit is MAXNS of the C library: further servers are never asked.
const resolverLimit = 3
