package lab

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"tnat64d/clat/engine"
	"tnat64d/siit"
	"tnat64d/tun"
)

// plat is the router's NAT64: the translator of the project with the mapping
// of a gateway. Each IPv6 host gets an IPv4 address of the pool for itself
// when its first packet comes, so that nothing but addresses needs to change:
// any protocol passes, fragments and ICMP errors both ways included.
type plat struct {
	log        *slog.Logger
	mtu6, mtu4 int // of the links on its two sides
	engine     *engine.Engine

	mu     sync.Mutex
	pref64 netip.Prefix
	hosts  []siit.EAM // in the order of Pool
}

// maxHosts is the size of the pool without network, PLAT and broadcast address.
const maxHosts = 253

// platQueue is how many packets may wait for the PLAT. A TUN's 500 are too few
// for the handshakes of 2,000 connections at once, and what the PLAT loses looks
// as if the CLAT had lost it.
const platQueue = 10000

// startPLAT makes the TUN and translates until running ends.
func (l *Lab) startPLAT(running context.Context) error {
	l.plat = &plat{log: l.options.Log, mtu6: l.options.MTU, mtu4: l.options.MTUISP, pref64: l.pref64}
	if l.options.NoPLAT {
		return l.wireWithoutPLAT()
	}
	var device *tun.Device
	err := l.Router.Do(func() (err error) {
		device, err = tun.Open(TUN, 1)
		return err
	})
	if err != nil {
		return fmt.Errorf("PLAT: %w", err)
	}
	t, err := l.plat.translator()
	if err != nil {
		device.Close()
		return fmt.Errorf("PLAT: %w", err)
	}
	var queues []engine.Queue
	for _, q := range device.Queues {
		queues = append(queues, q)
	}
	l.plat.engine = engine.New(engine.Options{
		Queues:              queues,
		Translator:          t,
		ICMPErrorsPerSecond: 10000, // traceroute in a test is not to wait
		OnRefused:           l.plat.learn,
	})
	l.running.Go(func() {
		if err := l.plat.engine.Run(running); err != nil {
			l.options.Log.Error("PLAT stopped", "error", err)
		}
	})
	// The TUN takes packets of any size: it is the translator that knows the
	// MTU beyond and fragments, or answers Packet Too Big.
	return steps(
		func() error { return l.Router.SetMTU(TUN, 65535) },
		func() error { return l.Router.setQueueLength(TUN, platQueue) },
		func() error { return l.Router.up(TUN) },
		func() error { return l.Router.route(Pool, TUN, netip.Addr{}) },
	)
}

// translator builds the translator for the present hosts.
func (p *plat) translator() (*siit.Translator, error) {
	return siit.New(siit.Config{
		Mapping: siit.Mapping{PREF64: p.pref64, EAM: p.hosts},
		MTU6:    p.mtu6,
		MTU4:    p.mtu4,
		// Not the router's own: the kernel drops what comes in from its own addresses.
		ICMPSource4: PLATIPv4,
		ICMPSource6: Synthesize(p.pref64, PLATIPv4),
	})
}

// learn gives a host of the laptop's link an address, when the translator
// refused a packet because it did not know the source.
func (p *plat) learn(packet []byte, refused siit.Result) (again bool) {
	if refused.Reason != siit.SourceOutsidePREF64 || len(packet) < 40 || packet[0]>>4 != 6 {
		return false
	}
	host := netip.AddrFrom16([16]byte(packet[8:24]))
	if !LaptopLink.Contains(host) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.hosts {
		if known.IPv6.Addr() == host {
			return true // another queue was faster
		}
	}
	if len(p.hosts) == maxHosts {
		p.log.Warn("the PLAT's pool is empty", "host", host)
		return false
	}
	v4 := PLATIPv4.Next()
	if n := len(p.hosts); n > 0 {
		v4 = p.hosts[n-1].IPv4.Addr().Next()
	}
	// A new slice: the translator in use still has the old one.
	p.hosts = append(slices.Clone(p.hosts), siit.EAM{IPv4: netip.PrefixFrom(v4, 32), IPv6: netip.PrefixFrom(host, 128)})
	t, err := p.translator()
	if err != nil {
		p.log.Error("the PLAT cannot map a host", "host", host, "error", err)
		return false
	}
	p.engine.SetTranslator(t)
	p.log.Info("the PLAT learned a host", "host", host, "ipv4", v4)
	return true
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
