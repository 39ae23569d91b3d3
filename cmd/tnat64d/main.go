// Command tnat64d is a CLAT (RFC 6877): it gives the IPv4 programs of a host on
// an IPv6-only network their IPv4 back, through the network's NAT64.
//
//	tnat64d [-config FILE] [-log-level debug|info|warn|error] [-check] [-version]
//
// It runs in the foreground until SIGTERM or SIGINT; SIGHUP reads the
// configuration again. The exit status is 0 after a clean stop, 2 for bad usage
// or configuration, 1 otherwise. Whatever the reason, it leaves the host as it
// found it.
//
// This package is wiring and words: package clat/plan decides, clat acts, pref64
// finds the prefix, datapath/engine and siit move the packets.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"tnat64d/internal/config"
	"tnat64d/internal/journal"
	"tnat64d/internal/say"
)

const usage = `usage: tnat64d [-config FILE] [-log-level debug|info|warn|error] [-check] [-version]

  -config FILE      read FILE instead of ` + config.DefaultPath + `, which may be absent
  -log-level LEVEL  say less or more than info
  -check            only read the configuration and say what is wrong with it
  -version          print the version and exit

Runs in the foreground until SIGTERM or SIGINT. SIGHUP reads the configuration again.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	// A second signal during the stop ends the process the hard way.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) int {
	var (
		level      slog.Level
		fs         = flag.NewFlagSet("tnat64d", flag.ContinueOnError)
		file       = fs.String("config", "", "")
		check      = fs.Bool("check", false, "")
		sayVersion = fs.Bool("version", false, "")
	)
	fs.Func("log-level", "", func(s string) error { return journal.ParseLevel(s, &level) })
	fs.SetOutput(io.Discard)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return say.StatusOK
	case err != nil:
		fmt.Fprintf(stderr, "tnat64d: %v\n%s", err, usage)
		return say.StatusUsage
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "tnat64d: unexpected argument %q\n%s", fs.Arg(0), usage)
		return say.StatusUsage
	case *sayVersion:
		fmt.Fprintln(stdout, versionLine())
		return say.StatusOK
	}
	conf, warnings, err := config.Load(*file)
	if err != nil {
		return say.Fail(stderr, "tnat64d", say.Usage(err))
	}
	log := journal.New(stderr, level)
	defer log.Flush()
	for _, w := range warnings {
		slog.New(log).Warn("configuration", "reason", w.String())
	}
	if *check {
		return say.StatusOK
	}
	if err := serveWhenPossible(ctx, *file, conf, slog.New(log)); err != nil {
		return say.Fail(stderr, "tnat64d", err)
	}
	return say.StatusOK
}

// version is set by the Makefile to what git says.
var version = "(devel)"

func versionLine() string {
	return fmt.Sprintf("tnat64d %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
