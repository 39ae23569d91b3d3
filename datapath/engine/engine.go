// Package engine is the user-space engine: it reads packets from the queues of
// a TUN, has siit translate them, and writes what comes out to the queue it
// read from, where the kernel takes it as received and sends it on its way.
// With another mapping in the translator the same engine is a NAT64.
//
// Each queue has one goroutine that owns buffers and a siit.Scratch. Nothing in
// its loop allocates, takes a lock or writes a log, and a super-packet costs what
// a packet costs. So the goroutine reads what is there, up to 64 packets, joins
// TCP segments and UDP datagrams of one flow into super-packets, and writes them
// before it waits. The kernel puts a flow on one queue and keeps it there as long
// as both directions are written where they are read, so packets of a flow are
// not reordered.
//
// One thing needs memory of earlier packets: ICMP messages that come in
// fragments are put together first, as their checksum cannot be translated
// piece by piece.
//
// The engine does not decide which packets come: routes and steering do. It
// knows nothing of addresses either: they are in the translator, which may be
// exchanged at any time.
package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"tnat64d/siit"
	"tnat64d/tun"
)

// Queue is where packets come from and go to: a tun.Queue, or a tuntest.Queue.
// ReadIdle, which calls idle before it waits for a packet, and Write are called
// by one goroutine. An error of ReadIdle that wraps os.ErrClosed is final, after
// any other the engine reads on.
type Queue interface {
	ReadIdle(buf []byte, off int, idle func()) (n int, h tun.VnetHeader, err error)
	Write(buf []byte, off int, h tun.VnetHeader) error
	Close() error

	// Interrupt makes ReadIdle return errors that wrap os.ErrDeadlineExceeded from
	// now on, also to a goroutine that waits. Packets stay in the queue.
	Interrupt() error
}

// Options is what an Engine is made of.
type Options struct {
	Queues     []Queue          // closed by Run
	Translator *siit.Translator // never nil

	// ICMPErrorsPerSecond limits the ICMP errors that the engine sends in its
	// own name to each side, all queues together, by a token bucket (RFC 4443
	// section 2.4 f) that holds a second's worth, but no fewer than 10. Part of
	// it is kept for destinations that ask for few. 0 means never to send one.
	ICMPErrorsPerSecond int

	// OnRefused, if set, is asked about every packet that was not translated,
	// before the ICMP error goes out or anything is counted. If it has made a
	// new translator that may know better, it calls SetTranslator and returns
	// true: the packet is then translated once more, without asking again. So
	// a gateway learns its hosts from their first packets. If it knows a better
	// reason, it returns that; None leaves refused as it is.
	//
	// packet is as it was read, without its virtio-net header. It and
	// refused.Packets are lent for the duration of the call. Each queue calls
	// from its own goroutine, and does nothing else meanwhile.
	OnRefused func(packet []byte, refused siit.Result) (again bool, better siit.Reason)

	// UDPSegments says that the kernel takes UDP super-packets (Linux 6.2). See
	// [tun.Offloads].
	UDPSegments bool

	// OnFinished, if set, is told which packets were read from Queues[queue] since
	// the last call. Everything that came of them has been written. Each queue calls
	// from its own goroutine.
	OnFinished func(queue int, b Batch)
}

// Batch is a number of packets, at least one, that were read from a queue.
type Batch struct {
	Packets   int
	Fragments int  // of these, IPv4 fragments and IPv6 packets that begin with a Fragment Header
	Emptied   bool // the queue was empty behind them
}

// Engine pumps packets through a translator.
type Engine struct {
	translator atomic.Pointer[siit.Translator]
	errors     errorLimits
	onRefused  func(packet []byte, refused siit.Result) (again bool, better siit.Reason)
	onFinished func(queue int, b Batch)
	trace      atomic.Pointer[func(Seen)] // nil: nobody listens
	icmp       icmpFragments
	takesHop   atomic.Bool // see SetTakesHop
	workers    []*worker
	closeOnce  sync.Once
}

// New builds an Engine. It does nothing before Run.
func New(o Options) *Engine {
	e := &Engine{onRefused: o.OnRefused, onFinished: o.OnFinished, errors: newErrorLimits(o.ICMPErrorsPerSecond)}
	e.translator.Store(o.Translator)
	// The queues share the identification space of 16 bits: they start at
	// equal distances from each other.
	seed := rand.Uint32()
	for i, q := range o.Queues {
		id := seed + uint32(i)<<16/uint32(len(o.Queues))
		e.workers = append(e.workers, newWorker(e, i, q, uint16(id), o.UDPSegments))
	}
	return e
}

// SetTranslator exchanges the translator. It may be called at any time by any
// goroutine; a packet sees one translator or the other.
func (e *Engine) SetTranslator(t *siit.Translator) { e.translator.Store(t) }

// Run pumps until ctx ends or Drain is called, and returns nil then, or until a
// queue fails. It closes all queues in any case, so it can be called once only.
func (e *Engine) Run(ctx context.Context) error {
	if len(e.workers) == 0 {
		return errors.New("the engine has no queue")
	}
	defer context.AfterFunc(ctx, e.closeQueues)()
	failures := make(chan error, len(e.workers))
	for _, w := range e.workers {
		go func() { failures <- w.run() }()
	}
	err := <-failures
	drained := errors.Is(err, os.ErrDeadlineExceeded)
	if !drained { // or the others write what they have read
		e.closeQueues()
	}
	for range len(e.workers) - 1 {
		<-failures
	}
	e.closeQueues()
	for _, w := range e.workers {
		w.out.release()
	}
	if ctx.Err() != nil || drained {
		return nil
	}
	return err
}

// Drain makes Run return once everything that was read has been written, but for
// fragments of ICMP messages that wait for others: their senders repeat them. What
// has not been read stays in the queues, for another process that has copies of
// their descriptors.
func (e *Engine) Drain() error {
	var errs []error
	for _, w := range e.workers {
		errs = append(errs, w.queue.Interrupt())
	}
	return errors.Join(errs...)
}

// closeQueues makes every Read fail, including those that wait.
func (e *Engine) closeQueues() {
	e.closeOnce.Do(func() {
		for _, w := range e.workers {
			w.queue.Close()
		}
	})
}
