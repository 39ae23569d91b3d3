package pref64

import (
	"context"
	"net/netip"
	"time"
)

// Origin says how a prefix was found. Lower values are preferred: what the
// user wrote, then what routers advertise. Further origins come after.
type Origin uint8

const (
	Static Origin = iota
	RA
)

// String returns the word for logs and status.
func (o Origin) String() string {
	if o == Static {
		return "static"
	}
	return "ra"
}

// Observation is one prefix, heard once.
type Observation struct {
	Prefix    netip.Prefix
	Origin    Origin
	Router    netip.Addr // who advertised it, without zone; invalid if static
	Interface int        // index of the interface it was heard on; 0 if static
	Expires   time.Time  // zero: never
	Withdrawn bool       // Router takes the prefix back (lifetime 0)
}

// Report is what one message told.
type Report struct {
	Observations []Observation        // in the order of the message
	RA           *RouterAdvertisement // the message, where all of it was seen
	Ignored      []Ignored            // what was in it but must not be used
}

// Ignored is something that was heard and is not used. Prefix and Router are
// invalid where the thing had none.
type Ignored struct {
	Reason Reason
	Prefix netip.Prefix
	Router netip.Addr
	Count  uint64    // how often
	Last   time.Time // most recently
}

// Source finds prefixes by one means. Run reports what it finds, from one
// goroutine at a time, until ctx ends, and then returns nil. An error means
// that this means of finding prefixes is not to be had.
type Source interface {
	Run(ctx context.Context, emit func(Report)) error
}

// report turns ra, heard on the interface ifindex at now, into a Report.
func (ra *RouterAdvertisement) report(ifindex int, now time.Time) Report {
	r := Report{RA: ra, Ignored: ra.Ignored}
	for _, p := range ra.PREF64 {
		r.Observations = append(r.Observations, p.observe(ra.Router, ifindex, now))
	}
	return r
}

func (p PREF64) observe(router netip.Addr, ifindex int, now time.Time) Observation {
	return Observation{
		Prefix:    p.Prefix,
		Origin:    RA,
		Router:    router,
		Interface: ifindex,
		Expires:   now.Add(p.Lifetime),
		Withdrawn: p.Lifetime == 0,
	}
}
