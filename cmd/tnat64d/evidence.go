package main

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/host"
)

const (
	maxEvidence = 32 // destinations that are remembered
	maxTargets  = 6  // of these, how many are probed at once
)

// evidence remembers IPv4 destinations that have answered a program of the host.
// They are probed when a PLAT seems silent. Every user has the same share, so that
// one user cannot fill it with destinations that go silent on demand.
type evidence struct{ known []destination }

// destination is a destination that has answered.
type destination struct {
	target
	user uint32
	via  platPath // the path over which it answered
	last time.Time
}

// target is a destination to probe: with ICMP echo, and with a TCP connection if
// it has a port.
type target struct {
	addr           netip.Addr
	port           uint16 // of TCP; 0: none is known
	answeredBefore bool   // over the path that is judged
	user           uint32 // whose open socket it is from, if it has not answered
}

// note remembers the peers of a CLAT's sockets, whose packets take the path via.
func (e *evidence) note(peers []host.Peer, via platPath, now time.Time) {
	for _, p := range peers {
		if !p.Answered || !mayBeAsked(p.Addr.Addr()) {
			continue
		}
		d := destination{target{addr: p.Addr.Addr(), port: p.Addr.Port()}, p.User, via, now}
		i := slices.IndexFunc(e.known, func(o destination) bool { return o.addr == d.addr })
		switch {
		case i >= 0 && p.User == host.UnknownUser:
			e.known[i].last, e.known[i].via = now, via
			continue
		case i >= 0:
			e.known[i] = d
			continue
		case len(e.known) == maxEvidence:
			e.forget()
		}
		e.known = append(e.known, d)
	}
}

// forget makes room: it removes the oldest destination of the user with the most.
func (e *evidence) forget() {
	count := map[uint32]int{}
	for _, d := range e.known {
		count[d.user]++
	}
	worst := slices.MinFunc(e.known, func(a, b destination) int {
		return cmp.Or(cmp.Compare(count[b.user], count[a.user]), cmp.Compare(a.user, b.user), a.last.Compare(b.last))
	})
	e.known = slices.DeleteFunc(e.known, func(d destination) bool { return d.addr == worst.addr })
}

// targets returns the destinations to probe: first, for each user in turn, those
// that answered most recently, then peers of open sockets that have not answered
// yet.
func (e *evidence) targets(peers []host.Peer, via platPath) (all []target) {
	known := slices.Clone(e.known)
	slices.SortStableFunc(known, func(a, b destination) int { return b.last.Compare(a.last) })
	turn := map[uint32]int{}
	rank := make(map[netip.Addr]int, len(known))
	for _, d := range known {
		rank[d.addr] = turn[d.user]
		turn[d.user]++
	}
	slices.SortStableFunc(known, func(a, b destination) int { return cmp.Compare(rank[a.addr], rank[b.addr]) })
	for _, d := range known {
		if len(all) < maxTargets {
			d.answeredBefore = d.via == via
			all = append(all, d.target)
		}
	}
	for _, p := range peers {
		a := p.Addr.Addr()
		if len(all) == maxTargets {
			break
		}
		if p.Answered || !mayBeAsked(a) || slices.ContainsFunc(all, func(t target) bool { return t.addr == a }) {
			continue
		}
		t := target{addr: a, user: p.User}
		if p.TCP {
			t.port = p.Addr.Port()
		}
		all = append(all, t)
	}
	return all
}

func mayBeAsked(a netip.Addr) bool {
	return a.Is4() && !a.IsLoopback() && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && a.As4()[0] < 240
}
