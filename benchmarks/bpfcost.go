package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// bpfCost is how long the BPF programs of a contestant run for a packet, all
// runs for the packet in one direction together: a program may run twice, if it
// redirects the packet to the interface that it is attached to.
type bpfCost struct {
	Row        string  `json:"row"` // of bpfRows
	Contestant string  `json:"contestant"`
	NS         measure `json:"ns"` // for a packet or super-packet: median, least, most of the rounds
	Low        measure `json:"low"`
	High       measure `json:"high"`
	Rounds     int     `json:"rounds"`

	Programs map[string]measure `json:"programs"` // the median of each by itself
}

// bpfRows are the directions that are compared, each while a load runs.
var bpfRows = []struct {
	title, load string
	out         bool // packets that leave the laptop
}{
	{"UDP, 64 bytes up", "udp/64-up", true},
	{"UDP, 64 bytes down", "udp/64-down", false},
	{"TCP data up", "tcp/1-up", true},
	{"TCP acknowledgements up", "tcp/1-down", true},
	{"TCP data down", "tcp/1-down", false},
	{"UDP with GSO up", "udp/gso-up", true},
	{"UDP with GSO down", "udp/gso-down", false},
}

// bpfOut says which programs see packets that leave the laptop; the others in it
// see packets that come.
var bpfOut = map[string]bool{
	"tun_egress": true, "uplink_egress": true, // of tnat64d
	"uplink_translate": false, "tun_translate": false,
	"nm_clat_egress_eth": true, "nm_clat_ingress_eth": false, // of NetworkManager
}

// bpfRunsMin is how often a program runs at least if the load passes it.
const bpfRunsMin = 1000

// bpfState is what programs have run and packets have passed the uplink so far.
type bpfState struct {
	programs map[ebpf.ProgramID]bpfRun
	in, out  uint64 // packets, a super-packet as one
}

func (s *stage) bpfState() (bpfState, error) {
	link, err := s.lab.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		return bpfState{}, fmt.Errorf("count the packets of %s: %w", lab.Uplink, err)
	}
	all, err := programs()
	return bpfState{all, link.Attrs().Statistics.RxPackets, link.Attrs().Statistics.TxPackets}, err
}

// Each contestant takes its turn so often, for so long: a program runs ten thousand
// times meanwhile.
const (
	bpfRounds = 3
	bpfWindow = 250 * time.Millisecond
)

// bpfGenerator is the generator with that window.
func (b *session) bpfGenerator() *generator {
	g := *b.generator
	g.win = min(g.win, bpfWindow)
	g.warm = g.win / 4
	return &g
}

// bpfContestants are those that translate in BPF programs.
func (b *session) bpfContestants() []contestant {
	var chosen []contestant
	for _, c := range b.contestants {
		switch c := c.(type) {
		case *daemon:
			if c.engine == "kernel" && !c.shared {
				chosen = append(chosen, c)
			}
		case networkManager:
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// bpfLoadIDs returns the loads of bpfRows, each once.
func bpfLoadIDs() []string {
	var ids []string
	for _, row := range bpfRows {
		if len(ids) == 0 || ids[len(ids)-1] != row.load {
			ids = append(ids, row.load)
		}
	}
	return ids
}

// compareBPF measures what the programs of each contestant cost for a packet, in
// turns. Only programs that have run for a contestant's load are its own.
func (b *session) compareBPF(ctx context.Context, find func(contestant, setup) *stage) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.note("The kernel does not count what BPF programs cost: %v.", err)
		return
	}
	defer stats.Close()
	all := make(map[string]load)
	for _, l := range loads(b.rate, true) {
		all[l.ID] = l
	}
	who, g := b.bpfContestants(), b.bpfGenerator()
	type key struct {
		row        int
		contestant string
	}
	ns := make(map[key][]map[string]float64) // by round and program
	began := time.Now()
	for round := range min(bpfRounds, b.rounds) {
		for _, id := range bpfLoadIDs() {
			for i := range who {
				c := who[(i+round)%len(who)]
				s := find(c, setup{MTU: ethernet})
				before, err := s.bpfState()
				if err == nil {
					_, err = s.try(ctx, g, all[id])
				}
				var after bpfState
				if err == nil {
					after, err = s.bpfState()
				}
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					b.note("What BPF programs cost was not compared for %s, %s: %v", c.title(), id, err)
					continue
				}
				for r, row := range bpfRows {
					if v := nsPerPacket(before, after, c, row.out); row.load == id && len(v) > 0 {
						ns[key{r, c.id()}] = append(ns[key{r, c.id()}], v)
					}
				}
			}
		}
	}
	for r, row := range bpfRows {
		for _, c := range who {
			if v := ns[key{r, c.id()}]; len(v) > 0 {
				b.results.BPFCosts = append(b.results.BPFCosts, costOf(row.title, c.id(), v))
			}
		}
	}
	b.say("comparing BPF programs took %s", time.Since(began).Round(100*time.Millisecond))
}

// costOf puts the rounds together.
func costOf(row, contestant string, rounds []map[string]float64) bpfCost {
	c := bpfCost{Row: row, Contestant: contestant, Rounds: len(rounds), Programs: make(map[string]measure)}
	var totals []float64
	each := make(map[string][]float64)
	for _, programs := range rounds {
		total := 0.0
		for name, ns := range programs {
			each[name] = append(each[name], ns)
			total += ns
		}
		totals = append(totals, total)
	}
	c.NS, c.Low, c.High = spread(totals)
	for name, ns := range each {
		c.Programs[name] = measure(median(ns))
	}
	return c
}

// nsPerPacket returns how long each program of c in one direction ran for a packet of
// that direction. Of several programs with a name it takes the one that ran most, as
// other labs may be on the machine.
func nsPerPacket(before, after bpfState, c contestant, out bool) map[string]float64 {
	_, networkManagers := c.(networkManager)
	packets := after.in - before.in
	if out {
		packets = after.out - before.out
	}
	most := make(map[string]uint64)
	ns := make(map[string]float64)
	for id, run := range after.programs {
		was, ok := before.programs[id]
		if direction, known := bpfOut[run.name]; !ok || !known || direction != out || strings.HasPrefix(run.name, "nm_") != networkManagers {
			continue
		}
		if runs := run.runs - was.runs; packets > 0 && runs >= max(bpfRunsMin, most[run.name]) {
			most[run.name] = runs
			ns[run.name] = float64((run.time - was.time).Nanoseconds()) / float64(packets)
		}
	}
	return ns
}
