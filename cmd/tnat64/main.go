// Command tnat64 runs one program through NAT64, without privilege, daemon or
// interface.
//
//	tnat64 [-pref64 PREFIX] [-config FILE] [-explain ADDRESS] [-v] COMMAND [ARG...]
//
// The exit status is the command's: 128+n if signal n killed it, 126 if it
// cannot be run, 127 if it is not found, and 125 if tnat64 itself fails.
//
// This package is wiring and words: package shim does the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"

	"tnat64d/internal/config"
	"tnat64d/internal/say"
	"tnat64d/shim"
)

// version is set by the linker.
var version = "unknown"

const usage = `usage: tnat64 [-pref64 PREFIX] [-config FILE] [-explain ADDRESS] [-v] COMMAND [ARG...]

  -pref64 PREFIX    use this NAT64 prefix, for example 64:ff9b::/96
  -config FILE      read FILE instead of $XDG_CONFIG_HOME/tnat64/tnat64.toml (without the
                    variable, ~/.config/tnat64/tnat64.toml) or, if that is absent,
                    ` + config.ShimDefaultPath + `, which may be absent too
  -explain ADDRESS  show how a connection to ADDRESS would be made, and why
  -v                print the prefix and the method, and why better ones are not used
  -version          print the version and exit

Runs COMMAND so that it reaches IPv4 through NAT64 where there is no IPv4 route.
`

func main() {
	shim.Stage()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// options are the command line.
type options struct {
	pref64  netip.Prefix
	config  string
	explain netip.Addr
	verbose bool
	command []string
}

func run(args []string, stdin, stdout, stderr *os.File) int {
	var o options
	flags := flag.NewFlagSet("tnat64", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("pref64", "", func(s string) (err error) {
		o.pref64, err = parsePREF64(s)
		return err
	})
	flags.StringVar(&o.config, "config", "", "")
	flags.Func("explain", "", func(s string) (err error) {
		o.explain, err = parseIPv4(s)
		return err
	})
	flags.BoolVar(&o.verbose, "v", false, "")
	sayVersion := flags.Bool("version", false, "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		return failed(stderr, say.Hint(err, "tnat64 -h lists the flags"))
	case *sayVersion:
		fmt.Fprintln(stdout, "tnat64", version)
		return 0
	}
	o.command = flags.Args()
	if len(o.command) == 0 && !o.explain.IsValid() {
		return failed(stderr, say.Hint(errors.New("no command given"), "tnat64 -h shows how it is used"))
	}
	status, err := o.run(stdin, stdout, stderr)
	if err != nil {
		return failed(stderr, err)
	}
	return status
}

// failed tells the user and returns the exit status.
func failed(stderr io.Writer, err error) int {
	say.Fail(stderr, "tnat64", err)
	if e, ok := errors.AsType[*shim.StartError](err); ok {
		return e.Status
	}
	return shim.Failed
}

func (o *options) run(stdin, stdout, stderr *os.File) (int, error) {
	file, err := config.LoadShim(o.config)
	if err != nil {
		return 0, err
	}
	tell := func(s string) { fmt.Fprintln(stderr, "tnat64:", s) }
	detail := func(format string, args ...any) {
		if o.verbose {
			tell(fmt.Sprintf(format, args...))
		}
	}
	policy := policyOf(file)
	method := shim.Method(file.Method)
	if o.explain.IsValid() {
		return 0, o.explained(stdout, policy, method)
	}
	if policy.Fallback == shim.FallbackAuto && method == shim.MethodAuto && shim.HasIPv4() {
		detail("IPv4 has a default route: %s runs as it is", o.command[0])
		return 0, shim.Command(policy, o.command[0], o.command[1:]...).Exec()
	}
	from, refresh, err := o.choosePrefix(context.Background(), &policy, tell)
	if err != nil {
		if policy.Fallback != shim.FallbackNever && shim.HasIPv4() {
			detail("%v; IPv4 has a default route: %s runs as it is", err, o.command[0])
			return 0, shim.Command(policy, o.command[0], o.command[1:]...).Exec()
		}
		return 0, err
	}
	c := shim.Command(policy, o.command[0], o.command[1:]...)
	c.Stdin, c.Stdout, c.Stderr = stdin, stdout, stderr
	c.Method, c.Refresh, c.Say = method, refresh, tell
	c.Started = func(h shim.How) {
		detail("PREF64 %s", from)
		for _, r := range h.Refused {
			detail("%s", r)
		}
		detail("method: %s", h.Method)
	}
	status, err := c.Run()
	return status, explainFailure(err)
}

// explainFailure adds what to do about an error of the shim itself.
func explainFailure(err error) error {
	if e, ok := errors.AsType[*shim.StartError](err); ok && e.Status == shim.Failed {
		return say.Hint(err, "in a container, allow pidfd_getfd (docker run --cap-add SYS_PTRACE) or user namespaces; tnat64(1) lists what is needed")
	}
	return err
}

// policyOf makes a policy of the configuration.
func policyOf(f config.Shim) shim.Policy {
	p := shim.Policy{Local: f.Local, Fallback: shim.Fallback(f.Fallback)}
	for _, r := range f.Routes {
		p.Routes = append(p.Routes, shim.Route{Network: r.Network, PREF64: r.PREF64})
	}
	return p
}
