package main

import (
	"fmt"
	"slices"
	"strings"
)

// suite is tests of a package.
type suite struct {
	name, dir string
	// The suites of a machine run one after another, and machines side by
	// side: software emulation as it is used here (see boot) is one thread
	// each, which waits for the tests' own clocks nearly half of the time.
	machine   int
	run, skip string // which tests, as in go test; "" means all and none
}

const (
	// The tests that move much data, apart from the rest of their package
	// because together they take too long.
	bulk = "^Test(Traffic|LinkMTU)$"
	// What depends on the kernel most. The others are about the network and
	// about words, and would take too long in emulation.
	core = "^Test(Demo|DemoInterrupted|Killed|Native|NativeIPv4|PREF64Lengths|Restart|Roam|TwoUplinks|Withdrawn|HostileAdvertisements)$"
	// The demo downloads 1 GB, which would take minutes, and shows nothing
	// that the others do not. Slow as it is here, a program that gets an
	// interrupt after 100 ms has not yet begun.
	slow = "^TestDemo$/^(default|built-in)$|^TestDemoInterrupted$/^100ms$"
	// The tests of these packages that ask the kernel for something. The others
	// are the same code on every kernel.
	sockets = "^Test(Dial|RASource.*|UserOptOverrun|Receive.*)$"
	realTUN = "^TestReal"
)

var suites = []suite{
	{"e2e:bulk", "e2e", 0, bulk, ""},
	{"tun", "tun", 0, "", ""},
	{"pref64", "pref64", 0, sockets, ""},

	{"e2e", "e2e", 1, core, slow},

	{"cmd/tnat64d", "cmd/tnat64d", 2, "", ""},
	{"internal/lab", "internal/lab", 2, "", ""},
	{"datapath/engine", "datapath/engine", 2, realTUN, ""},
	{"datapath/steer", "datapath/steer", 2, "", ""},
}

// arm64Suites are those for arm64: the translator, the system calls of the shim,
// the BPF objects, and traffic through the daemon.
var arm64Suites = []suite{
	{"siit", "siit", 0, "", ""},
	{"shim", "shim", 0, "", ""},
	{"tun", "tun", 0, "", ""},
	{"datapath/engine", "datapath/engine", 0, "", ""},
	{"datapath/steer", "datapath/steer", 0, "", ""},
	{"e2e", "e2e", 0, "^Test(Native|Restart)$", ""},
}

// choose returns those of all suites that are in a list of names with commas; all
// of them without a list.
func choose(all []suite, list string) ([]suite, error) {
	if list == "" {
		return all, nil
	}
	var chosen []suite
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(s suite) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no suite %q, but %s", name, strings.Join(names(all), ", "))
		}
		chosen = append(chosen, all[i])
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

func names(all []suite) (list []string) {
	for _, s := range all {
		list = append(list, s.name)
	}
	return list
}

// directories returns the packages of suites, each once.
func directories(all []suite) (dirs []string) {
	for _, s := range all {
		if !slices.Contains(dirs, s.dir) {
			dirs = append(dirs, s.dir)
		}
	}
	return dirs
}
