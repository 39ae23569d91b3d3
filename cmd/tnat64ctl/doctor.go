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

const doctorUsage = `usage: tnat64ctl doctor [-json] [-uplink NAME] [-target HOST:PORT] [-dns ADDR,...] [-deep]

Looks at this host and its network, prints what it finds, and ends with one
sentence of diagnosis and the next step. tnat64d need not run. Exit status 0:
nothing stands between this host and IPv4 except perhaps that tnat64d has to be
started; 1: something does.

Ordinary users see most of it; root also asks the routers.

flags:
`

// errUnhealthy makes the exit status 1. All has been said.
var errUnhealthy = errors.New("not healthy")

func runDoctor(socket string, args []string, stdout, _ io.Writer) error {
	flags := newFlags("tnat64ctl doctor")
	asJSON := flags.Bool("json", false, "print findings and diagnosis as JSON")
	uplink := flags.String("uplink", "", "`NAME` of the interface to look at; default: that of the IPv6 default route")
	target := flags.String("target", "", "an IPv4 `HOST:PORT` or HOST that is known to answer, to test the way through the NAT64")
	servers := flags.String("dns", "", "DNS servers `ADDR,...` to ask instead of the network's own")
	deep := flags.Bool("deep", false, "as root: put a second address on the uplink for a few seconds, to see whether the network lets a host have more than one")
	if err := flags.Parse(args); err != nil {
		return badFlags(err, stdout, "tnat64ctl doctor -h describes the command", func(w io.Writer) {
			fmt.Fprint(w, doctorUsage)
			printFlags(w, flags)
		})
	}
	if flags.NArg() > 0 {
		return say.Hint(say.Usage(fmt.Errorf("%q is one word too many", flags.Arg(0))), "tnat64ctl doctor -h describes the command")
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
			o.NoTarget = err.Error() // and on to why
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
