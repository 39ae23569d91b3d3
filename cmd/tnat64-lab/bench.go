package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"tnat64d/cmd/tnat64-lab/lab"
)

// bench measures one TCP stream in both directions over the same path:
// untranslated IPv6, Debian's tayga, and tnat64d. The server owns the
// synthesised address itself (no PLAT), so that the path holds one translator
// or none. Contestants take turns in every round, so that a machine that
// drifts hurts all alike, and ratios are those within a round.
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
	daemon := &daemonContestant{path: inv.tnat64d}
	contestants := []contestant{native{}, &taygaContestant{}, daemon}
	results := make([]runs, len(contestants))
	for round := range inv.rounds {
		for i, c := range contestants {
			r, err := measureContestant(ctx, l, c, inv.seconds)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, exec.ErrNotFound) {
				results[i].absent = true
				continue
			}
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", c.name(), round+1, err)
			}
			results[i].rounds = append(results[i].rounds, r)
		}
	}
	return printBench(out, inv, contestants, results, daemon.rss)
}

// contestant makes the laptop reach the server in its own way.
type contestant interface {
	name() string
	// start returns the address that a program connects to, and how to stop.
	start(context.Context, *lab.Lab) (target string, stop func() error, err error)
}

// throughput is what one round gave, in bits per second.
type throughput struct{ up, down float64 }

type runs struct {
	absent bool
	rounds []throughput
}

func measureContestant(ctx context.Context, l *lab.Lab, c contestant, seconds int) (t throughput, err error) {
	target, stop, err := c.start(ctx, l)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if t.up, err = iperf3(ctx, l, target, seconds); err != nil {
		return t, err
	}
	t.down, err = iperf3(ctx, l, target, seconds, "-R")
	return t, err
}

// iperf3 runs one TCP stream from the laptop and returns what arrived.
func iperf3(ctx context.Context, l *lab.Lab, target string, seconds int, more ...string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+20*time.Second)
	defer cancel()
	// A server of its own: one that has lost its client says that it is busy.
	server := l.Server.Command(ctx, "iperf3", "-s")
	if err := server.Start(); err != nil {
		return 0, err
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	time.Sleep(200 * time.Millisecond) // until it listens
	args := append([]string{"-J", "-c", target, "-t", strconv.Itoa(seconds), "-O", "1"}, more...)
	cmd := l.Laptop.Command(ctx, "iperf3", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	var report struct {
		Error string
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jsonErr := json.Unmarshal(stdout, &report); err == nil {
		err = jsonErr
	}
	if report.Error != "" {
		err = errors.New(report.Error)
	}
	if err != nil {
		return 0, fmt.Errorf("iperf3 to %s: %w %s", target, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return report.End.Received.BitsPerSecond, nil
}

// native is untranslated IPv6 to the synthesised address.
type native struct{}

func (native) name() string { return "untranslated IPv6" }

func (native) start(_ context.Context, l *lab.Lab) (string, func() error, error) {
	return lab.Synthesize(l.PREF64(), lab.ServerIPv4).String(), func() error { return nil }, nil
}

// daemonContestant is the tnat64d under test.
type daemonContestant struct {
	path string
	rss  int64 // the most it had in any round, bytes
}

func (*daemonContestant) name() string { return "tnat64d" }

func (c *daemonContestant) start(ctx context.Context, l *lab.Lab) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var log bytes.Buffer
	d, err := l.StartDaemon(ctx, c.path, "", &log)
	if err != nil {
		return "", nil, fmt.Errorf("%w\n%s", err, log.Bytes())
	}
	if _, err := l.WaitCLAT(ctx); err != nil {
		return "", nil, errors.Join(err, d.Stop())
	}
	return lab.ServerIPv4.String(), func() error {
		rss, err := d.PeakRSS()
		c.rss = max(c.rss, rss)
		return errors.Join(err, d.Stop())
	}, nil
}

// printBench prints medians, and ratios to untranslated IPv6 within a round.
func printBench(out io.Writer, inv invocation, cs []contestant, results []runs, rss int64) error {
	fmt.Fprintf(out, "one TCP stream, %d rounds of %d s, Gbit/s up and down (median), ratio to untranslated IPv6 of the same round\n\n", inv.rounds, inv.seconds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tup\tdown\tratio up\tratio down\t")
	base := results[0].rounds
	for i, c := range cs {
		r := results[i]
		if r.absent {
			fmt.Fprintf(w, "%s\tnot installed\t\t\t\t\n", c.name())
			continue
		}
		up := func(t throughput) float64 { return t.up }
		down := func(t throughput) float64 { return t.down }
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n", c.name(),
			median(r.rounds, nil, up)/1e9, median(r.rounds, nil, down)/1e9,
			median(r.rounds, base, up), median(r.rounds, base, down))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if t, d := results[1], results[2]; !t.absent {
		fmt.Fprintf(out, "\ntnat64d is %.1f times tayga up, %.1f times down",
			median(d.rounds, t.rounds, func(t throughput) float64 { return t.up }),
			median(d.rounds, t.rounds, func(t throughput) float64 { return t.down }))
	}
	_, err := fmt.Fprintf(out, "\ntnat64d's memory at its peak (RSS): %.1f MB\n", float64(rss)/1e6)
	return err
}

// median returns the median over the rounds of value, divided by that of base
// in the same round if there is one.
func median(rounds, base []throughput, value func(throughput) float64) float64 {
	v := make([]float64, len(rounds))
	for i, r := range rounds {
		v[i] = value(r)
		if base != nil {
			v[i] /= value(base[i])
		}
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
