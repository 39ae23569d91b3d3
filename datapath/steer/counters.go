package steer

import "github.com/cilium/ebpf"

// Counters are packets since New, by what became of them. A super-packet
// counts once.
type Counters struct {
	SteeredIn     uint64 // from the uplink to user space
	LeftToKernel  uint64 // neighbour discovery and MLD for one of our addresses
	SteeredOut    uint64 // from user space towards the uplink, where the neighbour must still be found
	ForeignSource uint64 // dropped: IPv6 from user space with a source that is not ours
	LeakedIPv4    uint64 // dropped: IPv4 from 192.0.0.0/29 on its way out of the uplink
	Failed        uint64 // dropped: the kernel had no memory to change the link header
}

// Counters returns the sum over all CPUs. The packets of one moment may be
// counted in part.
func (s *Steering) Counters() (Counters, error) {
	return readCounters(s.objects.Counts)
}

func readCounters(counts *ebpf.Map) (Counters, error) {
	var cpus []bpfCounters
	if err := counts.Lookup(uint32(0), &cpus); err != nil {
		return Counters{}, &Error{"read the counters", err}
	}
	var sum Counters
	for _, c := range cpus {
		sum.SteeredIn += c.SteeredIn
		sum.LeftToKernel += c.LeftToKernel
		sum.SteeredOut += c.SteeredOut
		sum.ForeignSource += c.ForeignSource
		sum.LeakedIPv4 += c.LeakedIpv4
		sum.Failed += c.Failed
	}
	return sum, nil
}
