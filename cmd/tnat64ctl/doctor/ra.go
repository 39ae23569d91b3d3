package doctor

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/pref64"
)

const (
	// After the first advertisement other routers may still answer: a router
	// waits up to half a second (RFC 4861 section 6.2.6).
	raSettle = 600 * time.Millisecond
	// raPatience is for two solicitations, which are 4 s apart.
	raPatience = 4700 * time.Millisecond
	// raOverhear is how long an ordinary user listens, who cannot ask.
	raOverhear = 1500 * time.Millisecond
)

// listen listens to router advertisements on the uplink, and asks for them
// where this user may.
func listen(ctx context.Context, u Uplink, own []netip.Prefix) RA {
	ra := RA{Solicited: privileged(unix.CAP_NET_RAW)}
	switch {
	case !u.Up:
		ra.Error = u.Name + " is not connected"
		return ra
	case u.IPv6Off:
		ra.Error = "IPv6 is switched off on " + u.Name
		return ra
	}
	patience := raPatience
	if !ra.Solicited {
		patience = raOverhear
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	err := pref64.NewRASource(u.Index, slog.New(slog.DiscardHandler)).Run(ctx, func(r pref64.Report) {
		if ra.add(r, own) && ra.Solicited {
			time.AfterFunc(raSettle, cancel)
		}
	})
	if err != nil {
		ra.Error = err.Error()
	}
	ra.Listened = time.Since(start)
	return ra
}

// add takes in what one message told, and reports whether it was a router's.
func (ra *RA) add(r pref64.Report, own []netip.Prefix) bool {
	for _, o := range r.Observations {
		if o.Withdrawn {
			continue
		}
		router := ra.router(o.Router)
		router.PREF64 = union(router.PREF64, []netip.Prefix{o.Prefix})
		if slices.ContainsFunc(own, o.Prefix.Overlaps) {
			ra.refuse(Refused{Prefix: o.Prefix, Why: "it overlaps an address of this host"})
		}
	}
	for _, d := range r.Resolvers {
		if router := ra.router(d.Router); !d.Withdrawn && !slices.Contains(router.Resolvers, d.Addr) {
			router.Resolvers = append(router.Resolvers, d.Addr)
		}
	}
	for _, ig := range r.Ignored {
		switch ig.Reason {
		case pref64.NotLinkLocal, pref64.HopLimit, pref64.Truncated:
			// Perhaps no advertisement at all: until its filter is set the raw
			// socket takes every ICMPv6 message, and the type is looked at last.
			continue
		}
		ra.refuse(Refused{Prefix: ig.Prefix, Why: ig.Reason.Explanation()})
	}
	if r.RA == nil {
		return len(r.Observations) > 0
	}
	router := ra.router(r.RA.Router)
	router.Default = r.RA.RouterLifetime > 0
	for _, p := range r.RA.Prefixes {
		if p.Autonomous && p.Valid > 0 && p.Prefix.Bits() == 64 {
			router.SLAAC = union(router.SLAAC, []netip.Prefix{p.Prefix})
		}
		for _, o := range r.Observations {
			if (p.OnLink || p.Autonomous) && p.Prefix.Overlaps(o.Prefix) {
				ra.refuse(Refused{Prefix: o.Prefix, Why: "it overlaps a prefix of the link itself"})
			}
		}
	}
	return true
}

// router returns the entry of a router. The pointer is good until the next one
// is added.
func (ra *RA) router(a netip.Addr) *Router {
	i := slices.IndexFunc(ra.Routers, func(r Router) bool { return r.Address == a })
	if i < 0 {
		i = len(ra.Routers)
		ra.Routers = append(ra.Routers, Router{Address: a})
	}
	return &ra.Routers[i]
}

func (ra *RA) refuse(r Refused) {
	known := slices.ContainsFunc(ra.Refused, func(o Refused) bool { return o.Prefix == r.Prefix })
	if !known && len(ra.Refused) < maxRefused {
		ra.Refused = append(ra.Refused, r)
	}
}

const maxRefused = 4 // that are worth telling
