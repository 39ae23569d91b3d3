package main

import (
	"context"
	"net/netip"
	"sync"

	"tnat64d/internal/config"
	"tnat64d/plat/advertise"
)

// newAdvertise returns nil if c names no interface to advertise on.
func (d *gateway) newAdvertise(c config.Gateway) (part, error) {
	p := &advertisePart{d: d}
	for _, name := range c.Advertise.Interfaces {
		var store advertise.Store
		if file := stateFile(d.log, "advertised-"+name); file != "" {
			store = advertisedFile(file)
		}
		p.links = append(p.links, advertise.New(name, advertise.NewLink(name, c.Advertise.Source), announcement(c), store, d.log))
	}
	if len(p.links) == 0 {
		return nil, nil
	}
	return p, nil
}

// announcement is what c has announced on every link.
func announcement(c config.Gateway) advertise.Parameters {
	p := advertise.Parameters{
		PREF64:   []netip.Prefix{c.NAT64.Prefix},
		RDNSS:    c.Advertise.RDNSS,
		MTU:      c.Advertise.MTU,
		Lifetime: c.Advertise.Lifetime,
	}
	if c.Advertise.Prefix.IsValid() {
		p.Prefixes = []netip.Prefix{c.Advertise.Prefix}
	}
	if len(p.RDNSS) == 0 {
		for _, l := range c.DNS64.Listen {
			if l.Port() == 53 { // hosts know no other
				p.RDNSS = append(p.RDNSS, l.Addr())
			}
		}
	}
	return p
}

// advertisePart are the advertisers of all links.
type advertisePart struct {
	d     *gateway
	links []*advertise.Advertiser
}

// Run advertises on every link until ctx ends.
func (p *advertisePart) Run(ctx context.Context) error {
	p.d.advertise.Store(p)
	defer p.d.advertise.CompareAndSwap(p, nil)
	var all sync.WaitGroup
	for _, a := range p.links {
		all.Go(func() { a.Run(ctx) })
	}
	all.Wait()
	return nil
}

// advertisedLinks returns the names of the links that parts advertise on.
func advertisedLinks(parts []part) (names []string) {
	for _, p := range parts {
		if p, ok := p.(*advertisePart); ok {
			for _, a := range p.links {
				names = append(names, a.Name())
			}
		}
	}
	return names
}
