// Package daemon has what the command lines of the daemons have in common.
package daemon

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

	"tnat64d/internal/say"
)

// Program is a daemon's command.
type Program struct {
	Name    string
	Usage   string // the text of -h
	Version string
	Config  string // the default of -config
}

// Options are the flags that every daemon has.
type Options struct {
	Config string
	Check  bool // only read the configuration
	Level  slog.Level
}

// Main calls run with the command line, and a context that ends with SIGTERM or
// SIGINT, and ends the process with the status that run returns.
func Main(run func(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) int) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	// A second signal during the stop ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Parse reads the flags; more declares those that only this daemon has, and may
// be nil. Where ended is true there is nothing more to do than to return status.
func (p Program) Parse(args []string, stdout, stderr io.Writer, more func(*flag.FlagSet)) (o Options, status int, ended bool) {
	fs := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.Config, "config", p.Config, "")
	fs.BoolVar(&o.Check, "check", false, "")
	fs.Func("log-level", "", func(s string) error { return parseLevel(s, &o.Level) })
	version := fs.Bool("version", false, "")
	if more != nil {
		more(fs)
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, p.Usage)
		return o, say.StatusOK, true
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n%s", p.Name, err, p.Usage)
		return o, say.StatusUsage, true
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "%s: unexpected argument %q\n%s", p.Name, fs.Arg(0), p.Usage)
		return o, say.StatusUsage, true
	case *version:
		fmt.Fprintln(stdout, p.Name, p.Version, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return o, say.StatusOK, true
	}
	return o, 0, false
}

// parseLevel reads the value of -log-level. The error names the allowed values.
func parseLevel(s string, l *slog.Level) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	v, ok := levels[s]
	if !ok {
		return errors.New("allowed: debug, info, warn, error")
	}
	*l = v
	return nil
}
