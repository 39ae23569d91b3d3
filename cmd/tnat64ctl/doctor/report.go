package doctor

import (
	"encoding/json"
	"fmt"
	"io"
)

// Report is everything the doctor says.
type Report struct {
	Lines     []Line    `json:"findings"`
	Diagnosis Diagnosis `json:"diagnosis"`
	Facts     Findings  `json:"facts"`
}

// NewReport puts findings into words.
func NewReport(f Findings) Report {
	return Report{Lines: Lines(f), Diagnosis: Diagnose(f), Facts: f}
}

// Print writes the report for a person.
func (r Report) Print(w io.Writer) error {
	for _, l := range r.Lines {
		if _, err := fmt.Fprintf(w, "%-8s %-13s  %s\n", l.Result, l.Check, l.Text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\ndiagnosis: %s\nnext step: %s\n", r.Diagnosis.Sentence, r.Diagnosis.Next)
	return err
}

// PrintJSON writes the report for a program, as one object.
func (r Report) PrintJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}
