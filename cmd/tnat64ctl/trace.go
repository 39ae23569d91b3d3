package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"tnat64d/internal/control"
	"tnat64d/internal/say"
)

const traceUsage = `usage: tnat64ctl [-socket PATH] trace [flags]

Shows packets as tnat64d (with tnat64ctl -gateway, tnat64-gateway) translates or
drops them, one line for each, until Ctrl-C. A super-packet counts as one packet.
The kernel engine pauses meanwhile so that no packet is missed, and traffic is
slower.

Only root may use it, because it shows the packets of all users.

With -w, writes pcapng to FILE instead of printing lines: each packet, followed by
its translation, with verdict and reason as comments. Only its owner can read FILE
(mode 0600). "-w -" is standard output:

  sudo tnat64ctl trace -w - | wireshark -k -i -

With -json, prints one JSON object for each packet.

A packet is shown if all conditions hold. Verdicts are translated, reply (answered
with an ICMP error), drop, and collected (a fragment of an ICMP message, held until
the other fragments arrive).

flags:
`

// traceFlags are those of trace.
type traceFlags struct {
	filter control.Filter
	file   string
	json   bool
	count  uint64
}

func parseTraceFlags(args []string, stdout io.Writer) (*traceFlags, error) {
	f := new(traceFlags)
	var verdict string
	flags := newFlags("trace")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.StringVar(&f.file, "w", "", "write packets to `FILE` (pcapng)")
	flags.Uint64Var(&f.count, "c", 0, "end after `COUNT` packets")
	flags.StringVar(&f.filter.Uplink, "uplink", "", "only packets of the uplink `NAME`")
	flags.StringVar(&f.filter.Reason, "reason", "", "only packets not translated for `REASON`, a word of \"tnat64ctl status\"")
	flags.StringVar(&verdict, "verdict", "", "only packets with this `VERDICT`")
	flags.StringVar(&f.filter.Protocol, "protocol", "", "only packets of this `PROTOCOL`: tcp, udp, icmp or a number")
	flags.Func("address", "only packets from or to this `ADDRESS` or prefix, before or after translation", func(s string) (err error) {
		f.filter.Address, err = control.ParseAddress(s)
		return err
	})
	const hint = "tnat64ctl trace -h lists the flags"
	if err := flags.Parse(args); err != nil {
		return nil, badFlags(err, stdout, hint, func(w io.Writer) {
			io.WriteString(w, traceUsage)
			printFlags(w, flags)
		})
	}
	f.filter.Verdict = control.Verdict(verdict)
	if f.file != "" {
		f.filter.Snaplen = control.MaxSnaplen
	}
	err := f.filter.Check()
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("trace takes no arguments, got %q", flags.Arg(0))
	case f.file == "-" && f.json:
		err = errors.New("-w - and -json both use standard output")
	default:
		return f, nil
	}
	return nil, say.Hint(say.Usage(err), "%s", hint)
}

// errEnough ends a trace after -c packets.
var errEnough = errors.New("enough")

// runTrace is the subcommand trace.
func runTrace(client *control.Client, args []string, stdout, stderr io.Writer) error {
	flags, err := parseTraceFlags(args, stdout)
	if err != nil || flags == nil {
		return err
	}
	ctx, stop := untilInterrupted()
	defer stop()
	s, err := client.Status(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	out, err := flags.output(ctx, stdout)
	if ctx.Err() != nil && out == nil {
		return nil
	}
	if err != nil {
		return err
	}
	var sum summary
	err = client.Trace(ctx, flags.filter, func() { fmt.Fprintln(stderr, beginning(s, flags.filter)) }, func(r control.Record) error {
		sum.add(&r)
		if err := out.record(&r); err != nil {
			return err
		}
		if sum.total == flags.count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	// What was seen is kept whatever happened.
	if e := out.Close(); err == nil {
		err = e
	}
	if sum.begun() || err == nil {
		fmt.Fprint(stderr, sum.String())
	}
	return err
}

// beginning says what is to be known before packets come.
func beginning(s control.Status, f control.Filter) string {
	var names []string
	var up, kernel bool
	translator := "CLAT"
	if g := s.Gateway; g != nil { // its TUN stands for an uplink
		translator = "NAT64"
		if g.Up {
			names = []string{g.TUN}
		}
		up = g.Up && (f.Uplink == "" || f.Uplink == g.TUN)
		kernel = g.Engine == "kernel"
	}
	for _, u := range s.Uplinks {
		names = append(names, u.Name)
		if u.CLAT != nil && (f.Uplink == "" || f.Uplink == u.Name) {
			up = true
			kernel = kernel || u.CLAT.Engine == "kernel"
		}
	}
	text := "tracing"
	switch {
	case f.Uplink != "" && !slices.Contains(names, f.Uplink):
		text += fmt.Sprintf("; there is no uplink %q now", f.Uplink)
		if names != nil {
			text += ", but " + strings.Join(names, ", ")
		}
	case !up:
		text += fmt.Sprintf("; no %s is up, so there are no packets yet", translator)
	case kernel:
		text += "; the kernel engine pauses meanwhile, so traffic is slower"
	}
	return text + ". Ctrl-C ends it."
}

// recorder is what happens to packets.
type recorder interface {
	record(*control.Record) error
	io.Closer
}

func (f *traceFlags) output(ctx context.Context, stdout io.Writer) (recorder, error) {
	var all recorders
	if f.file != "" {
		s, err := createTrace(ctx, f.file, stdout)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	switch {
	case f.json:
		all = append(all, jsonRecords{json.NewEncoder(stdout)})
	case f.file == "":
		all = append(all, textRecords{stdout})
	}
	return all, nil
}

type recorders []recorder

func (all recorders) record(r *control.Record) error {
	for _, o := range all {
		if err := o.record(r); err != nil {
			return err
		}
	}
	return nil
}

func (all recorders) Close() error {
	var errs []error
	for _, o := range all {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

type jsonRecords struct{ *json.Encoder }

func (j jsonRecords) record(r *control.Record) error { return j.Encode(r) }
func (jsonRecords) Close() error                     { return nil }

type textRecords struct{ w io.Writer }

func (t textRecords) record(r *control.Record) error {
	_, err := io.WriteString(t.w, recordText(r))
	return err
}
func (textRecords) Close() error { return nil }
