package engine

import (
	"sync/atomic"

	"tnat64d/siit"
)

// Stats counts what the engine has done since New. A packet is what was read
// from the TUN at once: a super-packet counts as one, with all its bytes, IP
// headers included, as they were before translation.
type Stats struct {
	Packets4to6, Bytes4to6 uint64
	Packets6to4, Bytes6to4 uint64

	// Drops counts packets that were not translated, by the reason. That
	// includes those answered with an ICMP error, whether it was sent or not:
	// a traceroute shows up under ttl-exceeded.
	Drops [siit.NumReasons]uint64

	// ICMPFragments counts fragments of ICMP messages that were collected. A
	// message that got complete counts as one packet besides.
	ICMPFragments uint64

	Replies     uint64 // ICMP errors sent
	RateLimited uint64 // ICMP errors not sent because of ICMPErrorsPerSecond
	WriteErrors uint64 // packets, fragments and ICMP errors that the kernel did not take
	ReadErrors  uint64 // packets that the kernel could not hand out
}

// Stats sums up the queues. It may be called at any time; packets that are on
// their way may be in one number and not yet in another.
func (e *Engine) Stats() Stats {
	var s Stats
	for _, w := range e.workers {
		s.Packets4to6 += w.packets4to6.Load()
		s.Bytes4to6 += w.bytes4to6.Load()
		s.Packets6to4 += w.packets6to4.Load()
		s.Bytes6to4 += w.bytes6to4.Load()
		for i := range s.Drops {
			s.Drops[i] += w.drops[i].Load()
		}
		s.ICMPFragments += w.icmpFragments.Load()
		s.Replies += w.replies.Load()
		s.RateLimited += w.rateLimited.Load()
		s.WriteErrors += w.writeErrors.Load()
		s.ReadErrors += w.readErrors.Load()
	}
	return s
}

// Add returns the sum of two engines' counts.
func (s Stats) Add(o Stats) Stats {
	s.Packets4to6 += o.Packets4to6
	s.Bytes4to6 += o.Bytes4to6
	s.Packets6to4 += o.Packets6to4
	s.Bytes6to4 += o.Bytes6to4
	for i := range s.Drops {
		s.Drops[i] += o.Drops[i]
	}
	s.ICMPFragments += o.ICMPFragments
	s.Replies += o.Replies
	s.RateLimited += o.RateLimited
	s.WriteErrors += o.WriteErrors
	s.ReadErrors += o.ReadErrors
	return s
}

// counters are those of one queue. Only its goroutine adds to them, and the
// padding keeps them off the cache lines of others (128 bytes, because
// processors fetch lines in pairs), so that counting stays local to a CPU.
type counters struct {
	_ [128]byte

	packets4to6, bytes4to6 atomic.Uint64
	packets6to4, bytes6to4 atomic.Uint64
	icmpFragments          atomic.Uint64
	replies, rateLimited   atomic.Uint64
	writeErrors            atomic.Uint64
	readErrors             atomic.Uint64
	drops                  [siit.NumReasons]atomic.Uint64

	_ [128]byte
}
