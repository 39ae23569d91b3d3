package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tnat64d/internal/lab"
	"tnat64d/internal/needs"
)

// TestMain lets the test binary be the command, and the Go program of the
// coverage table.
func TestMain(m *testing.M) {
	if os.Getenv("BENCHMARKS_MAIN") == "1" || len(os.Args) > 1 && os.Args[1] == goProgram {
		main()
		return
	}
	os.Exit(m.Run())
}

func needLab(t *testing.T) {
	t.Helper()
	needs.Root(t, "makes network namespaces")
	_, err := exec.LookPath("gcc")
	needs.That(t, err == nil, "gcc: the load generator is in C")
}

// brief are settings of a run of seconds.
func brief(t *testing.T, only ...string) settings {
	return settings{only: only, out: t.TempDir(), rounds: 1, window: 40 * time.Millisecond, rate: 1000, quick: true, patience: 20 * time.Second}
}

// measured runs the benchmarks and returns what they wrote.
func measured(t *testing.T, s settings, all []contestant) (r results, report string) {
	t.Helper()
	if err := bench(t.Context(), s, all, t.Output()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(s.out, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(s.out, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	return r, string(text)
}

// beyondTNAT64 begins the names of programs that tnat64 COMMAND cannot help:
// they gain privilege, listen for IPv4, or call the kernel by io_uring.
var beyondTNAT64 = []string{"setuid", "listening", "program that connects by io_uring"}

func hasAnyPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// TestBench runs every kind of load on every contestant that is installed, the
// coverage table, and the charts.
func TestBench(t *testing.T) {
	needLab(t)
	t.Parallel()
	s := brief(t, "tcp/1-up", "tcp/4-down", "udp/64-*", "udp/gso-down", "rr/*", "connect", "many", "fragments/fixed", "growth/flows-*", "growth/eam-1000", "gateway/tcp-up", "gateway/udp-64-down", "gateway/connect", "gateway/maps-100000-udp", "coverage")
	r, report := measured(t, s, contestants())
	starved := 0 // a window of 40 ms can be too short on a busy machine
	for _, l := range r.Loads {
		for _, c := range r.Contestants {
			sum, measured := r.summary(l.ID, c.ID)
			why := r.why(l.ID, c.ID)
			switch {
			case c.Absent != "":
				t.Logf("%s is absent: %s", c.Title, c.Absent)
			case l.Router != c.Router && c.ID != "native":
				if measured {
					t.Errorf("%s, %s: %+v", l.ID, c.ID, sum)
				}
			case l.Series == maps && c.ID != "native" && !strings.HasPrefix(c.ID, "gateway-"):
				if measured {
					t.Errorf("%s, %s: %+v", l.ID, c.ID, sum)
				}
			case l.ID == "growth/eam-1000" && c.ID != "native" && c.ID != "user" && c.ID != "kernel":
				if measured {
					t.Errorf("%s, %s: %+v", l.ID, c.ID, sum)
				}
			case c.ID == "shim" && !l.tcp():
				if why != "TCP only" || measured {
					t.Errorf("%s, %s: %+v, %q", l.ID, c.ID, sum, why)
				}
			case (c.ID == "nm" || c.ID == "clatd") && why == "not measured" || c.ID == "nm" && why == "drops them":
				if measured {
					t.Errorf("%s, %s: %+v, %q", l.ID, c.ID, sum, why)
				}
			case sum.Rounds != 1:
				t.Errorf("%s, %s: measured in %d rounds, %q", l.ID, c.ID, sum.Rounds, why)
			case sum.Value <= 0:
				starved++
			}
		}
	}
	if starved > len(r.Summaries)/4 {
		t.Errorf("%d of %d measurements saw nothing arrive", starved, len(r.Summaries))
	}
	for _, words := range []string{"Share of untranslated IPv6", "| TCP, 1 stream up |", "Time until the answer", "Which programs work", "| TCP, 4 streams up |", "| UDP, 64 bytes up, 100,000 maps |"} {
		if !strings.Contains(report, words) {
			t.Errorf("%q is missing in the report", words)
		}
	}
	for _, x := range r.Coverage {
		absent := r.contestant(x.Contestant).Absent != ""
		translated := x.Contestant != "native" && x.Contestant != "shim" && x.Contestant != "nm" && x.Contestant != "clatd"
		if x.Contestant == "tnat64" && hasAnyPrefix(x.Program, beyondTNAT64) {
			translated = false
		}
		if !absent && x.Tried && translated && !x.Works {
			t.Errorf("%s with %s: %s", x.Program, x.Contestant, x.Says)
		}
		if x.Contestant == "native" && x.Works {
			t.Errorf("%s works without help: %s", x.Program, x.Says)
		}
	}
	if len(r.Coverage) == 0 {
		t.Error("no coverage")
	}
	t.Run("charts", func(t *testing.T) { charts(t, s.out) })
}

// charts draws the results of dir.
func charts(t *testing.T, dir string) {
	list := exec.Command("go", "list", "-C", "charts", "-deps", ".")
	if out, err := list.CombinedOutput(); err != nil {
		t.Skipf("the modules of the charts are not to be had here: %v\n%s", err, out)
	}
	if out, err := exec.Command("go", "run", "-C", "charts", ".", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"short.svg", "short-dark.svg", "main.svg", "cpu.svg", "growth.svg"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(data), "</svg>") || !strings.Contains(string(data), "tnat64d user") {
			t.Errorf("%s: %v, %d bytes", name, err, len(data))
		}
	}
}

// faulty is a contestant that goes wrong in a way.
type faulty struct {
	native
	name string
	run  func(context.Context, *lab.Lab) (*service, error)
}

func (f faulty) id() string    { return f.name }
func (f faulty) title() string { return f.name }

func (f faulty) version(context.Context) (string, error) {
	if f.run == nil {
		return "", errors.New("not installed")
	}
	return "1", nil
}

func (f faulty) start(ctx context.Context, l *lab.Lab, _ setup) (*service, error) {
	return f.run(ctx, l)
}

// script is a contestant's process that says something; the way to the server
// is untranslated IPv6.
func script(l *lab.Lab, text string) (*service, error) {
	cmd := l.Laptop.Command(context.Background(), "sh", "-c", text)
	s := &service{target: lab.Synthesize(l.PREF64(), lab.ServerIPv4), output: new(tail)}
	cmd.Stdout, cmd.Stderr = s.output, s.output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	s.pid, s.exited = cmd.Process.Pid, exited
	s.stop = func() error {
		cmd.Process.Kill()
		<-exited
		return nil
	}
	return s, nil
}

// TestFailures has contestants that are absent, do not start, die, and hang.
// Each is reported with its last output, and the others are measured.
func TestFailures(t *testing.T) {
	needLab(t)
	t.Parallel()
	all := []contestant{
		native{},
		faulty{name: "absent"},
		faulty{name: "broken", run: func(context.Context, *lab.Lab) (*service, error) { return nil, errors.New("no such luck") }},
		faulty{name: "mortal", run: func(_ context.Context, l *lab.Lab) (*service, error) {
			return script(l, "echo farewell; sleep 0.4")
		}},
		faulty{name: "hanging", run: func(_ context.Context, l *lab.Lab) (*service, error) {
			s, err := script(l, "echo I am asleep; sleep 100")
			if err == nil {
				s.target = s.target.Next() // where nobody is
			}
			return s, err
		}},
		faulty{name: "healthy", run: func(_ context.Context, l *lab.Lab) (*service, error) { return script(l, "sleep 100") }},
	}
	s := brief(t, "rr/*")
	s.window, s.patience = 500*time.Millisecond, 5*time.Second
	r, report := measured(t, s, all)
	for _, c := range []struct{ id, words string }{
		{"absent", "not installed"},
		{"broken", "given up: start: no such luck"},
		{"mortal", "the translator ended; its last output:\nfarewell"},
		{"hanging", "given up: it has started but carries nothing"},
		{"hanging", "I am asleep"},
	} {
		said := r.contestant(c.id).Absent
		for _, m := range r.Missing {
			if m.Contestant == c.id {
				said += m.Why
			}
		}
		if !strings.Contains(said, c.words) {
			t.Errorf("%s: %q is missing in %q", c.id, c.words, said)
		}
	}
	for _, id := range []string{"native", "healthy"} {
		rounds := 0
		for _, s := range r.Summaries {
			if s.Contestant == id {
				rounds += s.Rounds
			}
		}
		if rounds != 2 {
			t.Errorf("%s: %d measurements, not 2", id, rounds)
		}
	}
	if !strings.Contains(report, "**absent**: not installed") || !strings.Contains(report, "What failed") {
		t.Errorf("the report does not name what failed:\n%s", report)
	}
}

// TestCannotBeInstalled has a package that Debian does not know.
func TestCannotBeInstalled(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("needs the go command: %v", err)
	}
	// Not the real one: it would ask the network, and change the machine.
	stub := t.TempDir()
	if err := os.WriteFile(filepath.Join(stub, "apt-get"), []byte("#!/bin/sh\necho E: no such package >&2\nexit 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", stub+":"+os.Getenv("PATH"))
	b := &session{settings: settings{install: true}, dir: t.TempDir()}
	_, err := b.find(t.Context(), packaged{})
	words := "no such package"
	if os.Getuid() != 0 {
		words = "these packages are missing"
	}
	if err == nil || !strings.Contains(err.Error(), "cannot be installed") || !strings.Contains(err.Error(), words) {
		t.Errorf("%v", err)
	}
}

// packaged is a contestant in a package that does not exist.
type packaged struct{ native }

func (packaged) packages() []string { return []string{"tnat64d-no-such-package"} }

func (p packaged) version(ctx context.Context) (string, error) {
	return packageVersion(ctx, p.packages()[0])
}

// TestInterrupted presses Ctrl-C at several moments. No namespace, process or
// file is left, and no result is written.
func TestInterrupted(t *testing.T) {
	needLab(t)
	t.Parallel()
	for _, after := range []time.Duration{100 * time.Millisecond, 2 * time.Second, 5 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			temp, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
			cmd := exec.Command(os.Args[0], "-quick", "-out", out, "-only", "tcp/1-*,udp/*,many,coverage")
			cmd.Env = append(os.Environ(), "BENCHMARKS_MAIN=1", "TMPDIR="+temp)
			var output strings.Builder
			cmd.Stdout, cmd.Stderr = io.MultiWriter(&output, t.Output()), io.MultiWriter(&output, t.Output())
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// As a terminal does it: to the whole group.
			timer := time.AfterFunc(after, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) })
			defer timer.Stop()
			cmd.Wait()
			// Under load the first of them may come before the program has begun.
			early := output.Len() == 0 && cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGINT
			if status := cmd.ProcessState.ExitCode(); !early && (status != 1 || !strings.Contains(output.String(), "interrupted")) {
				t.Errorf("exit status %d, %q", status, output.String())
			}
			for _, pattern := range []string{
				fmt.Sprintf("/run/netns/tn64-%d-*", cmd.Process.Pid),
				fmt.Sprintf("/run/tnat64-lab/tn64-%d-*", cmd.Process.Pid),
				filepath.Join(temp, "*"), out,
			} {
				if left, _ := filepath.Glob(pattern); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
			if left := processesOf(temp); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// processesOf returns the processes whose program was in dir.
func processesOf(dir string) (left []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range all {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, dir+"/") {
			left = append(left, link+" is "+path)
		}
	}
	return left
}

// TestEstimate holds the whole to what is promised: 17 minutes, or 4 if quick.
func TestEstimate(t *testing.T) {
	for _, c := range []struct {
		args  []string
		limit time.Duration
	}{
		{nil, 16 * time.Minute},
		{[]string{"-quick"}, 230 * time.Second},
	} {
		s, err := parse(c.args)
		if err != nil {
			t.Fatal(err)
		}
		b := &session{settings: s, contestants: contestants()}
		b.results.Loads = loads(s.rate, s.quick)
		if d := b.estimate(); d > c.limit {
			t.Errorf("%v takes %s, more than %s", c.args, d, c.limit)
		}
	}
}

// TestUsage is refused before anything is touched.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		words  string
	}{
		{"now", 2, `unexpected argument "now"`},
		{"-rounds -1", 2, "positive"},
		{"-rate 5", 2, "at least 1000"},
		{"-only [", 2, "syntax error"},
		{"-contestants nobody -list", 1, `unknown contestant "nobody"; there are native, shim, tnat64, tayga, clatd, nm, user, kernel, router-ipv4, router-tayga, gateway-user, gateway-kernel`},
		{"-h", 0, "Usage"},
		{"-list -only tcp/*", 0, "TCP, 1 stream down, MTU 9000"},
	} {
		var out strings.Builder
		if status := run(t.Context(), strings.Fields(c.args), &out, &out); status != c.status || !strings.Contains(out.String(), c.words) {
			t.Errorf("%q: exit status %d, %q", c.args, status, out.String())
		}
	}
}

// TestLoads checks what the harness relies on.
func TestLoads(t *testing.T) {
	for _, quick := range []bool{false, true} {
		seen := map[string]bool{}
		for _, l := range loads(20000, quick) {
			if seen[l.ID] {
				t.Errorf("%s is there twice", l.ID)
			}
			seen[l.ID] = true
			if l.Unit.Per == 0 || l.Setup.MTU == 0 || l.Title == "" || l.growth() && l.Series == "" {
				t.Errorf("%+v", l)
			}
		}
	}
	for n, text := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != text {
			t.Errorf("thousands(%s) is %q", strconv.Itoa(n), got)
		}
	}
}
