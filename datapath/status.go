package datapath

import (
	"net/netip"
	"slices"

	"tnat64d/datapath/steer"
)

// Status describes a Path.
type Status struct {
	Engine    string        // "kernel" or "user": who translates simple packets
	EngineWhy string        // why not the kernel
	Steering  string        // "tcx", "clsact" or "nftables" with details; empty: there is none
	Queues    int           // of the TUN
	Offloads  string        // of the TUN
	Routes    []steer.Route // of the host inside PREF64
	Next      netip.Addr    // see [Steering.SetNext]; invalid: none
}

// Status returns the present state.
func (p *Path) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Engine: p.chosen.by, EngineWhy: p.chosen.why,
		Queues: len(p.device.Queues), Offloads: p.device.Offloads.String(),
		Routes: slices.Clone(p.routes.all),
	}
	if p.steering != nil {
		s.Steering = p.steering.by.Attached()
		if p.steering.kernel != nil {
			s.Next = p.steering.kernel.Next().Addr
		}
	}
	if p.gateway != nil {
		s.Steering = p.gateway.kernel.Attached()
	}
	return s
}
