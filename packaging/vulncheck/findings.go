package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// message is what we read of govulncheck's JSON.
type message struct {
	OSV *struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"osv"`
	Finding *struct {
		OSV   string `json:"osv"`
		Fixed string `json:"fixed_version"`
		Trace []struct {
			Module   string `json:"module"`
			Version  string `json:"version"`
			Function string `json:"function"`
		} `json:"trace"` // from the vulnerable symbol to our code
	} `json:"finding"`
}

// vulnerability is one that our programs call.
type vulnerability struct {
	id, summary     string
	module, version string
	fixed           string // version without it, or empty
}

// stdlib is how govulncheck calls Go's standard library.
const stdlib = "stdlib"

// read returns the vulnerabilities whose code is called, each once, sorted.
// What is only imported or required is left out.
func read(out []byte) ([]vulnerability, error) {
	summaries := make(map[string]string)
	var all []vulnerability
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var m message
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("output of govulncheck: %w", err)
		}
		if m.OSV != nil {
			summaries[m.OSV.ID] = m.OSV.Summary
		}
		if f := m.Finding; f != nil && len(f.Trace) > 0 && f.Trace[0].Function != "" {
			all = append(all, vulnerability{id: f.OSV, module: f.Trace[0].Module, version: f.Trace[0].Version, fixed: f.Fixed})
		}
	}
	for i := range all {
		all[i].summary = summaries[all[i].id]
	}
	slices.SortFunc(all, func(a, b vulnerability) int { return cmp.Or(cmp.Compare(a.module, b.module), cmp.Compare(a.id, b.id)) })
	return slices.Compact(all), nil
}

// report prints the vulnerabilities, and returns how many are in modules and
// how many in the standard library.
func report(w io.Writer, all []vulnerability) (modules, std int) {
	for _, v := range all {
		how := "warning"
		if v.module == stdlib {
			std++
		} else {
			how = "error"
			modules++
		}
		fmt.Fprintf(w, "%s: %s in %s %s: %s (%s)\n", how, v.id, v.module, v.version, v.summary, cmp.Or(fixedIn(v), "no fixed version yet"))
	}
	fmt.Fprintf(w, "vulnerable code that is called: %d in modules, %d in Go's standard library\n", modules, std)
	return modules, std
}

func fixedIn(v vulnerability) string {
	if v.fixed == "" {
		return ""
	}
	return "fixed in " + v.fixed
}
