package main

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// Only a contestant's own programs count, those that ran most, in the direction of
// the row. A program that runs twice for a packet counts twice.
func TestNSPerPacket(t *testing.T) {
	before := bpfState{programs: make(map[ebpf.ProgramID]bpfRun), in: 3, out: 4}
	after := bpfState{programs: make(map[ebpf.ProgramID]bpfRun), in: 3 + 5_000, out: 4 + 10_000}
	for i, p := range []struct {
		name string
		runs uint64
		each time.Duration
	}{
		{"tun_egress", 10_000, 200},
		{"tun_egress", 5_000, 900}, // of another lab
		{"uplink_egress", 10_000, 60},
		{"uplink_translate", 5_000, 80},
		{"tun_translate", 10, 80}, // not of the load
		{"nm_clat_egress_eth", 20_000, 240},
		{"nm_clat_ingress_eth", 10_000, 150},
		{"unknown", 10_000, 1},
	} {
		id := ebpf.ProgramID(i + 1)
		before.programs[id] = bpfRun{name: p.name, runs: 7, time: 7}
		after.programs[id] = bpfRun{name: p.name, runs: 7 + p.runs, time: 7 + time.Duration(p.runs)*p.each}
	}
	for _, test := range []struct {
		c    contestant
		out  bool
		want map[string]float64
	}{
		{&daemon{engine: "kernel"}, true, map[string]float64{"tun_egress": 200, "uplink_egress": 60}},
		{&daemon{engine: "kernel"}, false, map[string]float64{"uplink_translate": 80}},
		{networkManager{}, true, map[string]float64{"nm_clat_egress_eth": 480}},
		{networkManager{}, false, map[string]float64{"nm_clat_ingress_eth": 300}},
	} {
		got := nsPerPacket(before, after, test.c, test.out)
		if len(got) != len(test.want) {
			t.Errorf("%s, out %v: %v, want %v", test.c.id(), test.out, got, test.want)
		}
		for name, ns := range test.want {
			if got[name] != ns {
				t.Errorf("%s, out %v: %v, want %v", test.c.id(), test.out, got, test.want)
			}
		}
	}
	c := costOf("UDP", "kernel", []map[string]float64{{"a": 1, "b": 10}, {"a": 3, "b": 20}, {"a": 2, "b": 90}})
	if c.NS != 23 || c.Low != 11 || c.High != 92 || c.Programs["a"] != 2 || c.Programs["b"] != 20 {
		t.Errorf("%+v", c)
	}
}
