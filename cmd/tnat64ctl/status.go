package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/say"
)

const statusUsage = `usage: tnat64ctl [-socket PATH] status [-json]

Shows the state of the running tnat64d: one sentence, then for each uplink the
NAT64 prefix and its source, the addresses, what was translated, and what was
not and why.

With -json, the same as one JSON object. Fields may be added, but existing ones
do not change.

The exit status is 0 if tnat64d answers, whatever its state. Run "tnat64ctl
doctor" for a diagnosis.

flags:
`

// runStatus is the subcommand status.
func runStatus(client *control.Client, args []string, stdout, _ io.Writer) error {
	asJSON, err := jsonOnly("status", statusUsage, args, stdout)
	if err != nil || asJSON == nil {
		return err
	}
	s, err := client.Status(context.Background())
	if err != nil {
		return err
	}
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	_, err = io.WriteString(stdout, statusText(s, time.Now()))
	return err
}

// jsonOnly parses the flags of a command that has -json and no arguments. It
// returns nil if nothing is left to do.
func jsonOnly(name, usage string, args []string, stdout io.Writer) (asJSON *bool, err error) {
	flags := newFlags(name)
	asJSON = flags.Bool("json", false, "print JSON")
	hint := fmt.Sprintf("usage: tnat64ctl %s [-json]", name)
	if err := flags.Parse(args); err != nil {
		return nil, badFlags(err, stdout, hint, func(w io.Writer) {
			io.WriteString(w, usage)
			printFlags(w, flags)
		})
	}
	if flags.NArg() > 0 {
		return nil, say.Hint(say.Usage(fmt.Errorf("%s takes no arguments, got %q", name, flags.Arg(0))), "%s", hint)
	}
	return asJSON, nil
}

// untilInterrupted returns a context that ends with Ctrl-C or with the session. A
// second Ctrl-C ends the process, whatever it waits for.
func untilInterrupted() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// statusText returns the output of status.
func statusText(s control.Status, now time.Time) string {
	if s.Gateway != nil {
		return gatewayText(s, now)
	}
	var t statusLines
	t.line("%s", headline(s, now))
	for i := range s.Uplinks {
		t.line("")
		t.uplink(&s.Uplinks[i], now)
	}
	for _, name := range s.Missing {
		t.line("")
		t.line("%s: waiting for this interface of clat.uplinks, which does not exist", name)
	}
	t.line("")
	t.daemon(s, now)
	return t.String()
}

// headline answers "does IPv4 work?" in one sentence.
func headline(s control.Status, now time.Time) string {
	u := mostUseful(s.Uplinks)
	if u == nil {
		return "No CLAT: " + either(s.Why, "there is no uplink") + "."
	}
	on := "on " + u.Name
	why := strings.TrimSuffix(u.Why, ".")
	switch u.State {
	case control.Up, control.Moving:
		switch c := u.CLAT; {
		case c == nil:
		case c.PLAT.State == control.PLATSilent:
			return fmt.Sprintf("IPv4 does not work: the CLAT %s is up, but the network's NAT64 has not answered for %s.", on, ago(now.Sub(c.PLAT.Since)))
		case c.PLAT.State != control.PLATUnknown || translated(c.Traffic, "6to4") > 0:
		case translated(c.Traffic, "4to6") > 0:
			return fmt.Sprintf("IPv4 is ready: the CLAT %s has been up for %s, and no answer has been seen yet.", on, ago(now.Sub(u.Since)))
		default:
			return fmt.Sprintf("IPv4 is ready: the CLAT %s has been up for %s and has not been used yet.", on, ago(now.Sub(u.Since)))
		}
		return fmt.Sprintf("IPv4 works: the CLAT %s has been up for %s.", on, ago(now.Sub(u.Since)))
	case control.Starting:
		return fmt.Sprintf("IPv4 is about to work: the CLAT %s is starting%s.", on, colon(why))
	case control.Held:
		return fmt.Sprintf("IPv4 does not work at the moment: the CLAT %s waits for the network to come back%s.", on, colon(why))
	case control.Standby:
		return fmt.Sprintf("No CLAT %s, and none is needed%s.", on, colon(why))
	case control.Failed:
		if u.CLAT != nil {
			return fmt.Sprintf("IPv4 may not work: a part of the CLAT %s cannot be restored; retrying%s.", on, colon(why))
		}
		return fmt.Sprintf("No CLAT %s: starting it failed; retrying%s.", on, colon(why))
	}
	return fmt.Sprintf("No CLAT %s%s.", on, colon(either(why, stateWords(u.State))))
}

// mostUseful returns the uplink for the headline: one whose CLAT works, else one
// that needs none, which carries the IPv4 of this host, else one that needs a CLAT,
// else the first.
func mostUseful(uplinks []control.Uplink) *control.Uplink {
	var best *control.Uplink
	rank := func(u *control.Uplink) int {
		up := u.State == control.Up || u.State == control.Moving
		switch {
		case up && (u.CLAT == nil || u.CLAT.PLAT.State != control.PLATSilent):
			return 5
		case u.State == control.Standby:
			return 4
		case up:
			return 3
		case u.State == control.Starting:
			return 2
		case u.State == control.Held:
			return 1
		}
		return 0
	}
	for i := range uplinks {
		if u := &uplinks[i]; best == nil || rank(u) > rank(best) {
			best = u
		}
	}
	return best
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func either(a, b string) string {
	if a == "" {
		return b
	}
	return a
}
