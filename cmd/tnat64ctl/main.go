// Command tnat64ctl shows what tnat64d does, diagnoses networks, and runs
// captures through the translator.
//
//	tnat64ctl [-socket PATH] COMMAND [ARGUMENTS]
//	tnat64ctl -gateway [-socket PATH] status|watch|trace [ARGUMENTS]
//
// Exit status 0: done; 2: wrong command line or configuration; 1: anything else.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/say"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// command is a subcommand.
type command struct {
	name    string
	summary string
	run     func(args []string, stdin io.Reader, stdout, stderr io.Writer) error
}

// commands returns all of them. Those that ask the daemon do so at socket; client
// asks there, and may ask a gateway.
func commands(socket string, client *control.Client) []command {
	return []command{
		{"status", "show whether IPv4 works, and why", asks(client, runStatus)},
		{"watch", "show each change of state", asks(client, runWatch)},
		{"trace", "show packets as they are translated or dropped", asks(client, runTrace)},
		{"doctor", "examine the host and its network, and diagnose why IPv4 does not work", asks(socket, runDoctor)},
		{"report", "write a text file for a bug report, with private parts masked", asks(socket, runReport)},
		{"nudge", "tell the daemon that the network has changed", asks(socket, runNudge)},
		{"translate", "run the packets of a capture file through the translator, offline", translate},
	}
}

// asks returns run as a command that asks a daemon, at a socket or by a client.
func asks[D any](daemon D, run func(daemon D, args []string, stdout, stderr io.Writer) error) func([]string, io.Reader, io.Writer, io.Writer) error {
	return func(args []string, _ io.Reader, stdout, stderr io.Writer) error {
		return run(daemon, args, stdout, stderr)
	}
}

// gatewayCommands are those that tnat64-gateway answers.
var gatewayCommands = []string{"status", "watch", "trace"}

// run is main without the process: it returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := dispatch(args, stdin, stdout, stderr)
	if errors.Is(err, errUnhealthy) {
		return say.StatusError
	}
	if err != nil {
		return say.Fail(stderr, "tnat64ctl", err)
	}
	return say.StatusOK
}

func dispatch(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := newFlags("tnat64ctl")
	socket := flags.String("socket", cmp.Or(os.Getenv(control.SocketVariable), config.Default().Control.Socket), "`PATH` of tnat64d's control socket")
	gateway := flags.Bool("gateway", false, "ask tnat64-gateway instead: status, watch, trace")
	if err := flags.Parse(args); err != nil {
		return badFlags(err, stdout, "tnat64ctl -h lists commands and flags", func(w io.Writer) { usage(w, flags) })
	}
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == "socket" })
	if *gateway && !given {
		*socket = config.DefaultGateway().Control.Socket
	}
	client := control.NewClient(*socket)
	if *gateway {
		client = control.NewGatewayClient(*socket)
	}
	all := commands(*socket, client)
	var known []string
	for _, c := range all {
		known = append(known, c.name)
	}
	theyAre := "the commands are: " + strings.Join(known, ", ")
	if flags.NArg() == 0 {
		return say.Hint(say.Usage(errors.New("no command given")), "%s", theyAre)
	}
	for _, c := range all {
		if c.name == flags.Arg(0) {
			if *gateway && !slices.Contains(gatewayCommands, c.name) {
				return say.Hint(say.Usage(fmt.Errorf("%s does not ask a gateway", c.name)), "with -gateway the commands are: %s", strings.Join(gatewayCommands, ", "))
			}
			return c.run(flags.Args()[1:], stdin, stdout, stderr)
		}
	}
	return say.Hint(say.Usage(fmt.Errorf("unknown command %q", flags.Arg(0))), "%s", theyAre)
}

func usage(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprint(w, "usage: tnat64ctl [-socket PATH] COMMAND [ARGUMENTS]\n\ncommands:\n")
	for _, c := range commands("", nil) {
		fmt.Fprintf(w, "  %-12s%s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nflags:\n")
	printFlags(w, flags)
	fmt.Fprint(w, "\ntnat64ctl COMMAND -h describes a command.\n")
}

// newFlags returns a flag set that prints nothing by itself.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// badFlags is what to do about an error of Parse: -h is no mistake.
func badFlags(err error, stdout io.Writer, hint string, usage func(io.Writer)) error {
	if errors.Is(err, flag.ErrHelp) {
		usage(stdout)
		return nil
	}
	return say.Hint(say.Usage(err), "%s", hint)
}

func printFlags(w io.Writer, flags *flag.FlagSet) {
	flags.SetOutput(w)
	flags.PrintDefaults()
	flags.SetOutput(io.Discard)
}
