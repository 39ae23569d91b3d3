package engine

import (
	"sync/atomic"

	"tnat64d/siit"
)

// Stats counts what the engine has done since New. A packet is what was read
// from the TUN at once: a super-packet counts as one, with all its bytes, IP
// headers included, as they were before translation.
type Stats struct {
	To6, To4 Translated // IPv4 to IPv6, and back

	// Drops counts packets that were not translated, by the reason. That
	// includes those answered with an ICMP error, whether it was sent or not:
	// a traceroute shows up under ttl-exceeded.
	Drops [siit.NumReasons]uint64

	// ICMPFragments counts fragments of ICMP messages that were collected. A
	// message that got complete counts as one packet besides.
	ICMPFragments uint64
	ICMPEvicted   uint64 // incomplete ICMP messages that gave way to newer ones

	Errors4, Errors6 ICMPErrors // to the IPv4 side, and to the IPv6 side

	WriteErrors uint64 // packets, fragments and ICMP errors that the kernel did not take, those of a super-packet that the engine made one by one
	ReadErrors  uint64 // packets that the kernel could not hand out
}

// ICMPErrors counts those of the engine's own making.
type ICMPErrors struct {
	Sent    uint64
	Limited uint64 // not sent because of ICMPErrorsPerSecond
}

// Add returns the sum of both.
func (e ICMPErrors) Add(o ICMPErrors) ICMPErrors {
	return ICMPErrors{Sent: e.Sent + o.Sent, Limited: e.Limited + o.Limited}
}

// Translated counts what was translated in one direction, by protocol.
type Translated [NumProtocols]Traffic

// Traffic is a number of packets and their bytes.
type Traffic struct{ Packets, Bytes uint64 }

// Total returns the sum over all protocols.
func (t Translated) Total() (sum Traffic) {
	for _, n := range t {
		sum.Packets += n.Packets
		sum.Bytes += n.Bytes
	}
	return sum
}

func (t Translated) add(o Translated) Translated {
	for p := range t {
		t[p].Packets += o[p].Packets
		t[p].Bytes += o[p].Bytes
	}
	return t
}

// Stats sums up the queues. It may be called at any time; packets that are on
// their way may be in one number and not yet in another.
func (e *Engine) Stats() Stats {
	s := Stats{ICMPEvicted: e.icmp.evicted()}
	for _, w := range e.workers {
		s.To6 = s.To6.add(w.to6.load())
		s.To4 = s.To4.add(w.to4.load())
		for i := range s.Drops {
			s.Drops[i] += w.drops[i].Load()
		}
		s.ICMPFragments += w.icmpFragments.Load()
		s.Errors4 = s.Errors4.Add(w.errors4.load())
		s.Errors6 = s.Errors6.Add(w.errors6.load())
		s.WriteErrors += w.writeErrors.Load()
		s.ReadErrors += w.readErrors.Load()
	}
	return s
}

// Add returns the sum of two engines' counts.
func (s Stats) Add(o Stats) Stats {
	s.To6 = s.To6.add(o.To6)
	s.To4 = s.To4.add(o.To4)
	for i := range s.Drops {
		s.Drops[i] += o.Drops[i]
	}
	s.ICMPFragments += o.ICMPFragments
	s.ICMPEvicted += o.ICMPEvicted
	s.Errors4 = s.Errors4.Add(o.Errors4)
	s.Errors6 = s.Errors6.Add(o.Errors6)
	s.WriteErrors += o.WriteErrors
	s.ReadErrors += o.ReadErrors
	return s
}

// counters are those of one queue. Only its goroutine adds to them, and the
// padding keeps them off the cache lines of others (128 bytes, because
// processors fetch lines in pairs), so that counting stays local to a CPU.
type counters struct {
	_ [128]byte

	to6, to4         translated
	icmpFragments    atomic.Uint64
	errors4, errors6 icmpErrors
	writeErrors      atomic.Uint64
	readErrors       atomic.Uint64
	drops            [siit.NumReasons]atomic.Uint64

	_ [128]byte
}

// icmpErrors is where a queue counts what ICMPErrors tells.
type icmpErrors struct{ sent, limited atomic.Uint64 }

func (e *icmpErrors) load() ICMPErrors {
	return ICMPErrors{Sent: e.sent.Load(), Limited: e.limited.Load()}
}

// translated is where a queue counts what Translated tells.
type translated [NumProtocols]struct{ packets, bytes atomic.Uint64 }

func (t *translated) count(p Protocol, packets, bytes int) {
	t[p].packets.Add(uint64(packets))
	t[p].bytes.Add(uint64(bytes))
}

func (t *translated) load() (n Translated) {
	for p := range t {
		n[p] = Traffic{Packets: t[p].packets.Load(), Bytes: t[p].bytes.Load()}
	}
	return n
}
