package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"tnat64d/packaging/test-kernel/guest"
)

// report collects what comes from one machine, and prints it.
type report struct {
	verbose bool
	suites  []string // that it runs, in order

	console []string // the kernel's own output
	output  string   // of the current suite
	ended   int      // suites
	done    bool
	faults  []error
	again   map[string][]string // tests that failed, by suite, if nothing else went wrong with it
}

// readConsole reads what the kernel prints.
func (r *report) readConsole(port io.Reader) {
	for lines := bufio.NewScanner(port); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		r.console = append(r.console, line)
		if r.verbose {
			fmt.Printf("kernel: %s\n", line)
		}
	}
}

// readEvents reads what init reports.
func (r *report) readEvents(port io.Reader) {
	for lines := bufio.NewReader(port); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // a line without its end is of a machine that was cut off
		}
		var ev guest.Event
		if err := json.Unmarshal(line, &ev); err != nil {
			r.faultf("a line from init is not understood: %q: %w", line, err)
			continue
		}
		r.event(ev)
	}
}

func (r *report) event(ev guest.Event) {
	switch {
	case ev.Kernel != "":
		fmt.Printf("kernel %s is up for %s\n", ev.Kernel, strings.Join(r.suites, ", "))
	case ev.Failed != "":
		r.faultf("init: %s", ev.Failed)
	case ev.Done != nil:
		r.done = true
		if ev.Done.Tainted != 0 {
			r.faultf("the kernel is tainted (%d): it has complained", ev.Done.Tainted)
		}
	case ev.Exit != nil && r.ended == len(r.suites):
		r.faultf("init ran more than it was told to")
	case ev.Exit != nil:
		r.exit(r.suites[r.ended], *ev.Exit)
		r.ended++
		r.output = ""
	default:
		r.output += ev.Output + "\n"
		if r.verbose {
			fmt.Println(strings.ReplaceAll(ev.Output, marker, ""))
		}
	}
}

// exit judges the end of a suite and prints how it went.
func (r *report) exit(suite string, e guest.Exit) {
	results := parse(r.output)
	faults := len(r.faults)
	switch again := results.failedAlone(); {
	case e.Status != 0 && len(again) > 0 && len(e.Left) == 0:
		if r.again == nil {
			r.again = map[string][]string{}
		}
		r.again[suite] = again
	case e.Status != 0:
		r.faultf("%s: %d tests failed, exit status %d", suite, len(results.failed), e.Status)
	case len(results.passed) == 0:
		r.faultf("%s: no test ran", suite)
	}
	if len(e.Left) > 0 {
		r.faultf("%s: processes left behind: %s", suite, strings.Join(e.Left, ", "))
	}
	verdict := "ok"
	if len(r.faults) > faults || e.Status != 0 {
		verdict = "FAIL"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-4s %-19s %6.1fs  %d passed, %d failed, %d skipped\n", verdict, suite, e.Seconds,
		len(results.passed), len(results.failed), len(results.skipped))
	for _, t := range results.skipped {
		fmt.Fprintf(&b, "     skipped %s: %s\n", t.name, t.reason())
	}
	for _, t := range results.failed {
		fmt.Fprintf(&b, "     failed %s\n", t.name)
		if !r.verbose {
			b.WriteString(t.output)
		}
	}
	if e.Status != 0 && len(results.failed) == 0 && !r.verbose {
		b.WriteString(r.output)
	}
	fmt.Print(b.String())
}

// verdict says whether all went well, when nothing more will come.
func (r *report) verdict() error {
	if !r.done {
		missing := r.suites[r.ended:]
		r.faultf("the kernel did not reach the end; missing: %s", strings.Join(missing, ", "))
		if len(missing) > 0 && !r.verbose {
			fmt.Printf("what %s said:\n%s", missing[0], strings.ReplaceAll(r.output, marker, ""))
		}
	}
	if len(r.faults) > 0 && !r.verbose {
		fmt.Printf("the kernel's console:\n%s\n", strings.Join(r.console, "\n"))
	}
	return errors.Join(r.faults...)
}

func (r *report) faultf(format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf(format, args...))
}
