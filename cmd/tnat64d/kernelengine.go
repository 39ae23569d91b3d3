package main

import (
	"tnat64d/clat/engine"
	"tnat64d/clat/steer"
	"tnat64d/cmd/internal/config"
	"tnat64d/siit"
)

// Translate makes the kernel engine translate the simple packets of c, where
// there is such an engine and it can do what c asks for.
func (s *steering) Translate(c siit.Config) error {
	t, why := s.path.kernelTranslation(s.Steering, c)
	s.path.info.Engine = "kernel"
	if t == nil {
		s.path.info.Engine = "user (" + why + ")"
		if s.KernelEngine() != nil {
			return nil
		}
	}
	return s.SetTranslation(t)
}

// kernelTranslation returns what the kernel engine should do, or nil and why
// everything is left to user space.
func (d *datapath) kernelTranslation(s *steer.Steering, c siit.Config) (t *steer.Translation, why string) {
	switch refused := s.KernelEngine(); {
	case d.engine == config.EngineUser:
		return nil, "as configured"
	case refused != nil:
		return nil, refused.Error()
	case len(c.Mapping.EAM) > 0:
		return nil, "explicit address mappings are configured"
	case c.IgnoreTOS:
		return nil, "TOS is not to be copied"
	}
	lowest := c.LowestIPv6MTU
	if lowest == 0 {
		lowest = 1280 // siit's default
	}
	return &steer.Translation{
		IPv4: c.Mapping.CLAT.IPv4, IPv6: c.Mapping.CLAT.IPv6, PREF64: c.Mapping.PREF64,
		MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: lowest, DropWKPPrivate: c.DropWKPPrivate,
	}, ""
}

// stats is what both engines have counted.
type stats struct {
	user   engine.Stats
	kernel kernelStats
}

// kernelStats are the kernel engine's counters in both directions.
type kernelStats struct{ to6, to4 directionStats }

type directionStats struct {
	packets, bytes uint64
	declined       [steer.NumDeclined]uint64 // left to user space
}

// kernelStatsOf reads the counters; what cannot be read counts as nothing.
func kernelStatsOf(s *steer.Steering) kernelStats {
	c, err := s.EngineCounters()
	if err != nil {
		return kernelStats{}
	}
	return kernelStats{to6: direction(c.To6), to4: direction(c.To4)}
}

func direction(c steer.DirectionCounters) directionStats {
	return directionStats{
		packets:  c.TCP.Packets + c.UDP.Packets + c.Echo.Packets,
		bytes:    c.TCP.Bytes + c.UDP.Bytes + c.Echo.Bytes,
		declined: c.Declined,
	}
}

func (k kernelStats) add(o kernelStats) kernelStats {
	return kernelStats{to6: k.to6.add(o.to6), to4: k.to4.add(o.to4)}
}

func (d directionStats) add(o directionStats) directionStats {
	d.packets += o.packets
	d.bytes += o.bytes
	for i := range d.declined {
		d.declined[i] += o.declined[i]
	}
	return d
}

// Stats returns what all engines have counted since the start.
func (d *datapath) Stats() stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := stats{user: d.past, kernel: d.before}
	if d.cur != nil {
		s.user = s.user.Add(d.cur.Stats())
	}
	if d.kernel != nil {
		s.kernel = s.kernel.add(kernelStatsOf(d.kernel))
	}
	return s
}
