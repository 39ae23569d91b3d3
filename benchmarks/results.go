package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// results is what a run has measured: results.json, from which report.md and
// the charts are made.
type results struct {
	Made    time.Time `json:"made"`
	Took    float64   `json:"took_s"`
	Quick   bool      `json:"quick,omitempty"`
	Rounds  int       `json:"rounds"`
	Window  float64   `json:"window_s"`
	Rate    int       `json:"rate"` // datagrams per second of loads at a fixed rate
	Machine machine   `json:"machine"`

	Contestants  []contestantResult `json:"contestants"`
	Loads        []load             `json:"loads"`
	Summaries    []summary          `json:"summaries"`
	Missing      []missing          `json:"missing,omitempty"`
	Coverage     []coverage         `json:"coverage,omitempty"`
	Translator   []translation      `json:"translator,omitempty"`
	Instructions []instructions     `json:"instructions,omitempty"`
	Programs     []bpfProgram       `json:"bpf_programs,omitempty"`
	BPFCosts     []bpfCost          `json:"bpf_costs,omitempty"`
	Notes        []string           `json:"notes,omitempty"`

	samples   []sample // single measurements, of which Summaries are made
	benchstat []byte   // siit.txt: what the benchmarks of the translator printed
}

// contestantResult is a contestant and what became of it.
type contestantResult struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	About   string `json:"about"`
	Version string `json:"version,omitempty"`
	Absent  string `json:"absent,omitempty"` // why it did not take part
	PeakRSS int64  `json:"peak_rss,omitempty"`
	Router  bool   `json:"router,omitempty"` // it runs on the router
	Process bool   `json:"process"`          // it has a process, the CPU time of which can be read
}

// missing is a measurement that did not come about.
type missing struct {
	Load       string `json:"load"`
	Contestant string `json:"contestant"`
	Round      int    `json:"round,omitempty"` // 0: it was not tried
	Why        string `json:"why"`
}

// contestant returns the result of that contestant, or nil.
func (r *results) contestant(id string) *contestantResult {
	for i := range r.Contestants {
		if r.Contestants[i].ID == id {
			return &r.Contestants[i]
		}
	}
	return nil
}

// readResults reads results.json of dir.
func readResults(dir string) (*results, error) {
	data, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		return nil, err
	}
	r := &results{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "results.json"), err)
	}
	return r, nil
}

// write writes results.json, report.md and, if there is one, siit.txt into dir.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r.summarise()
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(compact(data), '\n'), 0o644); err != nil {
		return err
	}
	if r.benchstat != nil {
		if err := os.WriteFile(filepath.Join(dir, "siit.txt"), r.benchstat, 0o644); err != nil {
			return err
		}
	}
	return r.writeReport(dir)
}

func (r *results) writeReport(dir string) error {
	return os.WriteFile(filepath.Join(dir, "report.md"), r.report(), 0o644)
}

// deep matches line breaks inside the second level of indented JSON.
var deep = regexp.MustCompile(`\n   +|\n  ([]}])`)

// compact puts each element of the top-level arrays of indented JSON on one line.
func compact(indented []byte) []byte { return deep.ReplaceAll(indented, []byte("$1")) }
