package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// translation is a benchmark of package siit or of the kernel engine alone, without
// a network.
type translation struct {
	Name   string    `json:"name"`      // "4to6/TCP64"
	NS     []float64 `json:"ns_per_op"` // of each repetition
	Allocs float64   `json:"allocs_per_op"`
}

const (
	microTimes      = 53 // benchmarks of siit, of its EAM table and of the kernel engine
	repetitions     = 6  // what benchstat wants for an interval
	repetitionTime  = 50 * time.Millisecond
	repetitionQuick = 10 * time.Millisecond
)

// repeat returns how often and how long each benchmark runs.
func (s settings) repeat() (int, time.Duration) {
	if s.quick {
		return repetitions, repetitionQuick
	}
	return repetitions, repetitionTime
}

// microTime is what the benchmarks take, for the estimate.
func (s settings) microTime() time.Duration {
	n, d := s.repeat()
	return 6*time.Second + microTimes*time.Duration(n)*(d+d/2)
}

// translatorAlone runs the benchmarks of package siit, of its EAM table and of the
// BPF programs, and keeps what they print for benchstat.
func (b *session) translatorAlone(ctx context.Context) error {
	if !b.wants("siit") {
		return nil
	}
	n, d := b.repeat()
	b.say("the translator alone: %d repetitions of %s", n, d)
	for _, args := range [][]string{
		{"-bench", "4to6|6to4|EAM", "-benchtime", d.String(), "tnat64d/siit", "tnat64d/benchmarks"},
		// A program runs much shorter than the system call that makes it run.
		{"-bench", "Kernel", "-benchtime", "2000x", "tnat64d/datapath/steer"},
	} {
		out, err := tool(ctx, b.dir, "go", append([]string{"test", "-vet=off", "-run", "^$", "-count", strconv.Itoa(n)}, args...)...).CombinedOutput()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			b.note("The benchmarks of the translator alone failed: %v; the last they said: %s", err, lastLines(string(out), 3))
			continue
		}
		b.results.Translator = append(b.results.Translator, parseBench(string(out))...)
		b.results.benchstat = append(b.results.benchstat, out...)
	}
	return nil
}

var benchLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op.*?([\d.]+) allocs/op`)

// parseBench reads the output of go test -bench.
func parseBench(out string) []translation {
	var all []translation
	for line := range strings.Lines(out) {
		m := benchLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		ns, _ := strconv.ParseFloat(m[2], 64)
		allocs, _ := strconv.ParseFloat(m[3], 64)
		i := slices.IndexFunc(all, func(t translation) bool { return t.Name == m[1] })
		if i < 0 {
			i = len(all)
			all = append(all, translation{Name: m[1]})
		}
		all[i].NS = append(all[i].NS, ns)
		all[i].Allocs = max(all[i].Allocs, allocs)
	}
	return all
}

// lastLines returns the last n lines of s.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// instructions is how many machine instructions translating a packet takes.
type instructions struct {
	What      string  `json:"what"` // "4to6/TCP64"
	Method    string  `json:"method"`
	PerPacket float64 `json:"per_packet"`
}

// counted are the benchmarks of siit of which instructions are counted.
var counted = []string{
	"4to6/TCP64", "4to6/TCP1500", "4to6/TCP64KiB", "4to6/UDP", "4to6/Fragment", "4to6/ICMPError",
	"6to4/TCP64", "6to4/TCP1500", "6to4/TCP64KiB", "6to4/UDP", "6to4/Fragment", "6to4/ICMPError",
}

// callgrindTime is what counting takes, for the estimate.
func (s settings) callgrindTime() time.Duration {
	each := 2500 * time.Millisecond
	if s.quick {
		each = 1400 * time.Millisecond
	}
	return 3*time.Second + time.Duration(len(counted))*each
}

// countInstructions counts the instructions of the user engine's translator in
// callgrind, which emulates a processor: the same on every machine of the
// architecture. Two runs of different length are subtracted, so that what the
// process does besides does not count.
func (b *session) countInstructions(ctx context.Context) error {
	if !b.wants("instructions") {
		return nil
	}
	if _, err := exec.LookPath("valgrind"); err != nil && b.install {
		if root, err := moduleRoot(ctx); err == nil {
			if out, err := tool(ctx, b.dir, filepath.Join(root, "packaging", "install-packages.sh"), "valgrind").CombinedOutput(); err != nil {
				b.say("valgrind cannot be installed: %v: %s", err, lastLines(string(out), 3))
			}
		}
	}
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		b.note("Instructions of the translator were not counted: valgrind is not installed.")
		return nil
	}
	binary := filepath.Join(b.dir, "siit.test")
	if out, err := tool(ctx, b.dir, "go", "test", "-vet=off", "-c", "-o", binary, "tnat64d/siit").CombinedOutput(); err != nil {
		return fmt.Errorf("build the benchmarks of siit: %w\n%s", err, out)
	}
	b.say("instructions per packet, in callgrind")
	run := func(name string, n int) (float64, error) {
		direction, what, _ := strings.Cut(name, "/")
		cmd := tool(ctx, b.dir, valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", binary, "-test.run", "^$",
			"-test.bench", "^Benchmark"+direction+"$/^"+what+"$", "-test.benchtime", strconv.Itoa(n)+"x")
		// Nothing beside the benchmark, no signals, which callgrind does not survive, and
		// no RDTSCP, which valgrind 3.19 does not know.
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1,cpu.rdtscp=off")
		out, err := cmd.CombinedOutput()
		m := collected.FindSubmatch(out)
		if err != nil || m == nil {
			return 0, fmt.Errorf("callgrind, %s: %v: %s", name, err, lastLines(string(out), 3))
		}
		return strconv.ParseFloat(string(m[1]), 64)
	}
	const short = 2000
	long := 62000
	if b.quick {
		long = 22000
	}
	for _, name := range counted {
		few, err := run(name, short)
		var many float64
		if err == nil {
			many, err = run(name, long)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			b.note("Instructions were not counted: %v", err)
			return nil
		}
		b.results.Instructions = append(b.results.Instructions, instructions{name, "callgrind", (many - few) / float64(long-short)})
	}
	return nil
}

var collected = regexp.MustCompile(`Collected : (\d+)`)
