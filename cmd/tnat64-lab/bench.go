package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"text/tabwriter"

	"tnat64d/cmd/tnat64-lab/lab"
)

// bench measures every load for every contestant over the same path: nothing
// in the way (untranslated IPv6), Debian's tayga, and tnat64d with either
// engine. The server owns the synthesised address itself (no PLAT), so that
// the path holds one translator or none. Contestants take turns in every round,
// so that a machine that drifts hurts all alike, and a ratio compares what was
// measured in the same round.
func bench(ctx context.Context, inv invocation, out io.Writer) (err error) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return hinted{err, "`make bench` installs iperf3 and tayga"}
	}
	o := inv.options
	o.NoPLAT = true
	if !o.PREF64.IsValid() {
		// Not the well-known prefix, which tayga refuses for test networks.
		o.PREF64 = netip.MustParsePrefix("2001:db8:64::/96")
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	user := &daemonContestant{path: inv.tnat64d, engine: "user"}
	kernel := &daemonContestant{path: inv.tnat64d, engine: "kernel"}
	contestants := []contestant{native{}, taygaContestant{}, user, kernel}
	results := make([][][]float64, len(contestants)) // by contestant, load, round
	for i := range results {
		results[i] = make([][]float64, len(loads))
	}
	absent := make([]bool, len(contestants))
	for round := range inv.rounds {
		for i, c := range contestants {
			r, err := measure(ctx, l, c, inv.seconds)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, exec.ErrNotFound) {
				absent[i] = true
				continue
			}
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", c.name(), round+1, err)
			}
			for k, v := range r {
				results[i][k] = append(results[i][k], v)
			}
		}
	}
	fmt.Fprintf(out, "%d rounds of %d s; medians, and the share of untranslated IPv6 in the same round\n\n", inv.rounds, inv.seconds)
	if err := printTable(out, contestants, results, absent); err != nil {
		return err
	}
	if !absent[1] {
		for i, c := range []contestant{user, kernel} {
			fmt.Fprintf(out, "\n%s, one TCP stream: %.1f times tayga up, %.1f times down", c.name(),
				median(results[i+2][0], results[1][0]), median(results[i+2][1], results[1][1]))
		}
	}
	_, err = fmt.Fprintf(out, "\ntnat64d's memory at its peak (RSS): %.1f MB\n", float64(max(user.rss, kernel.rss))/1e6)
	return err
}

// contestant makes the laptop reach the server in its own way.
type contestant interface {
	name() string
	// start returns the address that a program connects to, and how to stop.
	start(context.Context, *lab.Lab) (target netip.Addr, stop func() error, err error)
}

// measure starts the contestant and puts all loads on it.
func measure(ctx context.Context, l *lab.Lab, c contestant, seconds int) (values []float64, err error) {
	target, stop, err := c.start(ctx, l)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, load := range loads {
		v, err := load.run(ctx, l, target, seconds)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", load.name, err)
		}
		values = append(values, v)
	}
	return values, nil
}

// printTable prints a row for each load.
func printTable(out io.Writer, cs []contestant, results [][][]float64, absent []bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\t\t")
	for i, c := range cs {
		fmt.Fprintf(w, "%s\t", c.name())
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
	}
	fmt.Fprintln(w)
	for k, load := range loads {
		fmt.Fprintf(w, "%s\t%s\t", load.name, load.unit)
		for i := range cs {
			if absent[i] {
				fmt.Fprint(w, "not installed\t\t")
				continue
			}
			fmt.Fprintf(w, load.format+"\t", median(results[i][k], nil)/load.scale)
			if i > 0 {
				fmt.Fprintf(w, "%.2f\t", median(results[i][k], results[0][k]))
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// median returns the median of values, each divided by that of base in the
// same round if there is one.
func median(values, base []float64) float64 {
	v := slices.Clone(values)
	for i := range v {
		if base != nil {
			v[i] /= base[i]
		}
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// native is untranslated IPv6 to the synthesised address.
type native struct{}

func (native) name() string { return "IPv6" }

func (native) start(_ context.Context, l *lab.Lab) (netip.Addr, func() error, error) {
	return lab.Synthesize(l.PREF64(), lab.ServerIPv4), func() error { return nil }, nil
}

// daemonContestant is the tnat64d under test.
type daemonContestant struct {
	path   string
	engine string
	rss    int64 // the most it had in any round, bytes
}

func (c *daemonContestant) name() string { return "tnat64d " + c.engine }

func (c *daemonContestant) start(ctx context.Context, l *lab.Lab) (netip.Addr, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var log bytes.Buffer
	d, err := l.StartDaemon(ctx, c.path, fmt.Sprintf("[clat]\nengine = %q\n", c.engine), &log)
	if err != nil {
		return netip.Addr{}, nil, fmt.Errorf("%w\n%s", err, log.Bytes())
	}
	if _, err := l.WaitCLAT(ctx); err != nil {
		return netip.Addr{}, nil, errors.Join(err, d.Stop())
	}
	return lab.ServerIPv4, func() error {
		rss, err := d.PeakRSS()
		c.rss = max(c.rss, rss)
		return errors.Join(err, d.Stop())
	}, nil
}
