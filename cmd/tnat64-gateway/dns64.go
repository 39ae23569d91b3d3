package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"tnat64d/internal/config"
	"tnat64d/internal/resolvconf"
	"tnat64d/internal/say"
	"tnat64d/plat/dns64"
)

// newDNS64 returns nil if c names no address to listen on.
func (d *gateway) newDNS64(c config.Gateway) (part, error) {
	if len(c.DNS64.Listen) == 0 {
		return nil, nil
	}
	prefixes := c.DNS64.Prefixes
	if len(prefixes) == 0 {
		prefixes = []netip.Prefix{c.NAT64.Prefix}
	}
	rules, err := dns64.NewRules(prefixes, c.DNS64.Exclude)
	if err != nil {
		return nil, err
	}
	upstream := func() []netip.AddrPort { return c.DNS64.Upstream }
	if len(c.DNS64.Upstream) == 0 {
		upstream = (&systemResolvers{listen: c.DNS64.Listen, read: resolvconf.System, now: time.Now, log: d.log}).list
	}
	var zones []*dns64.Zone
	for _, z := range c.DNS64.Zones {
		zones = append(zones, &dns64.Zone{Name: z.Name, Path: z.Hosts})
	}
	server, err := dns64.New(dns64.Options{
		Rules:            rules,
		Listen:           c.DNS64.Listen,
		Upstream:         upstream,
		Clients:          newClients(c.NAT64).mayAsk,
		Zones:            zones,
		QueriesPerSecond: c.DNS64.QueriesPerSecond,
		CacheEntries:     c.DNS64.CacheEntries,
		Log:              d.log,
		LogQueries:       c.Log.Queries,
	})
	if err != nil {
		return nil, err
	}
	return &dnsPart{Server: server, d: d, listen: c.DNS64.Listen}, nil
}

// dnsPart is the DNS64 with hints where it cannot start.
type dnsPart struct {
	*dns64.Server
	d      *gateway
	listen []netip.AddrPort
}

// Run answers until ctx ends.
func (p *dnsPart) Run(ctx context.Context) error {
	p.d.dns64.Store(p)
	defer p.d.dns64.CompareAndSwap(p, nil)
	return hinted(p.Server.Run(ctx))
}

// probe returns why the DNS64 could not answer at its addresses in the place of
// running, which may be nil.
func (p *dnsPart) probe(running *dnsPart) error {
	var now *dns64.Server
	if running != nil {
		now = running.Server
	}
	return hinted(p.Probe(context.Background(), now))
}

// hinted adds to an error of listening what helps.
func hinted(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return say.Hint(err, "another DNS server has this address; find it with `ss -lup sport = 53`, or set dns64.listen")
	case errors.Is(err, syscall.EACCES):
		return say.Hint(err, "ports below 1024 need CAP_NET_BIND_SERVICE")
	}
	return err
}

// resolversInterval is how often resolv.conf is read again.
const resolversInterval = 5 * time.Second

// systemResolvers are the resolvers of resolv.conf, as it is now. Safe for
// concurrent use.
type systemResolvers struct {
	listen []netip.AddrPort // our own addresses, which are not asked
	read   func() (resolvconf.Config, error)
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	at      time.Time
	missing bool // reported
	found   []netip.AddrPort
}

func (r *systemResolvers) list() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !r.at.IsZero() && now.Sub(r.at) < resolversInterval {
		return r.found
	}
	r.at = now
	c, err := r.read()
	r.found = nil
	for _, a := range slices.Concat(c.Servers, c.Stubs) {
		if server := netip.AddrPortFrom(a, 53); !r.isOurs(server) {
			r.found = append(r.found, server)
		}
	}
	if missing := len(r.found) == 0; missing != r.missing {
		r.missing = missing
		if missing {
			r.log.Warn("DNS64 has no upstream resolver", "file", c.Path, "reason", err, "hint", "set dns64.upstream")
		}
	}
	return r.found
}

// isOurs reports whether a resolver is this DNS64, which would ask itself.
func (r *systemResolvers) isOurs(server netip.AddrPort) bool {
	return slices.ContainsFunc(r.listen, func(l netip.AddrPort) bool {
		return l == server || l.Port() == server.Port() && l.Addr().IsUnspecified() && server.Addr().IsLoopback()
	})
}
