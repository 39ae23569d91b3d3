package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat"
	"tnat64d/cmd/internal/config"
	"tnat64d/pref64"
)

// discovery finds the PREF64 of one uplink. Static prefixes leave nothing to
// discover: then nothing listens and nothing is sent.
type discovery struct {
	uplink  clat.Uplink
	static  []netip.Prefix
	tracker *pref64.Tracker
	own     []netip.Prefix // what the tracker was last told
	stop    context.CancelFunc
}

// discover starts to look for the PREF64 of an uplink. changed is called, from
// another goroutine, when the tracker may say something else.
func discover(ctx context.Context, up clat.Uplink, c config.Config, log *slog.Logger, changed func()) *discovery {
	ctx, stop := context.WithCancel(ctx)
	log = log.With("iface", up.Name)
	d := &discovery{uplink: up, static: c.CLAT.PREF64, stop: stop, tracker: pref64.NewTracker(c.CLAT.PREF64, log)}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.tracker.Changed():
				changed()
			}
		}
	}()
	if len(d.static) == 0 && slices.Contains(c.Discovery.Sources, config.RA) {
		go listen(ctx, pref64.NewRASource(up.Index, log), d.tracker, log)
	}
	return d
}

// listenAgain is how long to wait after a source has failed.
const listenAgain = 30 * time.Second

func listen(ctx context.Context, src pref64.Source, t *pref64.Tracker, log *slog.Logger) {
	for said := false; ; said = true {
		err := src.Run(ctx, t.Apply)
		if ctx.Err() != nil {
			return
		}
		if !said {
			log.Error("cannot discover PREF64; trying again every 30 seconds", "reason", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenAgain):
		}
	}
}

// fits reports whether d is what the configuration asks for on the uplink.
func (d *discovery) fits(up clat.Uplink, c config.Config) bool {
	return d != nil && d.uplink == up && slices.Equal(d.static, c.CLAT.PREF64)
}

func (d *discovery) close() {
	if d != nil {
		d.stop()
		d.tracker.Close()
	}
}

// complete adds to an observation what routers have said, and tells the
// tracker which prefixes cannot be a PREF64.
func (d *discovery) complete(o *clat.Observed) {
	if d == nil {
		return
	}
	var own []netip.Prefix
	for _, a := range o.Addrs {
		if ip := a.Prefix.Addr(); a.Link == d.uplink.Index && ip.Is6() && !ip.IsLinkLocalUnicast() {
			own = append(own, a.Prefix.Masked())
		}
	}
	if !slices.Equal(own, d.own) {
		d.own = own
		d.tracker.SetOwn(own)
	}
	if p, ok := d.tracker.Current(); ok {
		o.PREF64 = append(o.PREF64, clat.PREF64{Link: d.uplink.Index, Prefix: p.Prefix, Source: source(p)})
	}
	// Where the kernel accepts router advertisements it has done this itself.
	if mtu := clat.MTU6(d.tracker.MTU()); mtu != 0 {
		for i := range o.Links {
			if l := &o.Links[i]; l.Index == d.uplink.Index && (l.MTU6 == 0 || mtu < l.MTU6) {
				l.MTU6 = mtu
			}
		}
	}
}

// source says for people where a prefix is from.
func source(p pref64.Observation) string {
	if p.Router.IsValid() {
		return fmt.Sprintf("%s from %s", p.Origin, p.Router)
	}
	return p.Origin.String()
}
