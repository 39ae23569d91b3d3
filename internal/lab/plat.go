package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"tnat64d/datapath/engine"
	"tnat64d/siit"
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
		p.network.options.Log.Warn("the PLAT's pool is empty", "host", host)
		return false, siit.None
	}
	// A new slice: the translator in use still has the old one.
	p.hosts = append(slices.Clone(p.hosts), siit.EAM{IPv4: netip.PrefixFrom(v4, 32), IPv6: netip.PrefixFrom(host, 128)})
	t, err := p.translator()
	if err != nil {
		p.network.options.Log.Error("the PLAT cannot map a host", "host", host, "reason", err)
		return false, siit.None
	}
	p.engine.SetTranslator(t)
	p.network.options.Log.Info("the PLAT learned a host", "host", host, "ipv4", v4)
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
