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
	counters
}

func newWorker(e *Engine, index int, q Queue, id uint16) *worker {
	return &worker{engine: e, index: index, queue: q, buf: make([]byte, bufferLen), scratch: siit.NewScratch(id)}
}

// run moves packets until the queue is closed or broken; it never returns nil.
func (w *worker) run() error {
	failed := 0
	for {
		err := w.step()
		if errors.Is(err, os.ErrClosed) {
			return err
		}
		// A read that fails has cost a packet as well.
		if w.engine.onFinished != nil {
			w.engine.onFinished(w.index)
		}
		if err == nil {
			failed = 0
			continue
		}
		w.readErrors.Add(1)
		if failed++; failed == maxReadErrors {
			return fmt.Errorf("reading failed %d times in a row: %w", failed, err)
		}
	}
}

// step reads one packet and sees it off. The error is that of the Read.
func (w *worker) step() error {
	n, h, err := w.queue.Read(w.buf, siit.Headroom)
	if err != nil {
		return err
	}
	p := siit.Packet{Buf: w.buf[:siit.Headroom+n], Off: siit.Headroom, Offload: siit.Offload(h)}
	stripLinkHeader(&p)
	n = len(p.Bytes())
	from4 := w.buf[p.Off]>>4 == 4 // the header is rewritten in place; translated packets are not empty

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
			return nil
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
		direction.count(protocolOf(r.Packets), n)
		w.write(r.Packets)
	case r.Verdict == siit.Reply:
		w.drops[r.Reason].Add(1)
		side := &w.errors6
		if from4 {
			side = &w.errors4
		}
		if limited {
			side.limited.Add(1)
			break
		}
		side.sent.Add(1)
		w.write(r.Packets)
	default:
		w.drops[r.Reason].Add(1)
	}
	return nil
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

// write gives packets to the kernel. What it does not take is lost, as on any
// link; that the queue was closed is for the next Read to find out.
func (w *worker) write(packets []siit.Packet) {
	takesHop := w.engine.takesHop.Load()
	for i := range packets {
		p := &packets[i]
		if takesHop {
			raiseHopLimit(p)
		}
		if err := w.queue.Write(p.Buf, p.Off, tun.VnetHeader(p.Offload)); err != nil {
			w.writeErrors.Add(1)
		}
	}
}
