package datapath

import (
	"errors"
	"net/netip"
	"time"

	"tnat64d/datapath/steer"
)

// Gateway is the kernel engine of a Path that translates for the hosts of a
// network ([siit.Mapping.Hosts]). It translates the packets of the hosts that Put
// has named, and user space those of others. It is in force until Close, unless
// another program removes a part of it.
//
// Put, Remove and Seen are for the owner of the table of hosts, who calls one at a
// time. They may be called at any time before Close.
type Gateway struct {
	path   *Path
	kernel *steer.Gateway
	warned time.Time // that a host is missing
}

// AttachGateway begins to translate in the kernel what the host forwards to the
// TUN; hosts is how many there can be. It returns nil where user space translates
// everything: as configured, or because the kernel refuses the programs, which is
// an [*EngineRefused] with [EngineKernel]. A Path has either a Gateway or a
// [Steering].
func (p *Path) AttachGateway(hosts int) (*Gateway, error) {
	k, why, err := p.options.newGateway(steer.GatewayConfig{TUN: p.device.Index, Queues: len(p.device.Queues), Hosts: hosts})
	if err != nil {
		return nil, err
	}
	if k == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.chosen = choice{by: "user", why: why}
		return nil, nil
	}
	if err := p.order.keep(&k.Engine); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	g := &Gateway{path: p, kernel: k}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gateway, p.pauses.broken = g, nil
	return g, p.applyMapping()
}

// newGateway returns the kernel engine of a gateway, or nil and why user space
// translates.
func (o Options) newGateway(c steer.GatewayConfig) (k *steer.Gateway, why string, err error) {
	if o.Engine == EngineUser {
		return nil, "as configured", nil
	}
	k, err = steer.NewGateway(c)
	if refused := (*steer.Error)(nil); errors.As(err, &refused) && refused.Refused() {
		if o.Engine == EngineKernel {
			return nil, "", &EngineRefused{err}
		}
		return nil, "BPF is refused: " + refused.Reason(), nil
	}
	return k, "", err
}

// Put enters a host. If that fails, user space translates for it.
func (g *Gateway) Put(ipv4, ipv6 netip.Addr) {
	err := g.kernel.Put(ipv4, ipv6)
	if err == nil {
		return
	}
	if now := time.Now(); now.Sub(g.warned) > time.Minute {
		g.warned = now
		g.path.options.Log.Warn("the kernel engine has no room for a host, user space translates for it", "client", ipv6, "reason", err)
	}
}

// Remove removes a host: when it returns, the kernel engine has forgotten it. If
// that fails, the kernel engine translates nothing any more.
func (g *Gateway) Remove(ipv4, ipv6 netip.Addr) {
	err := g.kernel.Remove(ipv4, ipv6)
	if err == nil {
		return
	}
	p := g.path
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses.broken = err
	err = errors.Join(err, p.applyMapping())
	p.options.Log.Error("the kernel engine is off: it cannot be told that a host has no address any more", "client", ipv6, "reason", err)
}

// Seen returns a number that changes when the kernel engine translates packets
// from the host, at least 640 ms apart; 0: it has translated none yet, or cannot
// tell.
func (g *Gateway) Seen(ipv6 netip.Addr) uint64 {
	n, err := g.kernel.Seen(ipv6)
	if err != nil {
		return 0
	}
	return n
}

// Intact reports whether no other program has removed a part of it.
func (g *Gateway) Intact() bool { return g.kernel.Intact() }

// Close leaves everything to user space. The counts stay with the Path.
func (g *Gateway) Close() error {
	p := g.path
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gateway != g {
		return nil
	}
	p.past = p.past.Add(bpfStats(&g.kernel.Engine))
	p.gateway, p.chosen = nil, choice{by: "user"}
	return g.kernel.Close()
}
