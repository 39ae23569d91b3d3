// Command test-kernel runs the project's privileged and end-to-end tests on
// another kernel than the machine's: by default Debian 12's own 6.1, which is
// downloaded by apt and not installed. It boots under qemu with software
// emulation, on an initramfs that holds the tests and nothing of the machine
// but some programs. With -arch arm64 kernel and programs are Debian's for that
// architecture.
//
// Nothing here needs root, except that apt's package lists are brought up to
// date if they do not lead to a kernel.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tnat64d/packaging/apt"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "test-kernel:", err)
		os.Exit(1)
	}
}

func run() error {
	image := flag.String("kernel", "", "boot this kernel (vmlinuz) instead of Debian's")
	modules := flag.String("modules", "", "directory with that kernel's modules")
	arch := flag.String("arch", "amd64", "architecture: amd64, arm64")
	release := flag.String("release", "bookworm", "Debian `release` whose kernel is booted: "+strings.Join(apt.Releases, ", "))
	list := flag.String("suites", "", "only these, with commas: "+strings.Join(names(suites), ",")+"; of arm64: "+strings.Join(names(arm64Suites), ","))
	var tests testFlags
	flag.StringVar(&tests.run, "run", "", "only the tests that match, as in go test")
	flag.IntVar(&tests.count, "count", 1, "run each test that many times")
	prepare := flag.Bool("prepare", false, "only download the kernel, and the programs of another architecture")
	single := flag.Bool("single", false, "run all suites on one machine instead of several at a time")
	limit := flag.Duration("timeout", 40*time.Minute, "for all of it")
	verbose := flag.Bool("v", false, "print the consoles and what every test says as it comes")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case (*image == "") != (*modules == ""):
		return errors.New("-kernel and -modules go together")
	case runtime.GOARCH != "amd64":
		return fmt.Errorf("needs an amd64 machine, whose programs the tests run: this is %s", runtime.GOARCH)
	}
	p, ok := platforms[*arch]
	if !ok {
		return fmt.Errorf("no architecture %q: want amd64 or arm64", *arch)
	}
	if !slices.Contains(apt.Releases, *release) {
		return fmt.Errorf("no release %q: want one of %s", *release, strings.Join(apt.Releases, ", "))
	}
	chosen, err := choose(p.suites, *list)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not done after %v", *limit))
	defer cancel()

	start := time.Now()
	k := kernel{*image, *modules}
	if k.image == "" {
		if k, err = debianKernel(ctx, *release, p.arch); err != nil {
			return fmt.Errorf("get Debian's kernel: %w", err)
		}
	}
	u, err := newUserland(ctx, p)
	if err != nil {
		return err
	}
	if *prepare {
		return nil
	}
	dir, err := os.MkdirTemp("", "tnat64-test-kernel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	booted := time.Duration(0)
	boot := func(machines [][]suite, tests testFlags) ([]suite, error) {
		dir, err := os.MkdirTemp(dir, "boot-")
		if err != nil {
			return nil, err
		}
		initramfs := filepath.Join(dir, "initramfs")
		if err := build(ctx, dir, initramfs, k, p, u, slices.Concat(machines...), tests); err != nil {
			return nil, err
		}
		fmt.Printf("ready to boot %s after %s\n", filepath.Base(k.image), seconds(time.Since(start)))
		then := time.Now()
		defer func() { booted += time.Since(then) }()
		return runMachines(ctx, k, p, initramfs, machines, *verbose)
	}
	machines := byMachine(chosen)
	if *single {
		machines = [][]suite{chosen}
	}
	again, err := boot(machines, tests)
	if err == nil && len(again) > 0 {
		// As packaging/once-more.sh does it for the tests on the machine itself.
		fmt.Printf("once more: %s\n", strings.Join(names(again), ", "))
		if again, err = boot([][]suite{again}, testFlags{count: 1}); err == nil && len(again) > 0 {
			err = fmt.Errorf("%s: tests failed twice", strings.Join(names(again), ", "))
		}
	}
	fmt.Printf("all of it took %s, of which %s in qemu\n", seconds(time.Since(start)), seconds(booted))
	return err
}

// maxAgain is how many tests may fail and run once more.
const maxAgain = 2

// runMachines boots the kernel once for each list of suites, all at a time. It
// returns the tests that failed, as suites, if they are few and nothing else went
// wrong.
func runMachines(ctx context.Context, k kernel, p platform, initramfs string, machines [][]suite, verbose bool) (again []suite, err error) {
	reports, errs := make([]*report, len(machines)), make([]error, len(machines))
	var group sync.WaitGroup
	for i, suites := range machines {
		reports[i] = &report{verbose: verbose, suites: names(suites)}
		group.Go(func() { errs[i] = boot(ctx, k, p, initramfs, reports[i]) })
	}
	group.Wait()
	failed := 0
	for i, r := range reports {
		errs = append(errs, r.verdict())
		for _, s := range machines[i] {
			if tests := r.again[s.name]; len(tests) > 0 {
				failed += len(tests)
				s.run = s.only(tests)
				again = append(again, s)
			}
		}
	}
	if ctx.Err() != nil {
		errs = append(errs, context.Cause(ctx))
	}
	if err = errors.Join(errs...); err == nil && failed > maxAgain {
		err = fmt.Errorf("%d tests failed", failed)
	}
	return again, err
}

// seconds is a duration for people.
func seconds(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
