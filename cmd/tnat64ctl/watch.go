package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"tnat64d/internal/control"
)

const watchUsage = `usage: tnat64ctl [-socket PATH] watch [-json]

Shows the state of tnat64d and a line for each change, until Ctrl-C. Exits with
status 1 when tnat64d ends.

With -json, writes the output of "tnat64ctl status -json" on one line after each
change.

flags:
`

// runWatch is the subcommand watch.
func runWatch(client *control.Client, args []string, stdout, _ io.Writer) error {
	asJSON, err := jsonOnly("watch", watchUsage, args, stdout)
	if err != nil || asJSON == nil {
		return err
	}
	ctx, stop := untilInterrupted()
	defer stop()
	var old *control.Status
	encoder := json.NewEncoder(stdout)
	return client.Watch(ctx, func(s control.Status) error {
		if *asJSON {
			return encoder.Encode(s)
		}
		now := time.Now()
		for _, l := range changes(old, &s, now) {
			if _, err := fmt.Fprintf(stdout, "%s %s\n", now.Format("15:04:05"), l); err != nil {
				return err
			}
		}
		old = &s
		return nil
	})
}

// changes returns a line for each change since old, which is nil at first.
func changes(old, s *control.Status, now time.Time) []string {
	if s.Gateway != nil {
		return gatewayChanges(old, s, now)
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if old == nil {
		old = &control.Status{Config: s.Config, Enable: s.Enable, Version: s.Version}
		add("%s", headline(*s, now))
	}
	if s.Config != old.Config || s.Enable != old.Enable {
		add("configuration %s, clat.enable %s", either(s.Config, "none (defaults)"), s.Enable)
	}
	for _, o := range old.Uplinks {
		if find(s.Uplinks, o.Name) == nil {
			add("%s: gone", o.Name)
		}
	}
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		o := find(old.Uplinks, u.Name)
		if o == nil {
			o = new(control.Uplink)
		}
		if u.State != o.State || u.Why != o.Why {
			add("%s: %s%s", u.Name, stateWords(u.State), colon(u.Why))
		}
		switch p, q := inUse(u), inUse(o); {
		case p == nil && q != nil:
			add("%s: lost its NAT64 prefix", u.Name)
		case p != nil && (q == nil || p.Prefix != q.Prefix || p.Source != q.Source || p.Doubted != q.Doubted):
			add("%s: NAT64 prefix %s", u.Name, prefixWords(*p, now))
		}
		if p := plat(u); p != plat(o) && p != "" {
			add("%s: NAT64 answers: %s", u.Name, platWords(u.CLAT.PLAT, translated(u.CLAT.Traffic, "4to6"), now))
		}
		if a, b := u.CLAT, o.CLAT; a != nil && b != nil && a.Engine != b.Engine {
			add("%s: engine %s%s", u.Name, a.Engine, colon(a.EngineWhy))
		}
		for _, w := range u.Warnings {
			if !slices.Contains(o.Warnings, w) {
				add("%s: warning: %s", u.Name, w)
			}
		}
	}
	if len(s.Uplinks) == 0 && s.Why != old.Why && len(lines) == 0 {
		add("no uplink%s", colon(s.Why))
	}
	return lines
}

func find(all []control.Uplink, name string) *control.Uplink {
	if i := slices.IndexFunc(all, func(u control.Uplink) bool { return u.Name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

func inUse(u *control.Uplink) *control.PREF64 {
	if i := slices.IndexFunc(u.PREF64, func(p control.PREF64) bool { return p.InUse }); i >= 0 {
		return &u.PREF64[i]
	}
	return nil
}

// plat returns the state of the PLAT, or nothing while there is no CLAT.
func plat(u *control.Uplink) control.PLATState {
	if u.CLAT == nil {
		return ""
	}
	return u.CLAT.PLAT.State
}
