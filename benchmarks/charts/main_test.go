package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRenderPartialResults draws results of runs that measured only some parts, as
// -only and -contestants leave them, or that were made with an older program.
func TestRenderPartialResults(t *testing.T) {
	const (
		contestants = `"Contestants": [{"ID": "native", "Title": "IPv6"}, {"ID": "user", "Title": "user"}]`
		load        = `{"ID": "udp/64-up", "Title": "UDP", "Unit": {"Cost": "million datagrams"}}`
		summary     = `{"Load": "udp/64-up", "Contestant": "user", "Ratio": 0.5, "Low": 0.4, "High": 0.6, "Machine": 9, "machine_low": 8, "machine_high": 10}`
	)
	tests := []struct {
		name, json string
		files      []string
	}{
		{"nothing", `{}`, nil},
		{"contestants without loads", `{` + contestants + `}`, nil},
		{"loads without contestants", `{"Loads": [` + load + `]}`, nil},
		{"all contestants absent", `{"Contestants": [{"ID": "native", "Absent": "no"}], "Loads": [` + load + `]}`, nil},
		{"untranslated IPv6 alone", `{"Contestants": [{"ID": "native", "Title": "IPv6"}], "Loads": [` + load + `]}`, nil},
		{"loads without summaries", `{` + contestants + `, "Loads": [` + load + `]}`, []string{"main.svg", "short-dark.svg", "short.svg"}},
		{"series without summaries", `{` + contestants + `, "Loads": [{"ID": "growth/flows-1", "Series": "flows", "X": 1}]}`, nil},
		{"none of the eight loads of the short chart", `{` + contestants + `, "Loads": [{"ID": "udp/512-up"}]}`, []string{"main.svg"}},
		{"translator without times", `{` + contestants + `, "Translator": [{"Name": "EAM/hit/10"}, {"Name": "EAM"}]}`, nil},
		{"only the translator", `{` + contestants + `, "Translator": [{"Name": "EAM/hit/10", "ns_per_op": [5]}]}`, []string{"growth.svg"}},
		{"one load", `{` + contestants + `, "Loads": [` + load + `], "Summaries": [` + summary + `]}`, []string{"main.svg", "short-dark.svg", "short.svg"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "results.json"), []byte(test.json), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := render(dir); err != nil {
				t.Fatal(err)
			}
			drawn, err := filepath.Glob(filepath.Join(dir, "*.svg"))
			if err != nil {
				t.Fatal(err)
			}
			if len(drawn) != len(test.files) {
				t.Fatalf("drawn: %v, want %v", drawn, test.files)
			}
			for i, path := range drawn {
				if filepath.Base(path) != test.files[i] {
					t.Errorf("drawn: %v, want %v", drawn, test.files)
				}
			}
		})
	}
}
