package main

import (
	"fmt"
	"slices"
	"strings"
)

// suite is the tests of a package.
type suite struct {
	dir string
	// Machines run side by side: software emulation as it is used here (see
	// boot) keeps one processor of the host busy, and the host has two.
	machine int
	skip    string // tests that are not run, as in go test -skip
}

var suites = []suite{
	// The demo downloads 1 GB, which takes minutes. What it shows the other
	// tests show as well.
	{"cmd/tnat64-lab", 0, "^TestDemo$/^(default|built-in)$"},
	{"tun", 1, ""},
	{"pref64", 1, ""},
	{"clat", 1, ""},
	{"clat/engine", 1, ""},
	{"clat/steer", 1, ""},
	{"cmd/tnat64d", 1, ""},
	{"cmd/tnat64-lab/lab", 1, ""},
}

// choose returns the suites of the directories in a list with commas, or all.
func choose(list string) ([]suite, error) {
	if list == "" {
		return suites, nil
	}
	var chosen []suite
	for dir := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(suites, func(s suite) bool { return s.dir == dir })
		if i < 0 {
			return nil, fmt.Errorf("no tests of %q are run; there are those of %s", dir, strings.Join(directories(suites), ", "))
		}
		chosen = append(chosen, suites[i])
	}
	return chosen, nil
}

// byMachine divides suites among machines.
func byMachine(all []suite) [][]suite {
	machines := map[int][]suite{}
	for _, s := range all {
		machines[s.machine] = append(machines[s.machine], s)
	}
	var lists [][]suite
	for _, m := range machines {
		lists = append(lists, m)
	}
	return lists
}

func directories(all []suite) (dirs []string) {
	for _, s := range all {
		dirs = append(dirs, s.dir)
	}
	return dirs
}
