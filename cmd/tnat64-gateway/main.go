// Command tnat64-gateway makes an IPv6-only network: NAT64 (RFC 7915 with
// RFC 6052 addresses), DNS64 (RFC 6147) and router advertisements with PREF64
// (RFC 8781).
//
//	tnat64-gateway [-config FILE] [-log-level debug|info|warn|error] [-check] [-check-host] [-setup] [-version]
//
// It runs in the foreground until SIGTERM or SIGINT; SIGHUP reads the
// configuration again. The exit status is 0 after a clean stop, 2 for bad usage
// or configuration, 1 otherwise.
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

const usage = `usage: tnat64-gateway [-config FILE] [-log-level debug|info|warn|error] [-check] [-check-host] [-setup] [-version]

  -config FILE      read FILE instead of ` + config.DefaultGatewayPath + `
  -log-level LEVEL  log messages of this level and above (default info)
  -check            check the configuration, print its errors and exit
  -check-host       the same; what does not fit this host is an error too
  -setup            set the forwarding sysctls that a router needs
  -version          print the version and exit

Runs in the foreground until SIGTERM or SIGINT. SIGHUP reloads the configuration.
`

func main() { daemon.Main(run) }

func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) int {
	passed := fdstore.Receive()
	program := daemon.Program{Name: "tnat64-gateway", Usage: usage, Version: version, Config: config.DefaultGatewayPath}
	var setup, checkHost bool
	o, status, ended := program.Parse(args, stdout, stderr, func(fs *flag.FlagSet) {
		fs.BoolVar(&setup, "setup", false, "")
		fs.BoolVar(&checkHost, "check-host", false, "")
	})
	if ended {
		return status
	}
	conf, err := config.LoadGateway(o.Config)
	if err != nil {
		return say.Fail(stderr, "tnat64-gateway", say.Usage(err))
	}
	host, err := observeHost()
	if err != nil {
		return say.Fail(stderr, "tnat64-gateway", err)
	}
	host.check(conf)
	misfit := conf.Err()
	if misfit != nil && (checkHost || !o.Check) {
		return say.Fail(stderr, "tnat64-gateway", say.Usage(misfit))
	}
	handler := journal.New(stderr, o.Level)
	defer handler.Flush()
	log := slog.New(handler)
	warn(log, conf)
	if o.Check || checkHost {
		// The file may be for another host, or for links that come later.
		if misfit != nil {
			log.Warn("configuration does not fit this host", "reason", misfit.Error())
		}
		return say.StatusOK
	}
	d := &gateway{file: o.Config, setup: setup, log: log}
	d.store = inherit(passed, &d.handover, log)
	if err := d.serve(ctx, conf.Gateway); err != nil {
		return say.Fail(stderr, "tnat64-gateway", err)
	}
	return say.StatusOK
}

// version is set by the Makefile to what git says.
var version = "(devel)"
