package steer

import (
	"errors"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Flows are the flows on a shared address, by table.
type Flows struct {
	Tables    [NumFlowTables]FlowCounts
	Recovered uint64 // flows since New that were in no table and were found again by the IPv4 socket of this host
}

// FlowCounts counts the flows of a table.
type FlowCounts struct {
	Now       int    // that are remembered and have not expired
	OtherPort int    // of those: another port on the wire than that of the socket
	Evicted   uint64 // entries since New that a full table has given up for newer ones, at least
}

// FlowTable is one of the tables of flows.
type FlowTable uint8

const (
	EstablishedFlows FlowTable = iota // of the translator; both sides have sent
	NewFlows                          // of the translator; the others
	HostFlows                         // of the host's own IPv6 sockets; two maps

	// NumFlowTables is the number of tables.
	NumFlowTables
)

// String returns "established", "new" or "host".
func (t FlowTable) String() string {
	return [NumFlowTables]string{"established", "new", "host"}[t]
}

// Add returns the sum of both.
func (f Flows) Add(o Flows) Flows {
	for i, c := range o.Tables {
		f.Tables[i].Now += c.Now
		f.Tables[i].OtherPort += c.OtherPort
		f.Tables[i].Evicted += c.Evicted
	}
	f.Recovered += o.Recovered
	return f
}

// Ended returns what is left when the tables are gone: the counts since New.
func (f Flows) Ended() Flows {
	for i := range f.Tables {
		f.Tables[i].Now, f.Tables[i].OtherPort = 0, 0
	}
	return f
}

// evictions remembers how many entries the tables have evicted.
type evictions struct {
	mu   sync.Mutex
	most [NumFlowTables]uint64
	put  [NumFlowTables]uint64 // entries that user space has added
}

// Flows counts the flows on the shared address. It reads the tables, which takes
// some 0.1 s when all are full.
func (s *Steering) Flows() (f Flows, err error) {
	if !s.sharing {
		return f, nil
	}
	before, err := flowChanges(s.objects.Counts)
	if err != nil {
		return f, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return f, &Error{"read the clock", err}
	}
	var present [NumFlowTables]uint64
	for _, of := range []struct {
		is    FlowTable
		table *ebpf.Map
	}{
		{EstablishedFlows, s.objects.EstablishedFlows},
		{NewFlows, s.objects.NewFlows},
		{HostFlows, s.objects.MovedFlows},
		{HostFlows, s.objects.HostFlows},
	} {
		entries, err := countFlows(of.table, &f.Tables[of.is], now.Nano())
		if err != nil {
			return f, &Error{"read the table of " + of.is.String() + " flows", err}
		}
		present[of.is] += entries
	}
	after, err := flowChanges(s.objects.Counts)
	if err != nil {
		return f, err
	}
	f.Recovered = after.recovered
	e := &s.evicted
	e.mu.Lock()
	defer e.mu.Unlock()
	for t := range f.Tables {
		// What was added before the table was read, and is neither there nor was
		// deleted until afterwards.
		gone := int64(e.put[t] + before.added[t] - after.deleted[t] - present[t])
		e.most[t] = max(e.most[t], uint64(max(gone, 0)))
		f.Tables[t].Evicted = e.most[t]
	}
	return f, nil
}

// changes counts the entries that programs have added and deleted.
type changes struct {
	added, deleted [NumFlowTables]uint64
	recovered      uint64
}

func flowChanges(counts *ebpf.Map) (sum changes, err error) {
	cpus, err := countersOf(counts)
	if err != nil {
		return sum, err
	}
	for _, c := range cpus {
		sum.added[EstablishedFlows] += c.EstablishedFlowsAdded
		sum.deleted[EstablishedFlows] += c.EstablishedFlowsDeleted
		sum.added[NewFlows] += c.NewFlowsAdded
		sum.deleted[NewFlows] += c.NewFlowsDeleted
		sum.added[HostFlows] += c.HostFlowsAdded + c.MovedFlowsAdded
		sum.deleted[HostFlows] += c.HostFlowsDeleted + c.MovedFlowsDeleted
		sum.recovered += c.Recovered
	}
	return sum, nil
}

// countFlows reads a table and adds its flows to f. present counts its entries,
// expired ones too, of which a flow with another port has two.
func countFlows(table *ebpf.Map, f *FlowCounts, now int64) (present uint64, err error) {
	const batch = 2048
	keys, values := make([]bpfFlowKey, batch), make([]bpfFlow, batch)
	var at ebpf.MapBatchCursor
	for {
		n, err := table.BatchLookup(&at, keys, values, nil)
		for i := range n {
			present++
			if now-int64(values[i].Seen) > lifetime(keys[i], values[i]) {
				continue
			}
			switch keys[i].Ports >> 8 & 0xff {
			case portOnWire:
				f.Now++
			case portOfSocket:
				f.OtherPort++
			}
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist): // the end
			return present, nil
		case err != nil:
			return present, err
		}
	}
}

// lifetime is lifetime of bpf/flow.h, in ns.
func lifetime(k bpfFlowKey, f bpfFlow) int64 {
	const second = 1e9
	switch uint8(k.Ports) {
	case unix.IPPROTO_TCP:
		if uint32(f.State) == flowReplied {
			return 432000 * second
		}
		return 120 * second
	case unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE:
		return 180 * second
	case unix.IPPROTO_ICMPV6:
		return 60 * second
	}
	return 600 * second
}
