package main

import (
	"bytes"
	"math"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestPageLayout holds the layout to that of struct page in programs/load.c:
// 64 bytes of head, eight lanes of 64 bytes, 2,048 buckets.
func TestPageLayout(t *testing.T) {
	var p page
	if at := unsafe.Offsetof(p.lanes); at != 64 {
		t.Errorf("lanes at %d", at)
	}
	if at := unsafe.Offsetof(p.latency); at != 64+8*64 {
		t.Errorf("latency at %d", at)
	}
	if size := unsafe.Sizeof(p); size != 64+8*64+2048*8 {
		t.Errorf("%d bytes", size)
	}
}

// TestBuckets checks that buckets follow each other without a gap, and are
// found by the formula of observe in programs/load.c.
func TestBuckets(t *testing.T) {
	var end float64
	for i := range 1500 {
		low, width := bucket(i)
		if low != end || width > max(1, low/32) {
			t.Fatalf("bucket %d is %g + %g, after %g", i, low, width, end)
		}
		end = low + width
		if ns := uint64(low); ns >= 32 && ns < 1<<40 {
			e := 63
			for ns>>e == 0 {
				e--
			}
			if found := (e-4)*32 + int(ns>>(e-5)&31); found != i {
				t.Fatalf("%d ns is counted in bucket %d, not %d", ns, found, i)
			}
		}
	}
}

func TestQuantile(t *testing.T) {
	var before, after counts
	if q := quantile(&before, &after, 0.5); q != 0 {
		t.Errorf("of nothing: %g", q)
	}
	before.latency[10] = 5 // was there before
	after.latency[10] = 5
	after.latency[100], after.latency[200] = 98, 2
	low, width := bucket(100)
	if q := quantile(&before, &after, 0.5); q < low || q > low+width {
		t.Errorf("median %g, not in %g + %g", q, low, width)
	}
	low, width = bucket(200)
	if q := quantile(&before, &after, 0.99); q < low || q > low+width {
		t.Errorf("99th percentile %g, not in %g + %g", q, low, width)
	}
}

func TestSummarise(t *testing.T) {
	l := load{ID: "x", Unit: datagrams}
	at := func(who string, round int, value, cpu float64) sample {
		return sample{Load: "x", Contestant: who, Round: round, Value: value, Units: uint64(value), MachineCPU: cpu}
	}
	r := results{Contestants: []contestantResult{{ID: "native"}, {ID: "a"}, {ID: "b"}}, samples: []sample{
		at("native", 1, 1e6, 1), at("native", 2, 2e6, 2), at("native", 3, 1e6, 1),
		at("a", 1, 5e5, 1), at("a", 2, 1e6, 2), at("a", 3, 8e5, 0.8),
		at("b", 4, 1e6, 1), // of a round in which native failed
		at("a-shared", 1, 4e5, 1), at("a-shared", 3, 8e5, 1), at("a-shared", 4, 1e6, 1),
	}}
	s, ok := r.summaryOf(l, "a")
	if !ok || s.Rounds != 3 || s.Value != 8e5 || s.Ratio != 0.5 || s.Low != 0.5 || s.High != 0.8 || s.Machine != 2 || s.MachineLow != 1 || s.MachineHigh != 2 {
		t.Errorf("%+v", s)
	}
	if s, ok := r.summaryOf(l, "b"); !ok || !math.IsNaN(float64(s.Ratio)) {
		t.Errorf("without a baseline: %+v", s)
	}
	if s, ok := r.summaryOf(l, "a-shared"); !ok || s.Shared != 0.9 || s.SharedLow != 0.8 || s.SharedHigh != 1 {
		t.Errorf("beside an address of its own: %+v", s)
	}
	if _, ok := r.summaryOf(l, "c"); ok {
		t.Error("a contestant without samples has a summary")
	}
}

// TestReportFromResults checks that the committed report is that of the
// committed results.
func TestReportFromResults(t *testing.T) {
	r, err := readResults("results")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("results/report.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.report(); !bytes.Equal(got, want) {
		t.Errorf("results/report.md is not the report of results/results.json; go run ./benchmarks -report benchmarks/results writes it")
	}
}

func TestParseBench(t *testing.T) {
	got := parseBench("goos: linux\nBenchmark4to6/TCP64-2  \t 100 \t  63.7 ns/op\t1004.00 MB/s\t 0 B/op\t 0 allocs/op\n" +
		"Benchmark4to6/TCP64-2 100 70 ns/op 0 B/op 1 allocs/op\nBenchmarkEAM/hit/10 \t 5\t 86.04 ns/op\t 0 B/op\t 0 allocs/op\nPASS\n")
	if len(got) != 2 || got[0].Name != "4to6/TCP64" || !slices.Equal(got[0].NS, []float64{63.7, 70}) || got[0].Allocs != 1 || got[1].Name != "EAM/hit/10" {
		t.Errorf("%+v", got)
	}
}

// TestClocks reads the clocks around some work of this process.
func TestClocks(t *testing.T) {
	before, err := read(os.Getpid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); {
	}
	after, err := read(os.Getpid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := after.translator - before.translator; d <= 0 || d > 10*time.Second {
		t.Errorf("this process has worked for %s", d)
	}
	if busy := after.busy(before); busy <= 0 || busy > time.Duration(after.cpus)*after.at.Sub(before.at) {
		t.Errorf("%d CPUs were busy for %s in %s", after.cpus, busy, after.at.Sub(before.at))
	}
	if now, peak, err := readMemory(os.Getpid()); err != nil || now <= 0 || peak < now {
		t.Errorf("memory %d, at its peak %d, %v", now, peak, err)
	}
}

// TestCounters counts with a counter that every kernel has, in the way that
// instructions are counted where there is a PMU.
func TestCounters(t *testing.T) {
	p, err := openCounters(unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_CPU_CLOCK)
	if err != nil {
		t.Skipf("perf_event_open is not for us: %v", err)
	}
	defer p.close()
	before, err := p.read()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	if after, err := p.read(); err != nil || after <= before {
		t.Errorf("from %d to %d, %v", before, after, err)
	}
}
