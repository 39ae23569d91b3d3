package pref64

import (
	"context"
	"net/netip"
	"time"
)

// Origin says how a prefix was found. Lower values are preferred: configured, then
// advertised by routers, then derived from DNS (RFC 9872).
type Origin uint8

const (
	Static Origin = iota
	RA
	DNS
)

// String returns the word for logs and status.
func (o Origin) String() string { return [...]string{Static: "static", RA: "ra", DNS: "dns"}[o] }

// Observation is one prefix, heard once.
type Observation struct {
	Prefix    netip.Prefix
	Origin    Origin
	Router    netip.Addr // who said so, without zone: the router, or the resolver; invalid if static
	Interface int        // index of the interface it was heard on; 0 if static
	Expires   time.Time  // zero: never. That of DNS includes a minute of grace
	Withdrawn bool       // Router takes the prefix back (lifetime 0)
	Doubted   bool       // its PLAT does not answer (Tracker.Doubt); only in a Snapshot
	Neighbour bool       // only Router says so, which is no default router; only in a Snapshot

	// Remembered says that Router said so to a former process, and has not said
	// it again (Finder.Restore).
	Remembered bool
}

// Resolver is one DNS server that a router advertises, heard once.
type Resolver struct {
	Addr      netip.Addr // without zone
	Router    netip.Addr // who advertised it, without zone
	Expires   time.Time  // zero: never
	Withdrawn bool       // Router takes it back (lifetime 0)
}

// Report is the content of one message.
type Report struct {
	Observations []Observation        // in the order of the message
	Resolvers    []Resolver           // in the order of the message
	RA           *RouterAdvertisement // the message, where all of it was seen
	Ignored      []Ignored            // what was in it but must not be used
}

// Ignored is something that was received and is not used. Prefix and Router are
// invalid if it had none.
type Ignored struct {
	Reason Reason
	Prefix netip.Prefix
	Router netip.Addr // or the resolver
	Count  uint64     // how often; in a Report 0 is once
	Last   time.Time  // most recently
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
	for _, d := range ra.RDNSS {
		r.Resolvers = append(r.Resolvers, d.observe(ra.Router, now)...)
	}
	return r
}

func (d RDNSS) observe(router netip.Addr, now time.Time) []Resolver {
	var rs []Resolver
	for _, a := range d.Servers {
		rs = append(rs, Resolver{Addr: a, Router: router, Expires: end(now, d.Lifetime), Withdrawn: d.Lifetime == 0})
	}
	return rs
}

// end is when a lifetime that begins now ends; zero: never.
func end(now time.Time, lifetime time.Duration) time.Time {
	if lifetime == Infinite {
		return time.Time{}
	}
	return now.Add(lifetime)
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
