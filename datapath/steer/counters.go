package steer

import "github.com/cilium/ebpf"

// Counters count packets since New, by result. A super-packet counts once.
type Counters struct {
	SteeredIn    uint64 // from the uplink to user space
	LeftToKernel uint64 // neighbour discovery and MLD for one of our addresses
	SteeredOut   uint64 // from user space towards the uplink, where the neighbour must still be found
	OtherPort    uint64 // flows on a shared address that were given another port on the wire
	Dropped      [NumDrops]uint64
}

// Counters returns the sum over all CPUs. The packets of one moment may be
// counted in part.
func (e *Engine) Counters() (Counters, error) {
	return readCounters(e.objects.Counts)
}

// countersOf reads the counters of each CPU.
func countersOf(counts *ebpf.Map) (cpus []bpfCounters, err error) {
	if err := counts.Lookup(uint32(0), &cpus); err != nil {
		return nil, &Error{"read the counters", err}
	}
	return cpus, nil
}

func readCounters(counts *ebpf.Map) (Counters, error) {
	cpus, err := countersOf(counts)
	if err != nil {
		return Counters{}, err
	}
	var sum Counters
	for _, c := range cpus {
		sum.SteeredIn += c.SteeredIn
		sum.LeftToKernel += c.LeftToKernel
		sum.SteeredOut += c.SteeredOut
		sum.Dropped[ForeignSource] += c.ForeignSource
		sum.Dropped[UntranslatedIPv4] += c.UntranslatedIpv4
		sum.Dropped[BoundSource] += c.BoundSource
		sum.Dropped[StrayIPv4] += c.StrayIpv4
		sum.Dropped[UnicastToMany] += c.UnicastToMany
		sum.Dropped[NoMemory] += c.Failed
		sum.Dropped[RejectedRoute] += c.Rejected
		sum.Dropped[NoPort] += c.NoPort
		sum.Dropped[FragmentBacklog] += c.FragmentBacklog
		sum.OtherPort += c.OtherPort
	}
	return sum, nil
}
