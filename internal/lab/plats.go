package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"tnat64d/datapath/engine"
	"tnat64d/tun"
)

// plats are the PLATs of a network.
type plats struct {
	network *Network

	mu   sync.Mutex
	all  []*plat // the one of SetPREF64 first
	dead map[netip.Prefix]bool
}

// startPLAT starts the network's first PLAT, or leads IPv6 to the server
// without one.
func (s *plats) startPLAT(life context.Context) error {
	n := s.network
	if n.options.NoPLAT {
		if err := n.lab.wireWithoutPLAT(); err != nil {
			return err
		}
	}
	p, err := s.newPLAT(life, n.options.PREF64)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.all = []*plat{p}
	s.mu.Unlock()
	return s.route(p)
}

// AddPLAT starts another PLAT, which translates another PREF64. It does not
// advertise it: see SetAdvert.
func (s *plats) AddPLAT(p netip.Prefix) error {
	if err := checkPREF64(p); err != nil {
		return err
	}
	another, err := s.newPLAT(s.network.lab.life, p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.all = append(s.all, another)
	s.mu.Unlock()
	return s.route(another)
}

// newPLAT makes the TUN and translates until life ends.
func (s *plats) newPLAT(life context.Context, pref64 netip.Prefix) (*plat, error) {
	n := s.network
	s.mu.Lock()
	count := len(s.all)
	s.mu.Unlock()
	p := &plat{network: s.network, tun: TUN, pref64: pref64}
	if count > 0 {
		p.tun = fmt.Sprintf("%s-%d", TUN, count+1)
	}
	var err error
	if p.pool, err = n.lab.pools.next(); err != nil {
		return nil, fmt.Errorf("PLAT: %w", err)
	}
	p.ipv4 = p.pool.Addr().Next()
	if n.options.NoPLAT {
		return p, nil
	}
	var device *tun.Device
	err = n.Router.Do(func() (err error) {
		device, err = tun.Open(p.tun, 1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("PLAT: %w", err)
	}
	t, err := p.translator()
	if err != nil {
		device.Close()
		return nil, fmt.Errorf("PLAT: %w", err)
	}
	var queues []engine.Queue
	for _, q := range device.Queues {
		queues = append(queues, q)
	}
	p.engine = engine.New(engine.Options{
		Queues:              queues,
		Translator:          t,
		ICMPErrorsPerSecond: 10000, // traceroute in a test is not to wait
		OnRefused:           p.learn,
		UDPSegments:         device.Offloads.USO,
	})
	n.lab.running.Go(func() {
		if err := p.engine.Run(life); err != nil {
			n.options.Log.Error("PLAT stopped", "reason", err)
		}
	})
	// The TUN takes packets of any size: it is the translator that knows the
	// MTU beyond and fragments, or answers Packet Too Big.
	return p, steps(
		func() error { return n.Router.SetMTU(p.tun, 65535) },
		func() error { return n.Router.setQueueLength(p.tun, platQueue) },
		func() error { return n.Router.up(p.tun) },
		func() error { return n.Router.route(p.pool, p.tun, netip.Addr{}) },
		func() error { return n.lab.ISP.route(p.pool, n.ispLink, n.ipv4.Addr()) },
	)
}

// route leads the PLAT's PREF64 to it, or without a PLAT to the server.
func (s *plats) route(p *plat) error {
	n := s.network
	pref64 := p.prefix()
	if n.options.NoPLAT {
		return n.lab.routeToServer(pref64)
	}
	s.mu.Lock()
	dead := s.dead[pref64]
	s.mu.Unlock()
	if dead {
		return n.Router.blackhole(pref64)
	}
	return n.Router.route(pref64, p.tun, netip.Addr{})
}

// unroute undoes route.
func (s *plats) unroute(p *plat) error {
	n := s.network
	pref64 := p.prefix()
	if n.options.NoPLAT {
		return n.lab.unrouteToServer(pref64)
	}
	return n.Router.unroute(pref64)
}

// MovePLAT makes the PLAT translate another PREF64 instead of its old one,
// without a word to anybody: see SetPREF64.
func (s *plats) MovePLAT(pref64 netip.Prefix) error {
	if err := checkPREF64(pref64); err != nil {
		return err
	}
	s.mu.Lock()
	p := s.all[0]
	s.mu.Unlock()
	if p.prefix() == pref64 {
		return nil
	}
	return steps(
		func() error { return s.unroute(p) },
		func() error { return p.setPREF64(pref64) },
		func() error { return s.route(p) },
	)
}

// PLATDead makes packets to a PREF64 of this network vanish, without any
// error, or lets them live again. Without prefixes all of its PLATs are meant.
func (s *plats) PLATDead(dead bool, pref64 ...netip.Prefix) error {
	n := s.network
	if n.options.NoPLAT {
		return errors.New("a lab without a PLAT has none to die")
	}
	s.mu.Lock()
	plats := slices.Clone(s.all)
	s.mu.Unlock()
	if len(pref64) == 0 {
		for _, p := range plats {
			pref64 = append(pref64, p.prefix())
		}
	}
	for _, q := range pref64 {
		i := slices.IndexFunc(plats, func(p *plat) bool { return p.prefix() == q })
		if i < 0 {
			return fmt.Errorf("no PLAT of %s translates %q", n.Name, q)
		}
		s.mu.Lock()
		s.dead[q] = dead
		s.mu.Unlock()
		if err := errors.Join(n.Router.unroute(q), s.route(plats[i])); err != nil {
			return err
		}
	}
	return nil
}

// PREF64 returns the prefix that the first PLAT translates.
func (s *plats) PREF64() netip.Prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[0].prefix()
}

// allPREF64 are the prefixes that the network's PLATs translate.
func (s *plats) allPREF64() []netip.Prefix {
	s.mu.Lock()
	plats := slices.Clone(s.all)
	s.mu.Unlock()
	var all []netip.Prefix
	for _, p := range plats {
		all = append(all, p.prefix())
	}
	return all
}

// pools gives away the IPv4 addresses of PLATs.
type pools struct {
	mu    sync.Mutex
	given int
}

// next returns the next part of the documentation ranges for a PLAT: all of
// 203.0.113.0/24 for the first, 14 addresses of 192.0.2.128/25 for each other.
func (p *pools) next() (netip.Prefix, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const more = 8
	if p.given > more {
		return netip.Prefix{}, fmt.Errorf("there are %d in this lab already", more+1)
	}
	p.given++
	if p.given == 1 {
		return Pool, nil
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(128 + 16*(p.given-2))}), 28), nil
}
