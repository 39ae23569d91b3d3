package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

// The limits after which no further round is begun, so that a slow machine
// gets fewer rounds instead of a run without end.
const (
	limit      = 13 * time.Minute
	limitQuick = 150 * time.Second
)

// growthRounds is how many rounds the loads of a series take part in: a curve
// needs fewer than a table.
const growthRounds = 3

// gatewayRounds is the same for the loads of contestants on the router.
const gatewayRounds = 3

// roundsOf returns how many rounds the load takes part in.
func (s settings) roundsOf(l load) int {
	if l.Router && l.Series == "" {
		return min(gatewayRounds, s.rounds)
	}
	if l.growth() || l.Router {
		return max(1, min(growthRounds, s.rounds/2))
	}
	return s.rounds
}

// What a measurement and a run take beside what is measured, for the estimate.
const (
	perSample   = 60 * time.Millisecond
	perStage    = 700 * time.Millisecond
	perCoverage = 12 * time.Second
	toBegin     = 8 * time.Second
)

// estimate returns how long everything that was asked for is going to take.
func (b *session) estimate() time.Duration {
	d := toBegin
	type stage struct {
		id    string
		setup setup
	}
	stages := make(map[stage]bool)
	for _, l := range b.results.Loads {
		who, _ := l.audience(b.contestants)
		for _, c := range who {
			stages[stage{c.id(), l.stageSetup(c)}] = true
		}
		d += time.Duration(b.roundsOf(l)*len(who)) * (l.window(b.window) + b.warm() + perSample)
		if l.Args[0] == "many" {
			d += time.Duration(b.roundsOf(l)*len(who)) * 250 * time.Millisecond // to open the connections
		}
	}
	d += time.Duration(len(stages)) * perStage
	if b.wants("coverage") {
		d += perCoverage
	}
	if b.wants("bpf") {
		turns := min(bpfRounds, b.rounds) * len(b.bpfContestants()) * len(bpfLoadIDs())
		d += time.Duration(turns) * (min(b.window, bpfWindow)*5/4 + perSample)
	}
	if b.wants("siit") {
		d += b.microTime()
	}
	if b.wants("instructions") {
		d += b.callgrindTime()
	}
	return d
}

// measure puts every load on every contestant, in turns: within a round the
// contestants follow each other load by load, so that a machine that drifts
// hurts all alike, and a ratio compares what was measured within a few seconds.
// Another one is first in every round.
func (b *session) measure(ctx context.Context) (err error) {
	if len(b.results.Loads) == 0 && !b.wants("instructions") && !b.wants("bpf") {
		return nil
	}
	var stages []*stage
	find := func(c contestant, s setup) *stage {
		i := slices.IndexFunc(stages, func(st *stage) bool { return st.contestant.id() == c.id() && st.setup == s })
		if i < 0 {
			i = len(stages)
			stages = append(stages, &stage{contestant: c, setup: s})
		}
		return stages[i]
	}
	for _, l := range b.results.Loads {
		who, why := l.audience(b.contestants)
		for _, c := range who {
			find(c, l.stageSetup(c))
		}
		for _, c := range b.contestants {
			if reason := why[c.id()]; reason != "" {
				b.results.Missing = append(b.results.Missing, missing{Load: l.ID, Contestant: c.id(), Why: reason})
			}
		}
	}
	if b.wants("instructions") {
		for _, c := range b.contestants {
			if !isRouter(c) {
				find(c, setup{MTU: ethernet})
			}
		}
	}
	if b.wants("bpf") {
		for _, c := range b.bpfContestants() {
			find(c, setup{MTU: ethernet})
		}
	}
	b.say("%d labs for %d loads and %d contestants", len(stages), len(b.results.Loads), len(b.contestants))
	defer func() { err = errors.Join(err, cleanUp(closeAll(stages))) }()
	if err := raise(ctx, b.generator, stages); err != nil {
		return err
	}
	for _, s := range stages {
		if s.out != nil {
			b.say("%s, %s: %v", s.contestant.title(), s.setup, s.out)
		}
	}

	failed := make(map[[2]string]int) // by load and contestant
	for round := 1; round <= b.rounds; round++ {
		began := time.Now()
		m := &b.results.Machine
		m.Background = max(m.Background, noise(ctx))
		for _, l := range b.results.Loads {
			if round > b.roundsOf(l) {
				continue
			}
			who, _ := l.audience(b.contestants)
			for i := range who {
				c := who[(i+round-1)%len(who)]
				key := [2]string{l.ID, c.id()}
				if failed[key] == 2 {
					continue // it cannot
				}
				s := find(c, l.stageSetup(c))
				over := s.out != nil
				r, err := s.try(ctx, b.generator, l)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					failed[key]++
					b.results.Missing = append(b.results.Missing, missing{l.ID, c.id(), round, err.Error()})
					if !over {
						b.say("%s, %s: %v", l.ID, c.title(), err)
					}
					continue
				}
				r.Round = round
				b.results.samples = append(b.results.samples, r)
			}
		}
		took := time.Since(began)
		b.say("round %d of %d took %s", round, b.rounds, took.Round(100*time.Millisecond))
		if end := time.Since(b.begin) + took; round < b.rounds && end > b.limit() {
			b.note("Only %d of %d rounds: this machine is slow, and the whole is not to take longer than announced.", round, b.rounds)
			b.results.Rounds = round
			break
		}
	}
	b.judgeQuiet()
	if b.wants("instructions") {
		b.countPrograms(ctx, find)
	}
	if b.wants("bpf") {
		b.compareBPF(ctx, find)
	}
	b.finish(stages)
	return nil
}

// judgeQuiet notes if somebody else used the machine meanwhile.
func (b *session) judgeQuiet() {
	m := &b.results.Machine
	var stolen, all float64
	for _, s := range b.results.samples {
		stolen += s.StolenCPU
		all += s.Seconds * float64(m.CPUs)
	}
	if all > 0 {
		m.Stolen = stolen / all
	}
	if m.Background > 0.05 || m.Stolen > 0.02 {
		b.note("The machine was not quiet: up to %.0f %% of its CPU time was used by others between the rounds, and %.0f %% was taken away by the hypervisor.",
			100*m.Background, 100*m.Stolen)
	}
}

func (s settings) limit() time.Duration {
	if s.quick {
		return limitQuick
	}
	return limit
}

// finish takes the contestants down, sees how much memory they had, and what
// they had to say at the end.
func (b *session) finish(stages []*stage) {
	for _, s := range stages {
		if s.service == nil && s.out == nil {
			continue
		}
		r := b.results.contestant(s.contestant.id())
		if s.service != nil && s.service.pid != 0 {
			r.Process = true
		}
		if err := s.stop(); err != nil {
			b.note("%s, %s, at its end: %v", s.contestant.title(), s.setup, err)
		}
		if s.out != nil {
			b.note("%s, %s, was %v", s.contestant.title(), s.setup, s.out)
		}
		if s.setup == (setup{MTU: s.setup.MTU}) { // as people have it
			r.PeakRSS = max(r.PeakRSS, s.peak)
		}
	}
}

// stageSetup is the setup of the contestant's stage for a load: what is about
// the translator only makes no difference to untranslated IPv6.
func (l load) stageSetup(c contestant) setup {
	if _, ok := c.(native); ok {
		return setup{MTU: l.Setup.MTU}
	}
	return l.Setup
}

// errCleanUp marks errors of taking labs down, which are reported even when
// the run was interrupted.
type errCleanUp struct{ error }

func (e errCleanUp) Unwrap() error { return e.error }

func cleanUp(err error) error {
	if err == nil {
		return nil
	}
	return errCleanUp{err}
}

// cleanUpErrors returns the part of err that is about taking labs down.
func cleanUpErrors(err error) error {
	if e, ok := errors.AsType[errCleanUp](err); ok {
		return e
	}
	return nil
}
