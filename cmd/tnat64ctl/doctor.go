package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/signal"
	"strings"
	"syscall"

	"tnat64d/cmd/tnat64ctl/doctor"
	"tnat64d/internal/say"
)

const doctorUsage = `usage: tnat64ctl [-socket PATH] doctor [-json] [-uplink NAME] [-target HOST:PORT] [-dns ADDR,...] [-deep]

Examines this host and its network, prints its findings, a diagnosis in one
sentence and the next step. tnat64d need not run. Exit status 0: nothing is
wrong, except perhaps that tnat64d is not running; 1: a problem was found.

Only root can solicit routers; the other tests work for every user.

flags:
`

// errUnhealthy makes the exit status 1 without a message.
var errUnhealthy = errors.New("not healthy")

func runDoctor(socket string, args []string, stdout, _ io.Writer) error {
	flags := newFlags("tnat64ctl doctor")
	asJSON := flags.Bool("json", false, "print findings and diagnosis as JSON")
	uplink := flags.String("uplink", "", "`NAME` of the interface to examine; default: that of the IPv6 default route")
	target := flags.String("target", "", "an IPv4 `HOST:PORT` or HOST that answers, to test the path through the NAT64")
	servers := flags.String("dns", "", "DNS servers `ADDR,...` to ask instead of the network's own")
	deep := flags.Bool("deep", false, "as root: add a second address to the uplink for a few seconds, to test whether the network allows more than one")
	if err := flags.Parse(args); err != nil {
		return badFlags(err, stdout, "tnat64ctl doctor -h describes the command", func(w io.Writer) {
			fmt.Fprint(w, doctorUsage)
			printFlags(w, flags)
		})
	}
	if flags.NArg() > 0 {
		return say.Hint(say.Usage(fmt.Errorf("%q is an unexpected argument", flags.Arg(0))), "tnat64ctl doctor -h describes the command")
	}
	o := doctor.Options{Uplink: *uplink, Deep: *deep, Socket: socket}
	var err error
	if o.Servers, err = parseServers(*servers); err != nil {
		return say.Usage(err)
	}
	// A temporary address is removed also when the terminal goes away.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if *target != "" {
		t, err := doctor.ParseTarget(ctx, *target)
		switch {
		case errors.Is(err, doctor.ErrName):
			o.NoTarget = err.Error() // examine nevertheless
		case err != nil:
			return say.Hint(say.Usage(err), "-target takes an IPv4 address, or a name that has one, and a port: 198.51.100.7:443")
		default:
			o.Target = &t
		}
	}
	findings, err := doctor.Examine(ctx, o)
	switch {
	case errors.Is(err, doctor.ErrNoInterface):
		return say.Usage(err)
	case err != nil:
		return err
	}
	report := doctor.NewReport(findings)
	print := report.Print
	if *asJSON {
		print = report.PrintJSON
	}
	if err := print(stdout); err != nil {
		return err
	}
	if !report.Diagnosis.Healthy {
		return errUnhealthy
	}
	return nil
}

// parseServers reads a list of addresses.
func parseServers(list string) ([]netip.Addr, error) {
	var servers []netip.Addr
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("-dns: %q is not an address", s)
		}
		servers = append(servers, a)
	}
	return servers, nil
}
