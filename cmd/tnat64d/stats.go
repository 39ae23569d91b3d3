package main

import (
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
)

// stats is what both engines have counted.
type stats struct {
	user    engine.Stats
	kernel  kernelStats
	dropped drops // by the steering programs and the guards
}

type drops [steer.NumDrops]uint64

func (d drops) add(o drops) drops {
	for why, n := range o {
		d[why] += n
	}
	return d
}

func (s stats) add(o stats) stats {
	return stats{user: s.user.Add(o.user), kernel: s.kernel.add(o.kernel), dropped: s.dropped.add(o.dropped)}
}

// flow is what platWatch wants to know: packets out, and packets in that are
// answers of somebody beyond the PLAT.
func (s stats) flow() flow {
	errors := s.user.To4[engine.ICMPError]
	return flow{
		out: s.user.To6.Total().Packets + s.kernel.to6.total().Packets,
		in:  s.user.To4.Total().Packets - errors.Packets + s.kernel.to4.total().Packets,
	}
}

// kernelStats are the kernel engine's counters in both directions.
type kernelStats struct{ to6, to4 directionStats }

type directionStats struct {
	translated engine.Translated
	declined   [steer.NumDeclined]uint64 // left to user space
}

// statsOf reads the counters of the programs in the kernel; what cannot be
// read counts as nothing.
func statsOf(programs *steer.Steering) (s stats) {
	if c, err := programs.EngineCounters(); err == nil {
		s.kernel = kernelStats{to6: direction(c.To6), to4: direction(c.To4)}
	}
	if c, err := programs.Counters(); err == nil {
		s.dropped = c.Dropped
	}
	return s
}

func direction(c steer.DirectionCounters) (d directionStats) {
	d.translated[engine.TCP] = engine.Traffic(c.TCP)
	d.translated[engine.UDP] = engine.Traffic(c.UDP)
	d.translated[engine.ICMP] = engine.Traffic(c.Echo)
	d.declined = c.Declined
	return d
}

func (k kernelStats) add(o kernelStats) kernelStats {
	return kernelStats{to6: k.to6.add(o.to6), to4: k.to4.add(o.to4)}
}

func (d directionStats) total() engine.Traffic { return d.translated.Total() }

func (d directionStats) add(o directionStats) directionStats {
	for p := range d.translated {
		d.translated[p].Packets += o.translated[p].Packets
		d.translated[p].Bytes += o.translated[p].Bytes
	}
	for i := range d.declined {
		d.declined[i] += o.declined[i]
	}
	return d
}
