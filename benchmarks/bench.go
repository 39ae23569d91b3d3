package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// session is one run of the benchmarks.
type session struct {
	settings
	contestants []contestant
	generator   *generator
	probes      probes
	dir         string // for everything that is built; goes at the end
	progress
	results results
}

// progress is where a run says how far it is.
type progress struct {
	to    io.Writer
	begin time.Time
}

// bench does it all: it prepares, measures in rounds, looks at coverage and at
// the translator alone, and writes the results.
func bench(ctx context.Context, s settings, all []contestant, out io.Writer) (err error) {
	b := &session{settings: s, progress: progress{out, time.Now()}}
	b.results = results{Made: b.begin.UTC().Truncate(time.Second), Quick: s.quick, Rounds: s.rounds, Window: s.window.Seconds(), Rate: s.rate}
	if b.contestants, err = choose(all, s.contestants); err != nil {
		return err
	}
	for _, l := range loads(s.rate, s.quick) {
		if s.wants(l.ID) {
			b.results.Loads = append(b.results.Loads, l)
		}
	}
	if s.list {
		return b.list()
	}
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root; run it with sudo")
	}
	if b.dir, err = os.MkdirTemp("", "tnat64-benchmarks-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := os.Chmod(b.dir, 0o755); err != nil { // an ordinary user runs programs in it
		return err
	}
	for _, step := range []func(context.Context) error{b.prepare, b.measure, b.cover, b.translatorAlone, b.countInstructions} {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	b.results.Took = time.Since(b.begin).Seconds()
	if err := b.results.write(s.out); err != nil {
		return err
	}
	b.say("results are in %s", s.out)
	return nil
}

// say prints a line of progress.
func (p progress) say(format string, args ...any) {
	d := time.Since(p.begin).Round(time.Second)
	fmt.Fprintf(p.to, "%02d:%02d  %s\n", int(d.Minutes()), int(d.Seconds())%60, fmt.Sprintf(format, args...))
}

// note says something that belongs into the report too.
func (b *session) note(format string, args ...any) {
	b.results.Notes = append(b.results.Notes, fmt.Sprintf(format, args...))
	b.say("%s", b.results.Notes[len(b.results.Notes)-1])
}

// list prints what there is to measure.
func (b *session) list() error {
	fmt.Fprintln(b.to, "contestants:")
	for _, c := range b.contestants {
		fmt.Fprintf(b.to, "  %-20s %s\n", c.id(), c.about())
	}
	fmt.Fprintln(b.to, "loads:")
	for _, l := range b.results.Loads {
		fmt.Fprintf(b.to, "  %-20s %s\n", l.ID, l.Title)
	}
	fmt.Fprintln(b.to, "other parts:\n  coverage, siit, instructions, bpf")
	_, err := fmt.Fprintf(b.to, "estimate: %s\n", b.estimate().Round(time.Second))
	return err
}

// prepare builds the programs, installs what is missing if it may, finds out
// who is present, and looks at the machine.
func (b *session) prepare(ctx context.Context) error {
	path, err := compile(ctx, b.dir, "load.c", "load")
	if err != nil {
		return err
	}
	b.generator = &generator{path: path, warm: b.warm(), win: b.window, patience: b.patience, port: 7100}
	if b.tnat64d == "" {
		b.tnat64d = filepath.Join(b.dir, "tnat64d")
		if err := build(ctx, b.tnat64d); err != nil {
			return err
		}
	} else if b.tnat64d, err = filepath.Abs(b.tnat64d); err != nil {
		return err
	}
	tnat64, gatewayPath := filepath.Join(b.dir, "tnat64"), filepath.Join(b.dir, "tnat64-gateway")
	if err := errors.Join(build(ctx, tnat64), build(ctx, gatewayPath)); err != nil {
		return err
	}
	b.results.Machine = describe(ctx)
	m := &b.results.Machine
	if b.generator.pmu, err = openPMU(); err != nil {
		m.PMU = err.Error()
	} else {
		m.PMU = "available"
	}
	var present []contestant
	for _, c := range b.contestants {
		if d, ok := c.(*daemon); ok && !d.before {
			d.path = b.tnat64d
		}
		if s, ok := c.(*command); ok {
			s.path = tnat64
		}
		if g, ok := c.(*gateway); ok && !g.before {
			g.path = gatewayPath
		}
		r := contestantResult{ID: c.id(), Title: c.title(), About: c.about(), Router: isRouter(c)}
		if r.Version, err = b.find(ctx, c); err != nil {
			r.Absent = err.Error()
			b.say("%s is absent: %v", c.title(), err)
		} else {
			present = append(present, c)
		}
		b.results.Contestants = append(b.results.Contestants, r)
	}
	b.contestants = present
	b.say("%s, %d CPUs, Linux %s; estimate %s", m.CPU, m.CPUs, m.Kernel, b.estimate().Round(time.Second))
	return nil
}

// find returns the version of a contestant, after installing it if that is
// wanted and necessary.
func (b *session) find(ctx context.Context, c contestant) (string, error) {
	version, err := c.version(ctx)
	if err == nil || !b.install || len(c.packages()) == 0 {
		return version, err
	}
	root, rootErr := moduleRoot(ctx)
	if rootErr != nil {
		return "", rootErr
	}
	out, installErr := tool(ctx, b.dir, filepath.Join(root, "packaging", "install-packages.sh"), c.packages()...).CombinedOutput()
	if installErr != nil {
		return "", fmt.Errorf("%w, and cannot be installed: %w\n%s", err, installErr, strings.TrimSpace(string(out)))
	}
	return c.version(ctx)
}

// moduleRoot returns the top of the source tree.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "tnat64d").Output()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build builds the command that path is named after, as the Makefile does.
func build(ctx context.Context, path string) error {
	version := firstLine(output(ctx, "git", "-c", "safe.directory=*", "describe", "--tags", "--always", "--dirty"))
	cmd := tool(ctx, filepath.Dir(path), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", path, "tnat64d/cmd/"+filepath.Base(path))
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", filepath.Base(path), err, out)
	}
	return nil
}
