package main

import (
	"strings"
	"testing"
)

// What a test binary says, with ^ for the marker.
const sample = `^=== RUN   TestA
    a_test.go:5: well
^--- PASS: TestA (0.01s)
^=== NAME  
^=== RUN   TestB
^=== RUN   TestB/x
no line end^--- FAIL: TestB/x (0.00s)
^=== NAME  TestB
    b_test.go:9: of TestB
^=== RUN   TestB/y
^=== PAUSE TestB/y
^=== NAME  TestB
^=== CONT  TestB/y
    b_test.go:20: needs a moon
^--- SKIP: TestB/y (0.00s)
^--- FAIL: TestB (0.02s)
^=== NAME  
^=== RUN   TestC
panic: test timed out after 9m0s
	running tests:
		TestC (1s)
`

func testNames(tests []*test) string {
	var all []string
	for _, t := range tests {
		all = append(all, t.name)
	}
	return strings.Join(all, " ")
}

func TestParse(t *testing.T) {
	r := parse(strings.ReplaceAll(sample, "^", marker))
	for _, c := range []struct{ what, got, want string }{
		{"passed", testNames(r.passed), "TestA"},
		{"skipped", testNames(r.skipped), "TestB/y"},
		{"reason", r.skipped[0].reason(), "b_test.go:20: needs a moon"},
		// TestC did not end.
		{"failed", testNames(r.failed), "TestB TestB/x TestC"},
		{"output of TestB", r.failed[0].output, "    b_test.go:9: of TestB\n"},
		{"output of TestB/x", r.failed[1].output, "no line end"},
		{"output of TestC", strings.SplitAfter(r.failed[2].output, "\n")[0], "panic: test timed out after 9m0s\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
}

// A test that runs twice counts twice.
func TestParseCount(t *testing.T) {
	const once = "^=== RUN   TestA\nhello\n^--- PASS: TestA (0.01s)\n"
	r := parse(strings.ReplaceAll(once+strings.Replace(once, "PASS", "FAIL", 1), "^", marker))
	if testNames(r.passed) != "TestA" || testNames(r.failed) != "TestA" || r.failed[0].output != "hello\n" {
		t.Errorf("passed %q, failed %q", testNames(r.passed), testNames(r.failed))
	}
}
