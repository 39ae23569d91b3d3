package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Pages of the repository have tables of results between two markers, which are
// invisible in the page.
const (
	pageBegin = "<!-- benchmarks: %s -->\n"
	pageEnd   = "<!-- /benchmarks -->\n"
)

// pageTables are the tables of pages, by page and name.
var pageTables = map[string]map[string]func(*results, *markdown){
	"README.md": {"short": func(r *results, w *markdown) { r.shares(w, nil); r.source(w) }},
	"docs/comparison.md": {
		"clats": func(r *results, w *markdown) {
			r.shares(w, []string{"nm", "kernel", "user", "clatd", "tayga"})
			r.source(w)
		},
		"programs": func(r *results, w *markdown) { r.shares(w, []string{"tnat64", "shim"}) },
	},
}

// source writes where the numbers are from.
func (r *results) source(w *markdown) {
	kernel, _, _ := strings.Cut(r.Machine.Kernel, " ")
	w.text("\nMeasured by `make bench` on %s at commit %s (Linux %s, %d CPUs, median of %d rounds).\n", r.Made.Format("2006-01-02"), r.Machine.Commit, kernel, r.Machine.CPUs, r.Rounds)
	for _, c := range r.Contestants {
		if c.Absent != "" && !c.Router {
			w.text("%s is missing: it was not installed.\n", c.Title)
		}
	}
}

// shares writes the shares of untranslated IPv6 of the contestants ids, of those on
// the laptop if it is nil, in the rows of the short table that have any.
func (r *results) shares(w *markdown, ids []string) {
	cs, _ := r.present(false)
	cs = cs[1:]
	if ids != nil {
		var chosen []contestantResult
		for _, id := range ids {
			if i := slices.IndexFunc(cs, func(c contestantResult) bool { return c.ID == id }); i >= 0 {
				chosen = append(chosen, cs[i])
			}
		}
		cs = chosen
	}
	titles := []string{"share of untranslated IPv6"}
	for _, c := range cs {
		titles = append(titles, c.Title)
	}
	w.header(titles...)
	for _, row := range shortRows {
		cells := []string{row.title}
		found := false
		for _, c := range cs {
			var parts []string
			for _, id := range row.loads {
				text := "–"
				if s, ok := r.summary(id, c.ID); ok {
					text, found = value(float64(s.Ratio)), true
				}
				parts = append(parts, text)
			}
			cells = append(cells, strings.Join(parts, " / "))
		}
		if found {
			w.row(cells...)
		}
	}
}

// writePages replaces the tables of the pages below root.
func (r *results) writePages(root string) error {
	if r.Quick {
		return errors.New("a quick run is not to be quoted")
	}
	for page, tables := range pageTables {
		path := filepath.Join(root, page)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for name, table := range tables {
			w := &markdown{}
			table(r, w)
			if text, err = replaceTable(text, name, w.Bytes()); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// replaceTable replaces what is between the markers of a table in text.
func replaceTable(text []byte, name string, table []byte) ([]byte, error) {
	marker := fmt.Appendf(nil, pageBegin, name)
	before, rest, ok := bytes.Cut(text, marker)
	if !ok {
		return nil, fmt.Errorf("the marker %q is missing", bytes.TrimSpace(marker))
	}
	_, after, ok := bytes.Cut(rest, []byte(pageEnd))
	if !ok {
		return nil, fmt.Errorf("the table %q has no end", name)
	}
	return slices.Concat(before, marker, table, []byte(pageEnd), after), nil
}
