package main

import (
	"net/netip"
	"time"

	"tnat64d/clat/host"
	"tnat64d/pref64"
)

// platPath is how packets reach a PLAT: PREF64 and the CLAT address that answers
// come back to.
type platPath struct {
	pref64 netip.Prefix
	ipv6   netip.Addr
}

// platCheck is what was asked through the PLATs of an uplink, and who answered.
type platCheck struct {
	via        platPath // that was judged
	inUse      pref64.Observation
	targets    []target
	configured bool          // discovery.plat-probe is one of them
	answered   bool          // by the path in use
	known      bool          // something has answered by that path before
	quiet      time.Duration // since the first packet after the last answer
	gone       bool          // the router that advertises the PREF64 in use is unreachable
	candidates []candidateCheck
}

// candidateCheck is another PREF64 and whether somebody answered behind it.
type candidateCheck struct {
	pref64.Observation
	answered bool
}

// verdict is what follows from a platCheck.
type verdict struct {
	state verdictState
	// doubt are the prefixes that another one is to be preferred to: the one in
	// use, and others that do not answer either. Empty: it stays in use.
	doubt []netip.Prefix
}

type verdictState uint8

const (
	unsure verdictState = iota // too little is known to call the PLAT silent
	alive
	silent
)

// enoughEvidence is how many destinations must have answered before and answer
// no longer, for a PREF64 to be given up for what another router says.
const enoughEvidence = 2

// longSilence is how long several users must have waited for an answer, where no
// destination is known to have answered before: UDP leaves no trace of an answer.
const longSilence = 2 * time.Minute

// severalWait reports whether at least two users have sent to at least two
// destinations for longSilence, and none has answered anybody. A single user
// cannot bring that about.
func (c platCheck) severalWait() bool {
	if c.quiet < longSilence {
		return false
	}
	users, destinations := map[uint32]bool{}, map[netip.Addr]bool{}
	for _, t := range c.targets {
		if !t.answeredBefore && t.user != host.UnknownUser {
			users[t.user], destinations[t.addr] = true, true
		}
	}
	return len(users) >= enoughEvidence && len(destinations) >= enoughEvidence
}

// judge decides by a check whether the PLAT in use is silent and whether another
// PREF64 takes its place. Packets that go out in vain prove nothing: a local
// user may send as many as he likes to hosts that do not exist, and answer from
// a PREF64 of his own. So
//
//   - a PLAT by which somebody answers is alive;
//   - it is silent if nobody answers who did before, or if nobody ever has, or if
//     several users have waited for long;
//   - another PREF64 of the same router, or of the same resolver, or configured
//     as this one is, takes its place if somebody answers behind it, or if
//     there was nobody to ask;
//   - one of another router does if somebody answers behind it and at least two
//     destinations, or the configured one, no longer do behind this one, or its
//     router is unreachable;
//   - one that DNS gives does so too, or if nobody has ever answered;
//   - one that only a neighbour advertises never does.
func (c platCheck) judge() verdict {
	lost := 0 // destinations that no longer answer
	for _, t := range c.targets {
		if t.answeredBefore {
			lost++
		}
	}
	switch {
	case c.answered:
		return verdict{state: alive}
	case lost == 0 && c.known && !c.configured && !c.gone && !c.severalWait():
		return verdict{state: unsure}
	}
	v := verdict{state: silent}
	doubt := []netip.Prefix{c.inUse.Prefix}
	for _, o := range c.candidates {
		same := o.Origin == c.inUse.Origin && o.Router == c.inUse.Router
		proved := o.answered && (lost >= enoughEvidence || c.configured || c.gone)
		switch {
		case o.Neighbour || o.Doubted:
			continue
		case proved,
			same && (o.answered || len(c.targets) == 0 || !c.known),
			o.Origin == pref64.DNS && o.answered && !c.known:
			v.doubt = doubt
			return v
		}
		doubt = append(doubt, o.Prefix)
	}
	return v
}
