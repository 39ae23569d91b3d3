package main

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tnat64d/internal/config"
)

// clientsInterval is how often the prefixes of interfaces are read again.
const clientsInterval = 2 * time.Second

// clients says who may use the gateway: the prefixes that the configuration
// names, otherwise those of the inside interfaces, as they are now. Safe for
// concurrent use.
type clients struct {
	named    []netip.Prefix
	inside   []string
	prefixes func(link string) []netip.Prefix
	now      func() time.Time

	mu    sync.Mutex
	read  time.Time
	found []netip.Prefix
}

func newClients(c config.NAT64) *clients {
	return &clients{named: c.Clients, inside: c.Inside, prefixes: linkPrefixes, now: time.Now}
}

// list returns the prefixes of all clients.
func (c *clients) list() []netip.Prefix {
	if len(c.named) > 0 {
		return c.named
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); c.read.IsZero() || now.Sub(c.read) >= clientsInterval {
		c.read, c.found = now, nil
		for _, link := range c.inside {
			c.found = append(c.found, c.prefixes(link)...)
		}
	}
	return c.found
}

// mayAsk reports whether an address may ask DNS64: a client, a link-local
// address of an inside interface, which it has as its zone, and this host.
func (c *clients) mayAsk(a netip.Addr) bool {
	switch {
	case a.IsLoopback():
		return true
	case a.Is6() && a.IsLinkLocalUnicast():
		return slices.Contains(c.inside, a.Zone())
	}
	return slices.ContainsFunc(c.list(), func(p netip.Prefix) bool { return p.Contains(a) })
}

// linkPrefixes returns the IPv6 prefixes of a link's addresses, without
// link-local and single ones.
func linkPrefixes(link string) (all []netip.Prefix) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return nil
	}
	addresses, err := i.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is6() && p.Addr().IsGlobalUnicast() && p.Bits() < 128 && !slices.Contains(all, p.Masked()) {
			all = append(all, p.Masked())
		}
	}
	return all
}
