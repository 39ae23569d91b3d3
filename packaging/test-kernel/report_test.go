package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestVerdict feeds a machine's report what init could say.
func TestVerdict(t *testing.T) {
	const (
		up     = `{"Kernel":"6.1"}` + "\n"
		passed = `{"Output":"\u0016=== RUN   TestA"}` + "\n" + `{"Output":"\u0016--- PASS: TestA (0.00s)"}` + "\n"
		exit   = `{"Exit":{"Status":0,"Seconds":1}}` + "\n"
		done   = `{"Done":{"Tainted":0}}` + "\n"
	)
	for _, c := range []struct{ name, events, want string }{
		{"all is well", up + passed + exit + done, ""},
		{"no sign of life", "", "the kernel did not reach the end; missing: tun"},
		{"cut off", up + passed + `{"Exi`, "the kernel did not reach the end; missing: tun"},
		{"cut off after the last package", up + passed + exit, "the kernel did not reach the end"},
		{"failed", up + passed + strings.Replace(exit, "0", "2", 1) + done, "tun: 0 tests failed, exit status 2"},
		{"no test", up + exit + done, "tun: no test ran"},
		{"processes left", up + passed + strings.Replace(exit, `1}`, `1,"Left":["12: sleep 60"]}`, 1) + done, "tun: processes left behind: 12: sleep 60"},
		{"a kernel warning", up + passed + exit + strings.Replace(done, "0", "512", 1), "the kernel is tainted (512)"},
		{"init failed", up + `{"Failed":"load tun: no such file"}` + "\n", "init: load tun: no such file"},
		{"more than the plan", up + passed + exit + passed + exit + done, "more than it was told to"},
		{"not an event", "hello\n" + up + passed + exit + done, "not understood"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &report{suites: []string{"tun"}}
			r.readEvents(strings.NewReader(c.events))
			err := r.verdict()
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A test that failed by what it found runs once more. One that panicked, did not end
// or left something behind does not.
func TestFailedAlone(t *testing.T) {
	const (
		run  = `{"Output":"\u0016=== RUN   TestA"}` + "\n" + `{"Output":"\u0016=== RUN   TestA/x"}` + "\n"
		fail = `{"Output":"\u0016--- FAIL: TestA (0.00s)"}` + "\n" + `{"Output":"\u0016--- FAIL: TestA/x (0.00s)"}` + "\n"
		end  = `{"Exit":{"Status":1}}` + "\n" + `{"Done":{"Tainted":0}}` + "\n"
	)
	for _, c := range []struct {
		name, events string
		again        []string
	}{
		{"failed", run + fail + end, []string{"TestA"}},
		{"panicked", run + fail + `{"Output":"panic: nil"}` + "\n" + end, nil},
		{"did not end", run + end, nil},
		{"left a process", run + fail + strings.Replace(end, `1}`, `1,"Left":["12: sleep 60"]}`, 1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &report{suites: []string{"tun"}}
			r.readEvents(strings.NewReader(`{"Kernel":"6.1"}` + "\n" + c.events))
			err := r.verdict()
			if !slices.Equal(r.again["tun"], c.again) || (err == nil) != (c.again != nil) {
				t.Errorf("again %q, %v", r.again["tun"], err)
			}
		})
	}
}

func TestSuites(t *testing.T) {
	for _, dir := range directories(slices.Concat(suites, arm64Suites)) {
		if files, err := filepath.Glob(filepath.Join("..", "..", dir, "*_test.go")); err != nil || len(files) == 0 {
			t.Errorf("%s has no tests: %v", dir, err)
		}
	}
	s := suite{run: networks}
	if got, want := s.only([]string{"TestUplinkName", "TestNetworkKinds"}), "^TestUplinkName$|"+alternatives(networks)[0]; got != want || !strings.HasPrefix(want, "^TestUplinkName$|^TestNetworkKinds$/^(bridge|") {
		t.Errorf("once more: %s, want %s", got, want)
	}
	if _, err := choose(suites, "tun,nun"); err == nil {
		t.Error("a directory that does not exist is not noticed")
	}
	chosen, err := choose(suites, "tun,e2e:bulk,internal/lab")
	if err != nil {
		t.Fatal(err)
	}
	if lists := byMachine(chosen); len(lists) != 2 || len(lists[0])+len(lists[1]) != 3 {
		t.Errorf("machines: %v", lists)
	}
}
