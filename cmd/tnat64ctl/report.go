package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"tnat64d/siit"
)

// report writes the verdict on each packet, as text or as JSON.
type report struct {
	w       *bufio.Writer
	json    *json.Encoder // nil: text
	total   int
	verdict [3]int
	reason  [siit.NumReasons]int
}

func newReport(w io.Writer, asJSON bool) *report {
	r := &report{w: bufio.NewWriter(w)}
	if asJSON {
		r.json = json.NewEncoder(r.w)
	}
	return r
}

// line is one line of -json. Scripts rely on its fields.
type line struct {
	N       int      `json:"n"`
	Verdict string   `json:"verdict"`
	Reason  string   `json:"reason"` // empty if translated
	Out     []string `json:"out"`    // never null
}

// packet reports packet n. in is the input of the translator, nil if it was not
// an IP packet.
func (r *report) packet(n int, in []byte, res siit.Result) error {
	r.total++
	r.verdict[res.Verdict]++
	r.reason[res.Reason]++
	if r.json != nil {
		l := line{N: n, Verdict: res.Verdict.String(), Out: make([]string, len(res.Packets))}
		if res.Reason != siit.None {
			l.Reason = res.Reason.String()
		}
		for i, p := range res.Packets {
			l.Out[i] = hex.EncodeToString(p.Bytes())
		}
		return r.json.Encode(l)
	}

	sizes := make([]string, len(res.Packets))
	for i, p := range res.Packets {
		sizes[i] = fmt.Sprint(len(p.Bytes()))
	}
	what := res.Verdict.String()
	switch {
	case res.Verdict == siit.Translated && len(sizes) == 1:
		what += " to " + sizes[0] + " bytes"
	case res.Verdict == siit.Translated:
		what += fmt.Sprintf(" to %d packets of %s bytes", len(sizes), strings.Join(sizes, ", "))
	default:
		what += " " + res.Reason.String() + ": " + res.Reason.Explanation()
	}
	_, err := fmt.Fprintf(r.w, "%d %s: %s\n", n, describe(in), what)
	return err
}

// end writes the summary if the whole capture was read, and flushes w.
func (r *report) end(whole bool) error {
	if whole && r.json == nil {
		fmt.Fprintf(r.w, "%d packets: %d translated, %d reply, %d drop\n",
			r.total, r.verdict[siit.Translated], r.verdict[siit.Reply], r.verdict[siit.Drop])
		for reason, n := range r.reason {
			if reason := siit.Reason(reason); n > 0 && reason != siit.None {
				fmt.Fprintf(r.w, "%8d %s\n", n, reason)
			}
		}
	}
	return r.w.Flush()
}
