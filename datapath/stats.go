package datapath

import (
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
)

// Stats are the counts of a Path since Open.
type Stats struct {
	User    engine.Stats
	Kernel  KernelStats
	Dropped Drops // by steering and guards
}

// Drops counts packets by [steer.Drop].
type Drops [steer.NumDrops]uint64

// KernelStats are the kernel engine's counts: IPv4 to IPv6, and back.
type KernelStats struct{ To6, To4 KernelDirection }

// KernelDirection counts the packets of one direction.
type KernelDirection struct {
	Translated engine.Translated
	Declined   [steer.NumDeclined]uint64 // left to user space
}

// Stats returns the counts, of closed steerings too. It may be called after
// Close.
func (p *Path) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.past
	if p.user != nil {
		s.User = s.User.Add(p.user.Stats())
	}
	if p.steering != nil {
		s = s.Add(p.steering.by.stats())
	}
	if p.gateway != nil {
		s = s.Add(bpfStats(&p.gateway.kernel.Engine))
	}
	return s
}

// Flows counts the flows on an address that is shared with the host: those of now,
// and those evicted or recovered since Open. What cannot be read counts as nothing.
func (p *Path) Flows() steer.Flows {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pastFlows.Add(p.steering.flows())
}

// flows is Flows for one steering, which may be nil.
func (s *Steering) flows() steer.Flows {
	if s == nil || s.kernel == nil {
		return steer.Flows{}
	}
	f, err := s.kernel.Flows()
	if err != nil {
		return steer.Flows{}
	}
	return f
}

// Add returns the sum of both.
func (s Stats) Add(o Stats) Stats {
	return Stats{User: s.User.Add(o.User), Kernel: s.Kernel.add(o.Kernel), Dropped: s.Dropped.Add(o.Dropped)}
}

// Add returns the sum of both.
func (d Drops) Add(o Drops) Drops {
	for why, n := range o {
		d[why] += n
	}
	return d
}

func (k KernelStats) add(o KernelStats) KernelStats {
	return KernelStats{To6: k.To6.add(o.To6), To4: k.To4.add(o.To4)}
}

// Total returns the sum over all protocols of what was translated.
func (d KernelDirection) Total() engine.Traffic { return d.Translated.Total() }

func (d KernelDirection) add(o KernelDirection) KernelDirection {
	for p := range d.Translated {
		d.Translated[p].Packets += o.Translated[p].Packets
		d.Translated[p].Bytes += o.Translated[p].Bytes
	}
	for i := range d.Declined {
		d.Declined[i] += o.Declined[i]
	}
	return d
}
