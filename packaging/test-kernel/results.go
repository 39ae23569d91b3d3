package main

import "strings"

// results are those of a package's tests and subtests, in the order in which
// they began.
type results struct {
	passed, failed, skipped []*test
}

// test is a test or subtest.
type test struct {
	name, verdict, output string
}

// marker begins what the testing package itself says if it is run with
// -test.v=test2json, wherever in a line that is.
const marker = "\x16"

// parse reads the output of a test binary.
func parse(output string) results {
	var all []*test
	latest := map[string]*test{} // by name
	current := new(test)         // whose output it is: at first, nobody's
	for line := range strings.Lines(output) {
		said, event, ok := strings.Cut(line, marker)
		current.output += said
		if !ok {
			continue
		}
		kind, name, _ := strings.Cut(strings.TrimSpace(event), " ")
		what, name, _ := strings.Cut(name, " ")
		name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
		switch {
		case kind == "---":
			if t := latest[name]; t != nil {
				t.verdict = strings.TrimSuffix(what, ":")
				current = t // what follows is its panic, if anything
			}
		case what == "RUN":
			current = &test{name: name}
			latest[name] = current
			all = append(all, current)
		case what == "NAME" || what == "CONT":
			if current = latest[name]; current == nil {
				current = new(test)
			}
		}
	}
	var r results
	for _, t := range all {
		switch t.verdict {
		case "PASS":
			r.passed = append(r.passed, t)
		case "SKIP":
			r.skipped = append(r.skipped, t)
		default: // FAIL, or it never ended
			r.failed = append(r.failed, t)
		}
	}
	return r
}

// failedAlone returns the tests that failed, without subtests. It returns none if
// one of them panicked or did not end.
func (r results) failedAlone() (tests []string) {
	for _, t := range r.failed {
		if t.verdict != "FAIL" || strings.Contains(t.output, "panic: ") {
			return nil
		}
		if !strings.Contains(t.name, "/") {
			tests = append(tests, t.name)
		}
	}
	return tests
}

// reason is the last line that a test wrote.
func (t *test) reason() string {
	lines := strings.Split(strings.TrimSpace(t.output), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
