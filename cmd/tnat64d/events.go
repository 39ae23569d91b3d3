package main

import (
	"context"
	"net/netip"
	"os"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/bus"
	"tnat64d/internal/control"
	"tnat64d/internal/resume"
)

// event is something that calls for another look.
type event any

type (
	hostChanged    struct{}                      // links, addresses or routes
	prefixChanged  struct{}                      // what a tracker says
	retryDue       struct{}                      // the timer
	tickDue        struct{}                      // the other timer
	startIsOver    struct{}                      // of patience with DAD before saying ready
	reload         struct{}                      // SIGHUP
	dnsChanged     struct{}                      // the resolvers of some link
	managerChanged struct{}                      // NetworkManager has come or gone
	woken          struct{ after time.Duration } // 0: logind says so, and not for how long
	clockSet       struct{ by time.Duration }    // the wall clock, besides
	nudged         struct {
		control.Nudge
		by control.Peer
	}
	asked       struct{ f func() } // by the control socket or the metrics
	platChecked struct {
		link plan.Uplink
		platCheck
	}
	returnChecked struct {
		link    plan.Uplink
		via     platPath
		answers map[netip.Prefix]bool // of PREF64s that were given up
	}
	engineEnded struct { // by itself
		path *path
		err  error
	}
)

// inbox is where events for the loop arrive.
type inbox struct {
	ctx    context.Context // ends the loop and everything beside it
	events chan event
}

// post hands an event to the loop, unless that has ended.
func (i *inbox) post(e event) {
	select {
	case i.events <- e:
	case <-i.ctx.Done():
	}
}

// ask runs f in the loop, and reports whether it did within the time of ctx.
func (i *inbox) ask(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case i.events <- asked{func() { f(); close(done) }}:
	case <-ctx.Done():
		return false
	case <-i.ctx.Done():
		return false
	}
	<-done
	return true
}

// listen turns what others tell into events.
func listen(i *inbox, b *bus.Bus, hup <-chan os.Signal) {
	for {
		select {
		case <-hup:
			i.post(reload{})
		case <-b.DNSChanged():
			i.post(dnsChanged{})
		case <-b.ManagerChanged():
			i.post(managerChanged{})
		case asleep := <-b.Sleep():
			if !asleep {
				i.post(woken{})
			}
		case <-i.ctx.Done():
			return
		}
	}
}

// slept is called when the machine has slept, or somebody has set its clock.
func (i *inbox) slept(e resume.Event) {
	if e.Set != 0 {
		i.post(clockSet{e.Set})
	}
	if e.Slept > 0 {
		i.post(woken{e.Slept})
	}
}
