// Command tnat64d is a CLAT (RFC 6877): it gives programs on an IPv6-only network
// IPv4, through the network's NAT64.
//
//	tnat64d [-config FILE] [-log-level debug|info|warn|error] [-check] [-cleanup] [-version]
//
// It runs in the foreground until SIGTERM or SIGINT; SIGHUP reads the
// configuration again. The exit status is 0 after a clean stop, 2 for bad usage
// or configuration, 1 otherwise. It undoes all changes to the host, unless systemd
// restarts it: then the kernel keeps translating for the next process.
//
// This package connects the others and words messages: clat/plan decides, clat
// changes the host, pref64 discovers the prefix, and datapath translates packets.
package main

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"

	"tnat64d/internal/config"
	"tnat64d/internal/daemon"
	"tnat64d/internal/fdstore"
	"tnat64d/internal/journal"
	"tnat64d/internal/say"
)

const usage = `usage: tnat64d [-config FILE] [-log-level debug|info|warn|error] [-check] [-cleanup] [-version]

  -config FILE      read FILE instead of ` + config.DefaultPath + `, which may be absent
  -log-level LEVEL  log messages of this level and above (default info)
  -check            check the configuration, print its errors and exit
  -cleanup          remove what a killed tnat64d left on the host, unless systemd is about to restart it
  -version          print the version and exit

Runs in the foreground until SIGTERM or SIGINT. SIGHUP reloads the configuration.
`

func main() { daemon.Main(run) }

func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) int {
	passed := fdstore.Receive()
	program := daemon.Program{Name: "tnat64d", Usage: usage, Version: version}
	var cleanup *bool
	o, status, ended := program.Parse(args, stdout, stderr, func(f *flag.FlagSet) { cleanup = f.Bool("cleanup", false, "") })
	if ended {
		return status
	}
	log := journal.New(stderr, o.Level)
	defer log.Flush()
	if *cleanup {
		return cleanUpAfter(ctx, slog.New(log), stderr)
	}
	start := daemon.NewStartup(slog.New(log))
	conf, warnings, err := loadWhenPossible(ctx, o.Config, o.Check, start, slog.New(log))
	if err != nil {
		return say.Fail(stderr, "tnat64d", say.Usage(err))
	}
	if ctx.Err() != nil {
		return say.StatusOK
	}
	for _, w := range warnings {
		slog.New(log).Warn("configuration", "reason", w.String())
	}
	if o.Check {
		return say.StatusOK
	}
	if err := serveWhenPossible(ctx, o.Config, conf, passed, start, slog.New(log)); err != nil {
		return say.Fail(stderr, "tnat64d", err)
	}
	return say.StatusOK
}

// version is set by the Makefile to what git says.
var version = "(devel)"
