package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"tnat64d/internal/lab"
)

//go:embed programs/*.c
var sources embed.FS

// generator puts loads on stages: it runs programs/load.c on the laptop and on
// the server, and counts.
type generator struct {
	path string        // of the load program
	warm time.Duration // before what is counted
	win  time.Duration // what is counted

	patience time.Duration // for a server to listen, a connection, a first packet
	pmu      *pmu
	port     int // the last that was used; every measurement has its own
}

// compile builds a program of programs/ into dir.
func compile(ctx context.Context, dir, source, name string, flags ...string) (string, error) {
	text, err := sources.ReadFile("programs/" + source)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, source)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := append([]string{"-O2", "-pthread", "-o", path}, flags...)
	if out, err := tool(ctx, dir, "gcc", append(args, file)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc %s: %w\n%s(Debian: apt-get install gcc libc6-dev)", source, err, out)
	}
	return path, nil
}

// sample is one measurement.
type sample struct {
	Load       string  `json:"load"`
	Contestant string  `json:"contestant"`
	Round      int     `json:"round"`
	Seconds    float64 `json:"seconds"`
	Units      uint64  `json:"units"` // datagrams, round trips or connections
	Bytes      uint64  `json:"bytes"` // of payload
	Value      float64 `json:"value"` // per second, in bits or units

	Sent    uint64  `json:"sent,omitempty"`    // datagrams, at a fixed rate or as many as possible
	Refused uint64  `json:"refused,omitempty"` // that the kernel did not take, or answers that did not come
	Loss    float64 `json:"loss,omitempty"`    // share of Sent that did not arrive

	MachineCPU    float64 `json:"machine_cpu_s"`              // of all CPUs, both ends included
	TranslatorCPU float64 `json:"translator_cpu_s,omitempty"` // of the translator's process
	StolenCPU     float64 `json:"stolen_cpu_s,omitempty"`     // by other virtual machines
	Instructions  uint64  `json:"instructions,omitempty"`     // of all CPUs, with a PMU
	RSS           int64   `json:"rss,omitempty"`              // of the translator, at the end

	Median float64 `json:"median_us,omitempty"` // time of an answer, microseconds
	P99    float64 `json:"p99_us,omitempty"`
	OpenMS float64 `json:"open_ms,omitempty"` // until all connections were open
}

// program is a load program that runs.
type program struct {
	page   *page
	cmd    *lab.Cmd
	output tail
	exited chan struct{}
}

// start runs one end of a load on a host.
func (g *generator) start(ctx context.Context, h *lab.Host, wrapper, env []string, args ...string) (*program, error) {
	page, file, err := newPage()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	line := append(append(append([]string(nil), wrapper...), g.path), args...)
	p := &program{page: page, cmd: h.Command(ctx, line[0], line[1:]...), exited: make(chan struct{})}
	p.cmd.ExtraFiles = []*os.File{file}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if env != nil {
		p.cmd.Env = append(os.Environ(), env...)
	}
	if err := p.cmd.Start(); err != nil {
		freePage(page)
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// end kills the program and frees its memory.
func (p *program) end() {
	p.cmd.Process.Kill()
	<-p.exited
	freePage(p.page)
}

// errLoad is a load that did not work, for a reason that the program named.
var errLoad = errors.New("load program")

// wait waits until ok, and gives up when a program or the translator ends, or
// when it takes too long.
func wait(ctx context.Context, d time.Duration, what string, s *service, programs []*program, ok func() bool) error {
	deadline := time.Now().Add(d)
	for !ok() {
		for _, p := range programs {
			select {
			case <-p.exited:
				return fmt.Errorf("%w: %s", errLoad, p.output.String())
			default:
			}
		}
		if s.ended() {
			return errTranslatorEnded
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s within %s", what, d)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

var errTranslatorEnded = errors.New("the translator ended")

// ended reports whether the contestant's process is gone.
func (s *service) ended() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false // a nil channel too: there is no process
	}
}

// pause waits for d, unless something ends before.
func pause(ctx context.Context, d time.Duration, s *service, programs []*program) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.exited:
		return errTranslatorEnded
	case <-programs[0].exited:
		return fmt.Errorf("%w: %s", errLoad, programs[0].output.String())
	case <-programs[1].exited:
		return fmt.Errorf("%w: %s", errLoad, programs[1].output.String())
	}
}

// measure puts a load on a contestant once.
func (g *generator) measure(ctx context.Context, st *stage, ld load) (sample, error) {
	l, s := st.lab, st.service
	if s.ended() {
		return sample{}, errTranslatorEnded
	}
	g.port = 7100 + (g.port-7100+1)%20000
	common := append(append([]string(nil), ld.Args...), "port="+strconv.Itoa(g.port))
	serverArgs := append([]string{"server"}, common...)
	if !st.plat && !s.ipv4 { // else it is reached by IPv4
		serverArgs = append(serverArgs, "bind="+lab.Synthesize(l.PREF64(), lab.ServerIPv4).String())
	}
	server, err := g.start(ctx, l.Server, nil, nil, serverArgs...)
	if err != nil {
		return sample{}, err
	}
	defer server.end()
	programs := []*program{server}
	if err := wait(ctx, g.patience, "the server did not listen", s, programs, func() bool { return server.page.state.Load() >= listening }); err != nil {
		return sample{}, err
	}
	client, err := g.start(ctx, l.Laptop, s.wrapper, s.env, append([]string{"client"}, append(common, "addr="+s.target.String())...)...)
	if err != nil {
		return sample{}, err
	}
	defer client.end()
	programs = append(programs, client)
	receiver, sender := server, client
	if ld.Down || ld.latency() {
		receiver, sender = client, server
	}
	if err := wait(ctx, g.patience, "the client got no connection", s, programs, func() bool { return client.page.state.Load() == running }); err != nil {
		return sample{}, err
	}
	arrived := func(c *counts) uint64 { return c.units + c.bytes }
	if err := wait(ctx, g.patience, "nothing arrived", s, programs, func() bool { return arrived(receiver.page.counts()) > 0 }); err != nil {
		return sample{}, err
	}
	if err := pause(ctx, g.warm, s, programs); err != nil {
		return sample{}, err
	}

	before, err := read(s.pid, g.pmu)
	if err != nil {
		return sample{}, err
	}
	got0, sent0 := receiver.page.counts(), sender.page.counts()
	if err := pause(ctx, ld.window(g.win), s, programs); err != nil {
		return sample{}, err
	}
	after, err := read(s.pid, g.pmu)
	if err != nil {
		return sample{}, err
	}
	got1, sent1 := receiver.page.counts(), sender.page.counts()

	if arrived(got1) == arrived(got0) {
		// A flood may starve its receiver, and a busy machine anybody: that is
		// a result, if it goes on afterwards.
		if err := wait(ctx, g.patience, "nothing arrived", s, programs, func() bool { return arrived(receiver.page.counts()) > arrived(got1) }); err != nil {
			return sample{}, err
		}
	}
	rss, _, err := readMemory(s.pid)
	if err != nil {
		return sample{}, err
	}
	r := sample{
		Load:    ld.ID,
		Seconds: after.at.Sub(before.at).Seconds(),
		Units:   got1.units - got0.units,
		Bytes:   got1.bytes - got0.bytes,
		Sent:    sent1.sent - sent0.sent,
		Refused: sent1.refused - sent0.refused,

		MachineCPU:    after.busy(before).Seconds(),
		TranslatorCPU: (after.translator - before.translator).Seconds(),
		StolenCPU:     (after.steal - before.steal).Seconds(),
		Instructions:  after.instructions - before.instructions,
		RSS:           rss,
		OpenMS:        float64(client.page.openedNS.Load()) / 1e6,
	}
	r.Value = float64(r.Units) / r.Seconds
	if ld.Unit.Bytes {
		r.Value = 8 * float64(r.Bytes) / r.Seconds
	}
	if r.Sent > 0 {
		// What was on its way at the two moments can make it less than nothing.
		r.Loss = max(0, 1-float64(r.Units)/float64(r.Sent))
	}
	if ld.latency() {
		r.Refused += got1.refused - got0.refused
		r.Median = quantile(got0, got1, 0.5) / 1e3
		r.P99 = quantile(got0, got1, 0.99) / 1e3
	}
	return r, nil
}
