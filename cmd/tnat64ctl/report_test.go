package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReportMasksStatus runs the text of a busy daemon through a report.
func TestReportMasksStatus(t *testing.T) {
	s := busy()
	out := reportText([]section{{"status", statusText(s, time.Now())}, {"log", "from bob on host-7"}}, []string{"host-7", "bob"}, nil)
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

func TestPeople(t *testing.T) {
	got := people("root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob J. Smith,Room 7,,:/home/bob:/bin/sh\nnobody:x:65534:65534:nobody:/:\nbroken:x\n")
	if want := []string{"bob", "Bob J. Smith", "Bob", "Smith"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSearchDomains(t *testing.T) {
	got := searchDomains("nameserver 2001:db8::53\nsearch corp example.net.\ndomain lab\noptions search\n")
	if want := []string{"corp", "example.net.", "lab"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestReportMasksInterfaces covers names without a hint that they are names of
// interfaces.
func TestReportMasksInterfaces(t *testing.T) {
	out := reportText([]section{{"status", "acme-lan: up\nwlan0: up"}}, nil, []string{"acme-lan", "wlan0"})
	if strings.Contains(out, "acme") || !strings.Contains(out, "\nwlan0: up") {
		t.Errorf("%s", out)
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
