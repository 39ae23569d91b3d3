package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// bpfProgram is what the kernel counted of a BPF program of tnat64d while a
// load ran (BPF_ENABLE_STATS).
type bpfProgram struct {
	Engine       string  `json:"engine"`
	Load         string  `json:"load"`
	Name         string  `json:"name"`
	Runs         float64 `json:"runs"` // per datagram or MB of payload
	Per          string  `json:"per"`
	NSPerRun     float64 `json:"ns_per_run"`
	Instructions int     `json:"instructions"` // the program is long, of which a packet takes a path
	MachineCode  int     `json:"machine_code"` // bytes after compilation
}

// bpfLoads are one small datagram after the other, and whole super-packets.
func bpfLoads(rate int) []load {
	var chosen []load
	for _, l := range loads(rate, true) {
		switch l.ID {
		case "udp/64-fixed", "tcp/1-up", "tcp/1-down":
			chosen = append(chosen, l)
		}
	}
	return chosen
}

// countPrograms measures what the BPF programs of tnat64d cost for each packet.
// It is done apart from the rounds, as counting costs something too.
func (b *session) countPrograms(ctx context.Context, find func(contestant, setup) *stage) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.note("The kernel does not count what BPF programs cost: %v.", err)
		return
	}
	defer stats.Close()
	for _, c := range b.contestants {
		d, ok := c.(*daemon)
		if !ok {
			continue
		}
		for _, l := range bpfLoads(b.rate) {
			s := find(c, setup{MTU: ethernet})
			before, err := programs()
			var r sample
			if err == nil {
				r, err = s.try(ctx, b.generator, l)
			}
			var after map[ebpf.ProgramID]bpfRun
			if err == nil {
				after, err = programs()
			}
			if err != nil {
				b.note("What BPF programs cost was not counted for %s, %s: %v", c.title(), l.ID, err)
				continue
			}
			for id, run := range after {
				was, ok := before[id]
				runs := run.runs - was.runs
				if !ok || runs < 100 || r.Value == 0 {
					continue // of another contestant, or nothing to compare with
				}
				seconds := run.at.Sub(was.at).Seconds()
				p := bpfProgram{Engine: d.engine, Load: l.ID, Name: run.name, Instructions: run.instructions, MachineCode: run.machineCode,
					NSPerRun: float64((run.time - was.time).Nanoseconds()) / float64(runs)}
				// The programs ran for longer than was counted: rates are compared.
				p.Runs, p.Per = float64(runs)/seconds/(float64(r.Units)/r.Seconds), "datagram"
				if l.Unit.Bytes {
					p.Runs, p.Per = float64(runs)/seconds/(float64(r.Bytes)/1e6/r.Seconds), "MB"
				}
				b.results.Programs = append(b.results.Programs, p)
			}
		}
	}
}

type bpfRun struct {
	name         string
	runs         uint64
	time         time.Duration
	at           time.Time
	instructions int
	machineCode  int
}

// programs returns what each BPF program of the machine has done so far.
func programs() (map[ebpf.ProgramID]bpfRun, error) {
	all := make(map[ebpf.ProgramID]bpfRun)
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list BPF programs: %w", err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it has just gone
		}
		run, err := runOf(p)
		err = errors.Join(err, p.Close())
		if err != nil {
			return nil, err
		}
		all[id] = run
	}
}

func runOf(p *ebpf.Program) (bpfRun, error) {
	stats, err := p.Stats()
	if err != nil {
		return bpfRun{}, err
	}
	info, err := p.Info()
	if err != nil {
		return bpfRun{}, err
	}
	r := bpfRun{name: info.Name, runs: stats.RunCount, time: stats.Runtime, at: time.Now()}
	if n, err := info.TranslatedSize(); err == nil {
		r.instructions = n / 8
	}
	if n, err := info.JitedSize(); err == nil {
		r.machineCode = int(n)
	}
	return r, nil
}
