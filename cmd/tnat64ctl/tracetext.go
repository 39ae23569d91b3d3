package main

import (
	"fmt"
	"strings"

	"tnat64d/internal/control"
)

// recordText is the line for a packet, and one before it if others were missed.
func recordText(r *control.Record) string {
	var s string
	if r.Missed > 0 {
		s = fmt.Sprintf("(%s missed here: they came faster than they were read)\n", count(r.Missed, "packet"))
	}
	s += fmt.Sprintf("%s %s %s: %s", r.Time.Local().Format("15:04:05.000000"), r.Uplink, describeCut(r.In, r.InLen), verdictText(r))
	if len(r.Out) > 0 {
		s = strings.TrimSuffix(s, ".") + ": " + describeCut(r.Out[0].Data, r.Out[0].Len)
	}
	if n := len(r.Out); n > 1 {
		sizes := make([]string, n)
		for i, p := range r.Out {
			sizes[i] = fmt.Sprint(p.Len)
		}
		s += fmt.Sprintf(" (%d packets of %s bytes)", n, strings.Join(sizes, ", "))
	}
	return s + "\n"
}

// verdictText is verdict and reason, as `tnat64ctl translate` words them.
func verdictText(r *control.Record) string {
	s := string(r.Verdict)
	if r.Reason != "" {
		s += " " + r.Reason + colon(control.Explanation(r.Reason))
	}
	if r.Limited {
		s += " No ICMP error was sent, because the rate limit was reached (translation.icmp-errors-per-second)."
	}
	return s
}

// summary counts what a trace has shown.
type summary struct {
	total, missed uint64
	verdicts      map[control.Verdict]uint64
	reasons       map[string]uint64
}

func (s *summary) begun() bool { return s.total > 0 }

func (s *summary) add(r *control.Record) {
	if s.verdicts == nil {
		s.verdicts, s.reasons = make(map[control.Verdict]uint64), make(map[string]uint64)
	}
	s.total++
	s.missed += r.Missed
	s.verdicts[r.Verdict]++
	if r.Reason != "" {
		s.reasons[r.Reason]++
	}
}

func (s *summary) String() string {
	var b strings.Builder
	parts := make([]string, 0, 4)
	for _, v := range control.Verdicts() {
		parts = append(parts, fmt.Sprintf("%d %s", s.verdicts[v], v))
	}
	fmt.Fprintf(&b, "%s: %s\n", count(s.total, "packet"), strings.Join(parts, ", "))
	for _, r := range control.Reasons() {
		if n := s.reasons[r]; n > 0 {
			fmt.Fprintf(&b, "%8d %s\n", n, r)
		}
	}
	if s.missed > 0 {
		fmt.Fprintf(&b, "%s missed: they came faster than they were read; narrow the trace, or write it with -w\n", count(s.missed, "packet"))
	}
	return b.String()
}
