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
	extra     bool   // runs only if it is named
	parallel  int    // tests at once; 0: as many as the tests themselves choose
}

const (
	// The tests that move much data, apart from the rest of their package
	// because together they take too long.
	bulk = "^Test(Traffic|LinkMTU)$"
	// What depends on the kernel most. The others are about the network and
	// about words, and would take too long in emulation.
	core = "^Test(Demo|DemoInterrupted|Killed|Native|NativeIPv4|PREF64Lengths|Restart|Roam|TwoUplinks|Withdrawn|HostileAdvertisements)$"
	// Of the links that Debian's kernels have as modules, the one without link
	// header.
	ppp = "^TestNetworkKinds$/^ppp$/^kernel$"
	// All links that a machine that runs the other tests may not have, and some
	// that it has: what is special about them may differ between kernels.
	networks = "^TestNetworkKinds$/^(bridge|bond|vlan|ppp|noarp|raw-ip|wireguard|gre)$|^Test(PointToPoint|UplinkBelow|UplinkName)$"
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
	{name: "e2e:bulk", dir: "e2e", machine: 0, run: bulk},
	{name: "tun", dir: "tun", machine: 0},
	{name: "pref64", dir: "pref64", machine: 0, run: sockets},

	{name: "e2e", dir: "e2e", machine: 1, run: core + "|" + ppp, skip: slow},

	{name: "cmd/tnat64d", dir: "cmd/tnat64d", machine: 2, parallel: 4},
	{name: "internal/lab", dir: "internal/lab", machine: 2},
	{name: "datapath/engine", dir: "datapath/engine", machine: 2, run: realTUN},
	{name: "datapath/steer", dir: "datapath/steer", machine: 2},

	{name: "e2e:networks", dir: "e2e", machine: 0, run: networks, extra: true, parallel: 4},
	{name: "plat/nat44", dir: "plat/nat44", machine: 2, extra: true},
}

// arm64Suites are those for arm64: the translator, the system calls of the shim,
// the BPF objects, and traffic through the daemon.
var arm64Suites = []suite{
	{name: "siit", dir: "siit"},
	{name: "shim", dir: "shim"},
	{name: "tun", dir: "tun"},
	{name: "datapath/engine", dir: "datapath/engine"},
	{name: "datapath/steer", dir: "datapath/steer"},
	{name: "e2e", dir: "e2e", run: "^Test(Native|Restart)$"},
	{name: "e2e:networks", dir: "e2e", run: networks, extra: true, parallel: 4},
}

// choose returns those of all suites that are in a list of names with commas; all
// of them but the extra ones without a list.
func choose(all []suite, list string) ([]suite, error) {
	if list == "" {
		return slices.DeleteFunc(slices.Clone(all), func(s suite) bool { return s.extra }), nil
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

// only returns the pattern for some tests of the suite, without the subtests that the
// suite's own pattern leaves out.
func (s suite) only(tests []string) string {
	var patterns []string
	for _, test := range tests {
		pattern := "^" + test + "$"
		for _, p := range alternatives(s.run) {
			if strings.HasPrefix(p, pattern+"/") {
				pattern = p
			}
		}
		patterns = append(patterns, pattern)
	}
	return strings.Join(patterns, "|")
}

// alternatives splits a pattern at each "|" that is not in parentheses.
func alternatives(pattern string) (list []string) {
	depth, begin := 0, 0
	for i, c := range pattern {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '|' && depth == 0:
			list, begin = append(list, pattern[begin:i]), i+1
		}
	}
	return append(list, pattern[begin:])
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
