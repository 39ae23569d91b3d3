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

// verdictWriter writes the verdict on each packet, as text or as JSON.
type verdictWriter struct {
	w       *bufio.Writer
	json    *json.Encoder // nil: text
	total   int
	verdict [3]int
	reason  [siit.NumReasons]int
}

func newVerdictWriter(w io.Writer, asJSON bool) *verdictWriter {
	v := &verdictWriter{w: bufio.NewWriter(w)}
	if asJSON {
		v.json = json.NewEncoder(v.w)
	}
	return v
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
func (v *verdictWriter) packet(n int, in []byte, res siit.Result) error {
	v.total++
	v.verdict[res.Verdict]++
	v.reason[res.Reason]++
	if v.json != nil {
		l := line{N: n, Verdict: res.Verdict.String(), Out: make([]string, len(res.Packets))}
		if res.Reason != siit.None {
			l.Reason = res.Reason.String()
		}
		for i, p := range res.Packets {
			l.Out[i] = hex.EncodeToString(p.Bytes())
		}
		return v.json.Encode(l)
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
	_, err := fmt.Fprintf(v.w, "%d %s: %s\n", n, describe(in), what)
	return err
}

// end writes the summary if the whole capture was read, and flushes w.
func (v *verdictWriter) end(whole bool) error {
	if whole && v.json == nil {
		fmt.Fprintf(v.w, "%d packets: %d translated, %d reply, %d drop\n",
			v.total, v.verdict[siit.Translated], v.verdict[siit.Reply], v.verdict[siit.Drop])
		for reason, n := range v.reason {
			if reason := siit.Reason(reason); n > 0 && reason != siit.None {
				fmt.Fprintf(v.w, "%8d %s\n", n, reason)
			}
		}
	}
	return v.w.Flush()
}
