// Command tnat64-gateway makes an IPv6-only network: NAT64 (RFC 7915 with
// RFC 6052 addresses), DNS64 (RFC 6147) and router advertisements with PREF64
// (RFC 8781).
//
//	tnat64-gateway [-config FILE] [-log-level debug|info|warn|error] [-check] [-setup] [-version]
//
// It runs in the foreground until SIGTERM or SIGINT; SIGHUP reads the
// configuration again. The exit status is 0 after a clean stop, 2 for bad usage
// or configuration, 1 otherwise.
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

const usage = `usage: tnat64-gateway [-config FILE] [-log-level debug|info|warn|error] [-check] [-setup] [-version]

  -config FILE      read FILE instead of ` + config.DefaultGatewayPath + `
  -log-level LEVEL  log less or more than info
  -check            only read the configuration and print what is wrong with it
  -setup            set the forwarding sysctls that a router needs
  -version          print the version and exit

Runs in the foreground until SIGTERM or SIGINT. SIGHUP reads the configuration again.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	// A second signal during the stop ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) int {
	var (
		level      slog.Level
		fs         = flag.NewFlagSet("tnat64-gateway", flag.ContinueOnError)
		file       = fs.String("config", config.DefaultGatewayPath, "")
		check      = fs.Bool("check", false, "")
		setup      = fs.Bool("setup", false, "")
		sayVersion = fs.Bool("version", false, "")
	)
	fs.Func("log-level", "", func(s string) error { return journal.ParseLevel(s, &level) })
	fs.SetOutput(io.Discard)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return say.StatusOK
	case err != nil:
		fmt.Fprintf(stderr, "tnat64-gateway: %v\n%s", err, usage)
		return say.StatusUsage
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "tnat64-gateway: unexpected argument %q\n%s", fs.Arg(0), usage)
		return say.StatusUsage
	case *sayVersion:
		fmt.Fprintln(stdout, versionLine())
		return say.StatusOK
	}
	conf, err := config.LoadGateway(*file)
	if err != nil {
		return say.Fail(stderr, "tnat64-gateway", say.Usage(err))
	}
	host, err := observeHost()
	if err != nil {
		return say.Fail(stderr, "tnat64-gateway", err)
	}
	host.check(conf)
	misfit := conf.Err()
	if misfit != nil && !*check {
		return say.Fail(stderr, "tnat64-gateway", say.Usage(misfit))
	}
	handler := journal.New(stderr, level)
	defer handler.Flush()
	log := slog.New(handler)
	for _, w := range conf.Warnings {
		log.Warn("configuration", "reason", w.String())
	}
	if *check {
		// The file may be for another host, or for links that come later.
		if misfit != nil {
			log.Warn("configuration does not fit this host", "reason", misfit.Error())
		}
		return say.StatusOK
	}
	d := &gateway{file: *file, setup: *setup, log: log}
	if err := d.serve(ctx, conf.Gateway); err != nil {
		return say.Fail(stderr, "tnat64-gateway", err)
	}
	return say.StatusOK
}

// version is set by the Makefile to what git says.
var version = "(devel)"

func versionLine() string {
	return fmt.Sprintf("tnat64-gateway %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
