package datapath

import (
	"net/netip"

	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
)

// bpfSteering steers by BPF programs.
type bpfSteering struct {
	*steer.Steering
	router netip.Addr // what SetRouter was given
}

func (b *bpfSteering) takesHop() bool { return false }

func (b *bpfSteering) follow(r routesToPLAT) error {
	if err := b.SetRoutes(r.inside); err != nil {
		return err
	}
	router, err := r.router()
	if err != nil || router == b.router {
		return err
	}
	if err := b.SetRouter(router); err != nil {
		return err
	}
	b.router = router
	return nil
}

func (b *bpfSteering) stats() Stats { return bpfStats(&b.Engine) }

// bpfStats returns what the programs have counted. What cannot be read counts as
// nothing.
func bpfStats(e *steer.Engine) (s Stats) {
	if c, err := e.EngineCounters(); err == nil {
		s.Kernel = KernelStats{To6: direction(c.To6), To4: direction(c.To4)}
	}
	if c, err := e.Counters(); err == nil {
		s.Dropped = c.Dropped
	}
	return s
}

func direction(c steer.DirectionCounters) (d KernelDirection) {
	d.Translated[engine.TCP] = engine.Traffic(c.TCP)
	d.Translated[engine.UDP] = engine.Traffic(c.UDP)
	d.Translated[engine.ICMP] = engine.Traffic(c.Echo)
	d.Declined = c.Declined
	return d
}
