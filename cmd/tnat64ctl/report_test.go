package main

import (
	"strings"
	"testing"
	"time"
)

// TestReportMasksStatus runs the text of a busy daemon through a report.
func TestReportMasksStatus(t *testing.T) {
	s := busy()
	out := reportText([]section{{"status", statusText(s, time.Now())}, {"log", "from bob on host-7"}}, []string{"host-7", "bob"})
	for _, u := range s.Uplinks {
		if u.CLAT != nil && strings.Contains(out, u.CLAT.IPv6.String()) {
			t.Errorf("the CLAT's address %s is left:\n%s", u.CLAT.IPv6, out)
		}
		for _, r := range u.Resolvers {
			if strings.Contains(out, r.String()) {
				t.Errorf("the resolver %s is left:\n%s", r, out)
			}
		}
	}
	if !strings.Contains(out, "from <name> on <name>") {
		t.Errorf("names are left:\n%s", out)
	}
}

func TestLastLines(t *testing.T) {
	long := strings.Repeat("x", 3*maxLogLine)
	for _, c := range []struct {
		name, in string
		n        int
		want     string
	}{
		{"fewer than asked for", "a\nb\n", 5, "a\nb"},
		{"the last ones", "a\nb\nc\nd", 2, "c\nd"},
		{"empty lines do not count", "a\n\n\nb\n\n", 2, "a\nb"},
		{"long lines are cut", "a\n" + long + "\nb\n", 2, long[:maxLogLine] + "\nb"},
		{"nothing", "", 3, ""},
	} {
		if got := lastLines(strings.NewReader(c.in), c.n); got != c.want {
			t.Errorf("%s: %.80q, want %.80q", c.name, got, c.want)
		}
	}
}
