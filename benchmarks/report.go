package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// report is report.md: the results as tables for people.
func (r *results) report() []byte {
	w := &markdown{}
	w.text("# Benchmark results\n\nWritten by `make bench`; what the numbers mean, and do not mean, is in [README.md](../README.md).\n")
	if r.Quick {
		w.text("\n**A quick run**: %d short rounds, good for seeing that everything works, too short for numbers to quote.\n", r.Rounds)
	}
	sections := []func(*results, *markdown){machineSection, contestantsSection}
	if len(r.Summaries) > 0 {
		sections = append(sections, shortSection, ratiosSection, sharedSection, valuesSection, latencySection, cpuSection, memorySection, lossSection, growthSection, gatewaySection)
	}
	sections = append(sections, instructionsSection, translatorSection, coverageSection, missingSection)
	for _, section := range sections {
		section(r, w)
	}
	return w.Bytes()
}

// markdown is a report in the making.
type markdown struct{ bytes.Buffer }

func (w *markdown) text(format string, args ...any) { fmt.Fprintf(w, format, args...) }

// row writes a row of a table.
func (w *markdown) row(cells ...string) {
	for i := range cells {
		cells[i] = strings.NewReplacer("|", `\|`, "\n", " ").Replace(cells[i])
	}
	w.text("| %s |\n", strings.Join(cells, " | "))
}

// header writes the first row of a table, of which all columns but the first
// are numbers.
func (w *markdown) header(cells ...string) {
	w.row(cells...)
	w.text("|---|%s\n", strings.Repeat("---:|", len(cells)-1))
}

func machineSection(r *results, w *markdown) {
	m := r.Machine
	virtual := "no virtual machine"
	if m.Virtual != "" {
		virtual = "a virtual machine (" + m.Virtual + ")"
	}
	w.text("\n%s, %d CPUs, %.1f GB, %s; Linux %s; %s; %s; %s; tnat64d %s.\n", m.CPU, m.CPUs, m.MemoryGB, virtual, m.Kernel, m.System, m.Go, m.GCC, m.Commit)
	w.text("%s, %s; %d rounds, each measurement %g s, fixed rate %s/s. Hardware counters: %s. Busy between rounds: up to %.0f %%; taken by the hypervisor: %.1f %%.\n",
		r.Made.Format("2006-01-02 15:04 UTC"), (time.Duration(r.Took) * time.Second).String(), r.Rounds, r.Window, thousands(r.Rate), m.PMU, 100*m.Background, 100*m.Stolen)
	for _, n := range r.Notes {
		w.text("\n> %s\n", strings.ReplaceAll(n, "\n", "\n> "))
	}
}

func contestantsSection(r *results, w *markdown) {
	w.text("\n## Contestants\n\n")
	w.row("", "version", "memory at its peak", "")
	w.text("|---|---|---:|---|\n")
	for _, c := range r.Contestants {
		memory := "–"
		if c.PeakRSS > 0 {
			memory = fmt.Sprintf("%.1f MB", float64(c.PeakRSS)/1e6)
		}
		about := c.About
		if c.Absent != "" {
			about = "**absent**: " + c.Absent
		}
		w.row(c.Title, c.Version, memory, about)
	}
}

// present are the contestants on the laptop that took part, or those on the router,
// after untranslated IPv6, and their titles.
func (r *results) present(router bool) (cs []contestantResult, titles []string) {
	for i, c := range r.Contestants {
		if c.Absent == "" && (i == 0 || c.Router == router) {
			cs = append(cs, c)
			titles = append(titles, c.Title)
		}
	}
	return cs, titles
}

// main are the loads of the main tables.
func (r *results) main() []load {
	return slices.DeleteFunc(slices.Clone(r.Loads), func(l load) bool { return l.growth() || l.Router })
}

// table writes a table of loads by contestants. head and lead are about the
// columns in front.
func (r *results) table(w *markdown, loads []load, skipBase bool, head []string, lead func(load) []string, cell func(load, summary) string) {
	cs, titles := r.present(len(loads) > 0 && loads[0].Router)
	if skipBase {
		cs, titles = cs[1:], titles[1:]
	}
	w.header(append(head, titles...)...)
	for _, l := range loads {
		cells := lead(l)
		for _, c := range cs {
			text := "–"
			if s, ok := r.summary(l.ID, c.ID); ok {
				text = cell(l, s)
			} else if why := r.why(l.ID, c.ID); why != "" {
				text = why
			}
			cells = append(cells, text)
		}
		w.row(cells...)
	}
}

// title is the only column in front.
func title(l load) []string { return []string{l.Title} }

// why returns why there are no numbers, in a word or two.
func (r *results) why(load, contestant string) string {
	for _, m := range r.Missing {
		if m.Load == load && m.Contestant == contestant {
			if m.Round == 0 {
				return m.Why
			}
			return "failed"
		}
	}
	return ""
}

// shortRows are the rows of the table that the project's README shows: a load,
// or one up and one down.
var shortRows = []struct {
	title string
	loads []string
}{
	{"TCP, one stream, up / down", []string{"tcp/1-up", "tcp/1-down"}},
	{"TCP, four streams, up / down", []string{"tcp/4-up", "tcp/4-down"}},
	{"UDP, 64 bytes, up / down", []string{"udp/64-up", "udp/64-down"}},
	{"UDP with GSO (as QUIC), up / down", []string{"udp/gso-up", "udp/gso-down"}},
	{"round trips, TCP / UDP", []string{"rr/tcp", "rr/udp"}},
	{"TCP connections", []string{"connect"}},
	{"2,000 connections at once", []string{"many"}},
	{"fragments, up / down", []string{"fragments/up", "fragments/down"}},
}

func shortSection(r *results, w *markdown) {
	w.text("\n## In short\n\n")
	r.shares(w, nil)
}

func ratiosSection(r *results, w *markdown) {
	w.text(`
## Share of untranslated IPv6

![Share of untranslated IPv6](main.svg)

What arrives per second, as a share of what arrives of untranslated IPv6 in the same round: the median of the rounds, in
parentheses the least and the most. 1.00 is as fast as IPv6. For connections and round trips it is their number per second.

`)
	loads := slices.DeleteFunc(r.main(), func(l load) bool { return l.Fixed })
	r.table(w, loads, true, []string{"load", "IPv6"}, func(l load) []string {
		s, ok := r.summary(l.ID, r.Contestants[0].ID)
		if !ok {
			return []string{l.Title, "–"}
		}
		return []string{l.Title, value(float64(s.Value)/l.Unit.Scale) + " " + l.Unit.Name}
	}, func(_ load, s summary) string {
		if math.IsNaN(float64(s.Ratio)) {
			return "–" // untranslated IPv6 got nothing through
		}
		return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Ratio, s.Low, s.High)
	})
}

// sharedSection compares a shared address with the CLAT's own.
func sharedSection(r *results, w *markdown) {
	if !slices.ContainsFunc(r.Summaries, func(s summary) bool { return s.Shared > 0 }) {
		return
	}
	w.text(`
## Shared address

What arrives per second when the CLAT shares the host's address, as a share of what arrives with an address of its own by the
same engine in the same round: the median of the rounds, in parentheses the least and the most.

`)
	r.table(w, r.main(), true, []string{"load"}, title, func(_ load, s summary) string {
		if !(s.Shared > 0) {
			return "–"
		}
		return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Shared, s.SharedLow, s.SharedHigh)
	})
}

func valuesSection(r *results, w *markdown) {
	w.text("\n## Values\n\nThe same as medians of the rounds.\n\n")
	r.table(w, r.main(), false, []string{"load", "unit"}, func(l load) []string { return []string{l.Title, l.Unit.Name} },
		func(l load, s summary) string { return value(float64(s.Value) / l.Unit.Scale) })
}

func latencySection(r *results, w *markdown) {
	loads := slices.DeleteFunc(r.main(), func(l load) bool { return !l.latency() })
	if len(loads) == 0 {
		return
	}
	w.text("\n## Time until the answer\n\nMicroseconds: median / 99th percentile. With many connections at once each waits for its turn,\n" +
		"and whoever has lost packets has fewer of them under way: there the 99th percentile tells, not the median.\n\n")
	r.table(w, loads, false, []string{"load"}, title,
		func(_ load, s summary) string {
			text := value(float64(s.Median)) + " / " + value(float64(s.P99))
			if s.OpenMS > 0 {
				text += fmt.Sprintf(" (opened in %.0f ms)", s.OpenMS)
			}
			return text
		})
}

func cpuSection(r *results, w *markdown) {
	w.text(`
## CPU time

![CPU time](cpu.svg)

Seconds of CPU time of the **whole machine**, both ends included, for a GB of TCP payload or a million datagrams, round
trips or connections. What is beyond IPv6 is the cost of translating. In parentheses what the translator's own process
used, interrupts during its turns included. The kernel engine has no such number: its BPF programs run in whoever sends or
receives, and its process sees only what they decline. Of a flood only what arrived counts, while
what was lost cost as well; the loads at a fixed rate say more.

`)
	r.table(w, r.main(), false, []string{"load", "per"}, func(l load) []string { return []string{l.Title, l.Unit.Cost} }, func(_ load, s summary) string {
		if s.Translator == 0 || math.IsNaN(float64(s.Translator)) {
			return value(float64(s.Machine))
		}
		return fmt.Sprintf("%s (%s)", value(float64(s.Machine)), value(float64(s.Translator)))
	})
}

func memorySection(r *results, w *markdown) {
	loads := slices.DeleteFunc(r.main(), func(l load) bool {
		return !slices.ContainsFunc(r.Summaries, func(s summary) bool { return s.Load == l.ID && s.RSS > 0 })
	})
	if len(loads) == 0 {
		return
	}
	w.text("\n## Memory\n\nResident memory of the translator's process at the end of the load, in MB. Without a process there is none but the kernel's.\n\n")
	r.table(w, loads, false, []string{"load"}, title, residentMB)
}

func lossSection(r *results, w *markdown) {
	loads := slices.DeleteFunc(r.main(), func(l load) bool { return l.Args[0] != "datagram" })
	if len(loads) == 0 {
		return
	}
	w.text("\n## Loss\n\nPer cent of the datagrams sent that did not arrive. In a flood there must be loss: the sender does not wait for anybody.\n\n")
	r.table(w, loads, false, []string{"load"}, title,
		func(_ load, s summary) string { return fmt.Sprintf("%.1f", 100*s.Loss) })
}

func growthSection(r *results, w *markdown) {
	var all []string
	for _, l := range r.Loads {
		if l.Series != "" && !l.Router && !slices.Contains(all, l.Series) {
			all = append(all, l.Series)
		}
	}
	if len(all) == 0 {
		return
	}
	w.text("\n## How cost grows\n\n![How cost grows](growth.svg)\n\nThe share of untranslated IPv6 in the same round, and CPU seconds of the whole machine for the same amount.\n")
	for _, series := range all {
		loads := slices.DeleteFunc(slices.Clone(r.Loads), func(l load) bool { return l.Series != series })
		slices.SortFunc(loads, func(a, b load) int { return int(a.X - b.X) })
		w.text("\n")
		r.table(w, loads, false, []string{series}, func(l load) []string { return []string{thousands(int(l.X))} }, func(_ load, s summary) string {
			return fmt.Sprintf("%s, %s s", value(float64(s.Ratio)), value(float64(s.Machine)))
		})
	}
}

func instructionsSection(r *results, w *markdown) {
	counted := slices.ContainsFunc(r.Summaries, func(s summary) bool { return s.Instructions > 0 })
	if len(r.Instructions) == 0 && len(r.Programs) == 0 && len(r.BPFCosts) == 0 && !counted {
		return
	}
	w.text("\n## Instructions per packet\n")
	if counted {
		w.text("\nOf the whole machine, kernel and programs, both ends included (hardware counters). What is beyond IPv6 is the translator's.\n\n")
		loads := slices.DeleteFunc(r.main(), func(l load) bool { return l.Unit.Bytes })
		r.table(w, loads, false, []string{"load", "per"}, func(l load) []string {
			return []string{l.Title, strings.TrimSuffix(strings.TrimPrefix(l.Unit.Cost, "million "), "s")}
		},
			func(_ load, s summary) string { return thousands(int(s.Instructions)) })
	} else {
		w.text("\nWhat the whole machine executes for a packet could not be counted: %s.\n", r.Machine.PMU)
	}
	if len(r.Instructions) > 0 {
		w.text("\nThe user engine's translator, package siit alone, counted in callgrind (it emulates the processor, so the number is the same\n" +
			"wherever it is run). Copying the packet's headers into place and the benchmark's loop are included, system calls are not.\n\n")
		w.header("packet", "instructions")
		for _, i := range r.Instructions {
			w.row(i.What, fmt.Sprintf("%.0f", i.PerPacket))
		}
	}
	bpfCostTable(r, w)
	if len(r.Programs) > 0 {
		w.text("\nThe BPF programs of tnat64d, as the kernel counted them (BPF run statistics): nanoseconds depend on the machine, runs do not.\n" +
			"A run sees a super-packet as one. Instructions are how long a program is, of which a packet takes one path.\n\n")
		w.header("program", "engine", "load", "runs", "ns per run", "instructions", "bytes of machine code")
		for _, p := range r.Programs {
			w.row("`"+p.Name+"`", p.Engine, p.Load, value(p.Runs)+" per "+p.Per, fmt.Sprintf("%.0f", p.NSPerRun), thousands(p.Instructions), thousands(p.MachineCode))
		}
	}
}

// bpfCostTable compares contestants that translate in BPF programs.
func bpfCostTable(r *results, w *markdown) {
	var who, titles []string
	for _, c := range r.BPFCosts {
		if !slices.Contains(who, c.Contestant) {
			who, titles = append(who, c.Contestant), append(titles, r.contestant(c.Contestant).Title)
		}
	}
	if len(who) == 0 {
		return
	}
	w.text("\nNanoseconds that BPF programs run for a packet or super-packet, as the kernel counts them, all programs of its direction\n" +
		"together, in turns: the median of the rounds, in parentheses the least and the most. The counting takes a part of it for\n" +
		"each run. There are two for a packet: tnat64d has two programs in each direction, and NetworkManager one that redirects the\n" +
		"translated packet to the same interface, so that it runs again.\n\n")
	w.header(append([]string{"packets"}, titles...)...)
	for _, row := range bpfRows {
		cells := []string{row.title}
		for _, id := range who {
			i := slices.IndexFunc(r.BPFCosts, func(c bpfCost) bool { return c.Row == row.title && c.Contestant == id })
			if i < 0 {
				cells = append(cells, "–")
				continue
			}
			c := r.BPFCosts[i]
			cells = append(cells, fmt.Sprintf("%.0f (%.0f–%.0f)", c.NS, c.Low, c.High))
		}
		w.row(cells...)
	}
}

func translatorSection(r *results, w *markdown) {
	if len(r.Translator) == 0 {
		return
	}
	w.text("\n## The translator alone\n\nPackage siit without a network, nanoseconds per packet; [siit.txt](siit.txt) is for benchstat. EAM/miss and EAM/hit: a UDP\n" +
		"packet with a table of so many explicit address mappings, to addresses outside and inside of the table.\n\n")
	kernel := func(t translation) bool { return strings.HasPrefix(t.Name, "Kernel") }
	w.header("benchmark", "median", "least", "most", "allocations")
	for _, t := range r.Translator {
		if !kernel(t) {
			w.row(t.Name, value(median(t.NS)), value(slices.Min(t.NS)), value(slices.Max(t.NS)), fmt.Sprintf("%g", t.Allocs))
		}
	}
	if !slices.ContainsFunc(r.Translator, kernel) {
		return
	}
	w.text("\nThe BPF programs of the kernel engine without a network: nanoseconds per packet (for TCP_up and TCP_down a super-packet of three\n" +
		"segments) as the kernel counts them, which takes a part itself. KernelEAM: UDP up with so many explicit address mappings.\n" +
		"KernelHosts: UDP of 1,024 hosts of a gateway that has so many maps.\n\n")
	w.header("program", "median", "least", "most")
	for _, t := range r.Translator {
		if kernel(t) {
			w.row(t.Name, value(median(t.NS)), value(slices.Min(t.NS)), value(slices.Max(t.NS)))
		}
	}
}

func coverageSection(r *results, w *markdown) {
	if len(r.Coverage) == 0 {
		return
	}
	w.text("\n## Which programs work\n\nUnmodified programs on the laptop of a whole 464XLAT network with a NAT64 and an IPv4-only server, each really run.\n\n")
	cs, titles := r.present(false)
	titles[0] = "no help"
	w.row(append([]string{"program"}, titles...)...)
	w.text("|---|%s\n", strings.Repeat("---|", len(titles)))
	for _, p := range covered {
		cells := []string{p.name}
		for _, c := range cs {
			i := slices.IndexFunc(r.Coverage, func(x coverage) bool { return x.Program == p.name && x.Contestant == c.ID })
			switch {
			case i < 0:
				cells = append(cells, "–")
			case !r.Coverage[i].Tried:
				cells = append(cells, firstLine(r.Coverage[i].Says))
			case r.Coverage[i].Works:
				cells = append(cells, "works")
			default:
				cells = append(cells, "**no**: "+firstLine(r.Coverage[i].Says))
			}
		}
		w.row(cells...)
	}
}

func missingSection(r *results, w *markdown) {
	failures := slices.DeleteFunc(slices.Clone(r.Missing), func(m missing) bool { return m.Round == 0 })
	if len(failures) == 0 {
		return
	}
	w.text("\n## What failed\n\n")
	for _, m := range failures {
		title := m.Contestant
		if c := r.contestant(m.Contestant); c != nil {
			title = c.Title
		}
		w.text("* %s, %s, round %d:\n\n  ```\n  %s\n  ```\n", title, m.Load, m.Round, strings.ReplaceAll(m.Why, "\n", "\n  "))
	}
}

// value writes a number with three digits that count.
func value(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case v >= 1000:
		return thousands(int(v + 0.5))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
