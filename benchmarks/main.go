// Command benchmarks measures what it costs to reach IPv4 across an IPv6-only
// network: by translating every packet (tnat64d, NetworkManager, tayga) and by rewriting each
// connection once (TNAT64's shim), beside untranslated IPv6. README.md says how
// and what the numbers mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `Usage: benchmarks [flags]    (root; from the top of the repository: go run ./benchmarks)

Measures untranslated IPv6, TNAT64's shim, tayga and tnat64d in network
namespaces of this machine, and writes results.json and report.md.

  -quick             two short rounds instead of five, fewer points: under 4 minutes
  -only LIST         only these loads, by name or pattern ("tcp/*,udp/64-up"), and of
                     the other parts only those named: coverage, siit, instructions,
                     bpf
  -contestants LIST  only these (and native, which the ratios need); kernel-shared and
                     user-shared, which share the host's IPv6 address, only run so
  -out DIR           where results go (default benchmarks/results, and
                     bin/benchmarks with -quick, -only, -contestants,
                     -before or -before-gateway)
  -rounds N          how often every contestant takes its turn
  -window DURATION   how long each measurement counts
  -rate N            datagrams per second of loads at a fixed rate (default 30000)
  -install           install missing Debian packages of contestants (apt-get)
  -tnat64d PATH      the daemon (default: built from this source tree)
  -before PATH       another version of the daemon, measured in turn with the first:
                     contestants before-user and before-kernel
  -before-gateway PATH
                     the same of tnat64-gateway: before-gateway-user and
                     before-gateway-kernel
  -report DIR        write report.md from results.json of DIR again, and exit
  -pages DIR         write the tables of README.md and docs/comparison.md from
                     results.json of DIR, and exit
  -list              name loads and contestants, with the estimate, and exit
`

// settings are the command line.
type settings struct {
	quick         bool
	only          []string
	contestants   []string
	out           string
	rounds        int
	window        time.Duration
	rate          int
	install       bool
	tnat64d       string
	before        string
	beforeGateway string
	list          bool
	report        string
	pages         string
	patience      time.Duration // for anything to happen; not a flag
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == goProgram {
		os.Exit(runGoProgram(os.Args[2:]))
	}
	// SIGPIPE too: a reader that goes away must not leave namespaces behind.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		io.WriteString(stdout, usage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "benchmarks: %v\nhint: -h lists the flags, -list the loads and contestants\n", err)
		return 2
	}
	if s.report != "" {
		r, err := readResults(s.report)
		if err == nil {
			err = r.writeReport(s.report)
		}
		if err != nil {
			fmt.Fprintf(stderr, "benchmarks: %v\n", err)
			return 1
		}
		return 0
	}
	all := contestants()
	if s.before != "" {
		all = append(all, earlier(s.before)...)
	}
	if s.beforeGateway != "" {
		all = append(all, earlierGateways(s.beforeGateway)...)
	}
	if s.pages != "" {
		r, err := readResults(s.pages)
		if err == nil {
			err = r.writePages(".")
		}
		if err != nil {
			fmt.Fprintf(stderr, "benchmarks: %v\n", err)
			return 1
		}
		return 0
	}
	err = bench(ctx, s, all, stdout)
	if err != nil {
		// A terminal sends Ctrl-C to our tools as well, and one may have ended
		// before we heard of it.
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(errors.New("interrupted; nothing was written, everything has been cleaned up"), cleanUpErrors(err))
	}
	if err != nil {
		fmt.Fprintf(stderr, "benchmarks: %v\n", err)
		return 1
	}
	return 0
}

// parse reads the command line.
func parse(args []string) (settings, error) {
	s := settings{patience: 4 * time.Second}
	var only, who string
	fs := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run prints the error, once
	fs.BoolVar(&s.quick, "quick", false, "")
	fs.StringVar(&only, "only", "", "")
	fs.StringVar(&who, "contestants", "", "")
	fs.StringVar(&s.out, "out", "", "")
	fs.IntVar(&s.rounds, "rounds", 0, "")
	fs.DurationVar(&s.window, "window", 0, "")
	fs.IntVar(&s.rate, "rate", 30000, "")
	fs.BoolVar(&s.install, "install", false, "")
	fs.StringVar(&s.tnat64d, "tnat64d", "", "")
	fs.StringVar(&s.before, "before", "", "")
	fs.StringVar(&s.beforeGateway, "before-gateway", "", "")
	fs.BoolVar(&s.list, "list", false, "")
	fs.StringVar(&s.report, "report", "", "")
	fs.StringVar(&s.pages, "pages", "", "")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if s.rounds < 0 || s.window < 0 || s.rate < 1000 {
		return s, errors.New("-rounds and -window are positive, -rate is at least 1000")
	}
	s.only, s.contestants = list(only), list(who)
	for _, p := range s.only {
		if _, err := filepath.Match(p, ""); err != nil {
			return s, fmt.Errorf("-only %q: %w", p, err)
		}
	}
	if s.rounds == 0 {
		s.rounds = 5
		if s.quick {
			s.rounds = 2
		}
	}
	if s.window == 0 {
		s.window = 600 * time.Millisecond
		if s.quick {
			s.window = 200 * time.Millisecond
		}
	}
	if s.out == "" {
		s.out = filepath.Join("benchmarks", "results")
		if s.quick || s.before != "" || s.beforeGateway != "" || len(s.only) > 0 || len(s.contestants) > 0 {
			s.out = filepath.Join("bin", "benchmarks") // not over the published ones
		}
	}
	return s, nil
}

func list(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(s string) bool { return s == "" })
}

// wants reports whether a load or another part of the run was asked for.
func (s settings) wants(name string) bool {
	return len(s.only) == 0 || slices.ContainsFunc(s.only, func(p string) bool {
		ok, _ := filepath.Match(p, name)
		return ok
	})
}

// warm is how long a load runs before it is measured: long enough for TCP to
// find its window and for caches of routes and neighbours to fill.
func (s settings) warm() time.Duration { return s.window / 4 }
