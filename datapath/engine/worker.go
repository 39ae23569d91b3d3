package engine

import (
	"errors"
	"fmt"
	"os"
	"time"

	"tnat64d/siit"
	"tnat64d/tun"
)

// bufferLen holds the headroom, the link header that a packet may come with,
// and the largest IP packet there is but for jumbograms: an IPv6 header and
// 65,535 bytes. The byte that is left over shows siit that a longer one was cut
// off.
const bufferLen = siit.Headroom + ethernetLen + vlanTagLen + 40 + 65535 + 1

// maxReadErrors is how many reads in a row may fail. The kernel refuses to
// hand out a packet that it cannot describe in a virtio-net header, and that
// costs this packet only; a queue that never gives anything else is broken, and
// reading on would keep a CPU busy for nothing.
const maxReadErrors = 100

// worker is the goroutine of one queue and all that it needs.
type worker struct {
	engine  *Engine
	index   int // of queue
	queue   Queue
	buf     []byte
	scratch *siit.Scratch
	came    []byte // copy of the packet as it was read, while it is traced
	out     *coalescer
	idle    func()    // flush
	joined  fragments // of IPv4, as they were read

	unfinished Batch // what was read since the last flush
	counters
}

func newWorker(e *Engine, index int, q Queue, id uint16, udp bool) *worker {
	w := &worker{engine: e, index: index, queue: q, buf: make([]byte, bufferLen), scratch: siit.NewScratch(id)}
	w.out = newCoalescer(udp, w.scratch, w.write)
	w.idle = func() {
		w.unfinished.Emptied = true
		w.flush()
	}
	w.joined.buf = make([]byte, bufferLen)
	return w
}

// run moves packets until the queue is closed, interrupted or broken; it never
// returns nil.
func (w *worker) run() error {
	failed := 0
	for {
		err := w.step()
		if err == nil {
			failed = 0
			continue
		}
		if errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		w.readErrors.Add(1)
		if failed++; failed == maxReadErrors {
			return fmt.Errorf("reading failed %d times in a row: %w", failed, err)
		}
	}
}

// step reads one packet and translates it. It flushes before it waits, and
// after maxBatch packets. The error is that of the read.
func (w *worker) step() error {
	n, h, err := w.queue.ReadIdle(w.buf, siit.Headroom, w.idle)
	switch {
	case err == nil:
		w.receive(n, h)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.flush()
		return err
	case errors.Is(err, os.ErrClosed):
		return err
	}
	// A read that fails has cost a packet as well.
	if w.unfinished.Packets++; w.unfinished.Packets >= maxBatch {
		w.flush()
	}
	return err
}

// flush writes all that is held back.
func (w *worker) flush() {
	w.endJoined()
	w.out.flush()
	if w.unfinished.Packets > 0 && w.engine.onFinished != nil {
		w.engine.onFinished(w.index, w.unfinished)
	}
	w.unfinished = Batch{}
}

// receive takes the packet of n bytes in w.buf. It is translated, unless it is a
// fragment that others may follow.
func (w *worker) receive(n int, h tun.VnetHeader) {
	p := siit.Packet{Buf: w.buf[:siit.Headroom+n], Off: siit.Headroom, Offload: siit.Offload(h)}
	stripLinkHeader(&p)
	if isFragment(p.Bytes()) {
		w.unfinished.Fragments++
	}
	if w.joined.take(&p) {
		return
	}
	w.endJoined()
	if w.engine.trace.Load() == nil { // a trace sees each fragment
		var held bool
		if w.buf, held = w.joined.begin(p, w.buf); held {
			return
		}
	}
	w.translate(p, 1, len(p.Bytes()))
}

// endJoined translates the fragments that are held.
func (w *worker) endJoined() {
	if w.joined.count == 0 {
		return
	}
	p, count := w.joined.end()
	w.translate(p, count, len(p.Bytes())+(count-1)*ipv4Len)
}

// translate translates p, which stands for so many packets and bytes that were
// read.
func (w *worker) translate(p siit.Packet, packets, n int) {
	from4 := len(p.Bytes()) > 0 && p.Bytes()[0]>>4 == 4 // the header is rewritten in place; translated packets are not empty
	plain := isPlain(p.Bytes())

	trace := w.engine.trace.Load()
	if trace != nil {
		w.came = append(w.came[:0], p.Bytes()...)
	}

	r := w.engine.translator.Load().Translate(w.scratch, p)
	if r.Verdict != siit.Translated && w.engine.onRefused != nil {
		switch again, better := w.engine.onRefused(p.Bytes(), r); {
		case again:
			r = w.engine.translator.Load().Translate(w.scratch, p)
		case better != siit.None:
			r = w.engine.translator.Load().Refuse(w.scratch, p, better)
		}
	}
	if r.Reason == siit.FragmentedICMP {
		whole, fate := w.collect(p.Bytes())
		if trace != nil && (fate == fragmentKept || fate == fragmentComplete) {
			(*trace)(Seen{Packet: w.came, Result: r, Collected: true})
		}
		switch fate {
		case fragmentKept:
			return
		case fragmentOverlaps:
			r.Reason = siit.OverlappingFragment
		case fragmentComplete:
			n = len(whole.Bytes())
			if trace != nil {
				w.came = append(w.came[:0], whole.Bytes()...)
			}
			r = w.engine.translator.Load().Translate(w.scratch, whole)
		}
	}
	limited := r.Verdict == siit.Reply && !w.engine.errors.allow(r.Packets[0].Bytes(), time.Now())
	if trace != nil {
		(*trace)(Seen{Packet: w.came, Result: r, Limited: limited})
	}

	switch {
	case r.Verdict == siit.Translated:
		direction := &w.to4
		if from4 {
			direction = &w.to6
		}
		direction.count(protocolOf(r.Packets), packets, n)
		w.buf = w.out.add(r.Packets, w.buf, plain)
	case r.Verdict == siit.Reply:
		w.drops[r.Reason].Add(uint64(packets))
		side := &w.errors6
		if from4 {
			side = &w.errors4
		}
		if limited {
			side.limited.Add(1)
			break
		}
		side.sent.Add(1)
		w.write(r.Packets[0], 1) // of no flow
	default:
		w.drops[r.Reason].Add(uint64(packets))
	}
}

// isPlain reports whether p is IPv4 without options or IPv6 with TCP or UDP
// directly behind its header. Only such packets become parts of super-packets: an
// atomic fragment (RFC 6946) has an identification to keep.
func isPlain(p []byte) bool {
	if len(p) > 6 && p[0]>>4 == 6 {
		return p[6] == protocolTCP || p[6] == protocolUDP
	}
	return len(p) > 0 && p[0] == 0x45
}

// isFragment reports whether p is an IPv4 fragment, or IPv6 with a Fragment Header
// directly behind its header.
func isFragment(p []byte) bool {
	if len(p) > 6 && p[0]>>4 == 6 {
		return p[6] == protocolFragment
	}
	return len(p) > 7 && (p[6]&0x3f|p[7]) != 0
}

// collect keeps the fragment p of an ICMP message until the others are there.
// With the last that was missing it returns the whole packet, in w.buf.
func (w *worker) collect(p []byte) (whole siit.Packet, fate fragmentFate) {
	n, fate := w.engine.icmp.add(p, w.buf, siit.Headroom, time.Now())
	if fate == fragmentKept || fate == fragmentComplete {
		w.icmpFragments.Add(1)
	}
	return siit.Packet{Buf: w.buf[:siit.Headroom+n], Off: siit.Headroom}, fate
}

// write gives a packet of so many segments to the kernel. What it does not take
// is lost, as on any link; that the queue was closed is for the next read to
// find out.
func (w *worker) write(p siit.Packet, segments int) {
	if w.engine.takesHop.Load() {
		raiseHopLimit(&p)
	}
	if err := w.queue.Write(p.Buf, p.Off, tun.VnetHeader(p.Offload)); err != nil {
		w.writeErrors.Add(uint64(segments))
	}
}
