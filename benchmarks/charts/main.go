// Command charts draws the results of the benchmarks: it reads results.json of
// a directory and writes main.svg, cpu.svg and growth.svg beside it, and the
// eight loads of short.svg and short-dark.svg.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "Usage: charts DIR    (the directory of results.json)")
		os.Exit(2)
	}
	if err := render(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "charts: %v\n", err)
		os.Exit(1)
	}
}

// render writes all charts for which there are results.
func render(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		return err
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("results.json: %w", err)
	}
	for _, chart := range []struct {
		name string
		draw func(*results) (plots [][]*plot.Plot, width, height float64)
	}{
		{"short.svg", inShort(light)},
		{"short-dark.svg", inShort(dark)},
		{"main.svg", ratios},
		{"cpu.svg", cpu},
		{"growth.svg", growth},
	} {
		plots, width, height := chart.draw(&r)
		if len(plots) == 0 {
			continue
		}
		path := filepath.Join(dir, chart.name)
		if err := save(path, plots, width, height); err != nil {
			return fmt.Errorf("%s: %w", chart.name, err)
		}
		fmt.Println(path)
	}
	return nil
}

// footer says where the numbers are from.
func (r *results) footer() string {
	quick := ""
	if r.Quick {
		quick = ", a quick run"
	}
	kernel, _, _ := strings.Cut(r.Machine.Kernel, " ")
	return fmt.Sprintf("%s, %d CPUs, Linux %s, %s\nmedian of %d rounds, thin lines from the least to the most%s",
		r.Machine.CPU, r.Machine.CPUs, kernel, r.Made.Format("2006-01-02"), r.Rounds, quick)
}
