package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"tnat64d/datapath/engine"
	"tnat64d/siit"
	"tnat64d/tun"
)

// plat is a router's NAT64: the translator of the project with the mapping
// of a gateway. Each IPv6 host gets an IPv4 address of the pool for itself
// when its first packet comes, so that nothing but addresses needs to change:
// any protocol passes, fragments and ICMP errors both ways included.
type plat struct {
	network *Network
	tun     string
	pool    netip.Prefix
	ipv4    netip.Addr // the PLAT itself, as a hop: the pool's first
	engine  *engine.Engine

	mu     sync.Mutex
	pref64 netip.Prefix
	hosts  []siit.EAM // in the order of the pool
}

// platQueue is how many packets may wait for the PLAT. A TUN's 500 are too few
// for the handshakes of 2,000 connections at once, and what the PLAT loses looks
// as if the CLAT had lost it.
const platQueue = 10000

// startPLAT starts the network's first PLAT, or leads IPv6 to the server
// without one.
func (n *Network) startPLAT(life context.Context) error {
	if n.options.NoPLAT {
		if err := n.lab.wireWithoutPLAT(); err != nil {
			return err
		}
	}
	p, err := n.newPLAT(life, n.options.PREF64)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.plats = []*plat{p}
	n.mu.Unlock()
	return n.route(p)
}

// AddPLAT starts another PLAT, which translates another PREF64. It does not
// advertise it: see SetAdvert.
func (n *Network) AddPLAT(p netip.Prefix) error {
	if err := checkPREF64(p); err != nil {
		return err
	}
	another, err := n.newPLAT(n.lab.life, p)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.plats = append(n.plats, another)
	n.mu.Unlock()
	return n.route(another)
}

// newPLAT makes the TUN and translates until life ends.
func (n *Network) newPLAT(life context.Context, pref64 netip.Prefix) (*plat, error) {
	n.mu.Lock()
	count := len(n.plats)
	n.mu.Unlock()
	p := &plat{network: n, tun: TUN, pref64: pref64}
	if count > 0 {
		p.tun = fmt.Sprintf("%s-%d", TUN, count+1)
	}
	var err error
	if p.pool, err = n.lab.newPool(); err != nil {
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
	})
	n.lab.running.Go(func() {
		if err := p.engine.Run(life); err != nil {
			n.log().Error("PLAT stopped", "error", err)
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

// newPool returns the next part of the documentation ranges for a PLAT: all of
// 203.0.113.0/24 for the first, 14 addresses of 192.0.2.128/25 for each other.
func (l *Lab) newPool() (netip.Prefix, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const more = 8
	if l.pools > more {
		return netip.Prefix{}, fmt.Errorf("there are %d in this lab already", more+1)
	}
	l.pools++
	if l.pools == 1 {
		return Pool, nil
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(128 + 16*(l.pools-2))}), 28), nil
}

// route leads the PLAT's PREF64 to it, or without a PLAT to the server.
func (n *Network) route(p *plat) error {
	pref64 := p.prefix()
	if n.options.NoPLAT {
		return n.lab.routeToServer(pref64)
	}
	n.mu.Lock()
	dead := n.dead[pref64]
	n.mu.Unlock()
	if dead {
		return n.Router.blackhole(pref64)
	}
	return n.Router.route(pref64, p.tun, netip.Addr{})
}

// unroute undoes route.
func (n *Network) unroute(p *plat) error {
	pref64 := p.prefix()
	if n.options.NoPLAT {
		return n.lab.unrouteToServer(pref64)
	}
	return n.Router.unroute(pref64)
}

// MovePLAT makes the PLAT translate another PREF64 instead of its old one,
// without a word to anybody: see SetPREF64.
func (n *Network) MovePLAT(pref64 netip.Prefix) error {
	if err := checkPREF64(pref64); err != nil {
		return err
	}
	n.mu.Lock()
	p := n.plats[0]
	n.mu.Unlock()
	if p.prefix() == pref64 {
		return nil
	}
	return steps(
		func() error { return n.unroute(p) },
		func() error { return p.setPREF64(pref64) },
		func() error { return n.route(p) },
	)
}

// PLATDead makes packets to a PREF64 of this network vanish, without any
// error, or lets them live again. Without prefixes all of its PLATs are meant.
func (n *Network) PLATDead(dead bool, pref64 ...netip.Prefix) error {
	if n.options.NoPLAT {
		return errors.New("a lab without a PLAT has none to die")
	}
	n.mu.Lock()
	plats := slices.Clone(n.plats)
	n.mu.Unlock()
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
		n.mu.Lock()
		n.dead[q] = dead
		n.mu.Unlock()
		if err := errors.Join(n.Router.unroute(q), n.route(plats[i])); err != nil {
			return err
		}
	}
	return nil
}

// PREF64 returns the prefix that the first PLAT translates.
func (n *Network) PREF64() netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.plats[0].prefix()
}

// translator builds the translator for the present hosts.
func (p *plat) translator() (*siit.Translator, error) {
	return siit.New(siit.Config{
		Mapping: siit.Mapping{PREF64: p.pref64, EAM: p.hosts},
		MTU6:    p.network.options.MTU,
		MTU4:    p.network.options.MTUISP,
		// Not the router's own: the kernel drops what comes in from its own addresses.
		ICMPSource4: p.ipv4,
		ICMPSource6: Synthesize(p.pref64, p.ipv4),
	})
}

// learn gives a host of the laptop's link an address, when the translator
// refused a packet because it did not know the source.
func (p *plat) learn(packet []byte, refused siit.Result) (again bool, better siit.Reason) {
	if refused.Reason != siit.SourceOutsidePREF64 || len(packet) < 40 || packet[0]>>4 != 6 {
		return false, siit.None
	}
	host := netip.AddrFrom16([16]byte(packet[8:24]))
	if !p.network.owns(host) {
		return false, siit.None
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.hosts {
		if known.IPv6.Addr() == host {
			return true, siit.None // another queue was faster
		}
	}
	v4 := p.ipv4.Next()
	if n := len(p.hosts); n > 0 {
		v4 = p.hosts[n-1].IPv4.Addr().Next()
	}
	if !p.pool.Contains(v4.Next()) { // the last one is for broadcasts
		p.network.log().Warn("the PLAT's pool is empty", "host", host)
		return false, siit.None
	}
	// A new slice: the translator in use still has the old one.
	p.hosts = append(slices.Clone(p.hosts), siit.EAM{IPv4: netip.PrefixFrom(v4, 32), IPv6: netip.PrefixFrom(host, 128)})
	t, err := p.translator()
	if err != nil {
		p.network.log().Error("the PLAT cannot map a host", "host", host, "error", err)
		return false, siit.None
	}
	p.engine.SetTranslator(t)
	p.network.log().Info("the PLAT learned a host", "host", host, "ipv4", v4)
	return true, siit.None
}

// prefix is the PREF64 that is translated.
func (p *plat) prefix() netip.Prefix {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pref64
}

// setPREF64 translates another prefix from now on.
func (p *plat) setPREF64(pref64 netip.Prefix) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pref64 = pref64
	if p.engine == nil {
		return nil // the lab has no PLAT
	}
	t, err := p.translator()
	if err != nil {
		return fmt.Errorf("PLAT: %w", err)
	}
	p.engine.SetTranslator(t)
	return nil
}
