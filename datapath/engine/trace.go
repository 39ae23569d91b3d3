package engine

import "tnat64d/siit"

// Seen is what a trace is told of a packet. All memory in it is lent for the
// duration of the call.
type Seen struct {
	// Packet is the packet as it was read, from the IP header on, without its
	// virtio-net header: a super-packet in one piece, and its checksum may
	// still be incomplete.
	Packet []byte
	// Result is what the translator made of it.
	Result siit.Result
	// Collected: the packet is a fragment of an ICMP message and is kept until
	// the others are there; Result, which is that of the fragment, says drop.
	// The whole message is seen as a packet of its own, after its last piece.
	Collected bool
	// Limited: the ICMP error in Result was not sent, because of
	// ICMPErrorsPerSecond.
	Limited bool
}

// SetTrace has every packet shown to see from now on; nil ends that. It may be
// called at any time by any goroutine. see is called from the goroutine of each
// queue, before what came out is sent, and the queue stands still meanwhile. A
// call that is under way when SetTrace returns may still end after it.
func (e *Engine) SetTrace(see func(Seen)) {
	if see == nil {
		e.trace.Store(nil)
		return
	}
	e.trace.Store(&see)
}
