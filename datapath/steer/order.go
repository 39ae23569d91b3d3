package steer

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// QueueProgram returns the descriptor of the program that chooses the TUN queue
// of a packet, for TUNSETSTEERINGEBPF. All packets between two addresses, in one
// direction, go to one queue, fragments included. Without the kernel engine TCP
// goes by its ports instead. A TUN with more than one queue must have the program,
// or packets overtake each other. It stays valid until Close.
func (e *Engine) QueueProgram() int { return e.objects.SelectQueue.FD() }

// Progress tells the kernel engine how far user space has come with the packets
// of one TUN queue, so that no packet overtakes an earlier one of its flow. See
// bpf/order.h. One goroutine uses it, the one that reads the queue.
type Progress struct {
	memory *queueStates
	state  *queueState
	now    func() time.Time

	done  uint64 // packets that are finished, as far as they can be counted
	count counted
	gap   gap

	// Where the queue never gets empty, what was sent before so many packets
	// were read has been read as well.
	reads, checkpoint uint64
}

// counted says what done counts.
type counted int

const (
	// All that was read since the start. Packets without a number, or those of
	// another Progress, may have been in the queue then.
	sinceStart counted = iota
	// The same, and packets without a number are known to be among them.
	withoutNumber
	// Packets with a number, and none that has not been read or dropped.
	onlyNumbered
)

// gap is how far the numbers given to packets are ahead of those finished while the
// queue is empty. Packets that have a number and never come out of the queue, because
// it was full, leave one. So does, for a moment, a packet on its way into the queue.
// That moment is long where the host of a virtual machine suspends the processor that
// it is on. Packets that were read and have no number make the gap smaller, even
// negative.
type gap struct {
	least       int64 // of all samples
	samples     int
	first, last time.Time
}

const (
	// What is missing in each of so many samples, over so long, was dropped.
	// Until then its flow goes through user space, which costs no order.
	gapSamples  = 10
	gapAge      = 500 * time.Millisecond
	gapInterval = gapAge / 2 / gapSamples // between two samples, at least

	// queueBound is how many packets a queue never holds: those of the TUN's
	// ring (its tx_queue_len) and of a queueing discipline, if another program gives
	// the TUN one, of which fq_codel's 10,240 are the most.
	queueBound = 1 << 14
)

// sample notes that so many numbers are missing, if the queue is empty and the last
// sample was long enough ago. It returns how many are missing for certain, once there
// are samples enough.
func (g *gap) sample(missing int64, now time.Time, empty func() bool) (certain int64, ok bool) {
	if now.Sub(g.last) < gapInterval || !empty() {
		return 0, false
	}
	g.last = now
	if g.samples == 0 {
		g.least, g.first = missing, now
	}
	g.samples++
	g.least = min(g.least, missing)
	if g.samples < gapSamples || now.Sub(g.first) < gapAge {
		return 0, false
	}
	certain = g.least
	*g = gap{}
	return certain, true
}

// queueState is struct queue_state of bpf/order.h.
type queueState struct {
	sent     uint64
	cutsUDP  uint64
	_        [14]uint64
	finished uint64
	_        [15]uint64
}

// queueStates is the memory of the map queue_states: of the queues for all packets,
// and of the same queues for fragments. It is unmapped when nothing refers to it any
// more, which may be after the Steering was closed.
type queueStates struct{ all, fragments []queueState }

// mapQueueStates maps the memory of the map queue_states.
func mapQueueStates(m *ebpf.Map) (*queueStates, error) {
	page := os.Getpagesize()
	size := (int(m.MaxEntries())*int(unsafe.Sizeof(queueState{})) + page - 1) / page * page
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, &Error{"map the memory of the TUN's queue states", err}
	}
	states := unsafe.Slice((*queueState)(unsafe.Pointer(&b[0])), m.MaxEntries())
	queues := len(states) / 2
	q := &queueStates{all: states[:queues:queues], fragments: states[queues:]}
	runtime.AddCleanup(q, unmapMemory, b)
	return q, nil
}

func unmapMemory(b []byte) { _ = unix.Munmap(b) }

// Progress returns a Progress for each queue of the TUN, in their order. cutsUDP says
// that the TUN takes no UDP super-packets, so that user space reads their segments.
// A Progress can be used after Close, without effect.
func (e *Engine) Progress(cutsUDP bool) ([]*Progress, error) {
	memory, err := mapQueueStates(e.objects.QueueStates)
	if err != nil {
		return nil, err
	}
	all := make([]*Progress, len(memory.all))
	for i := range all {
		atomic.StoreUint64(&memory.all[i].cutsUDP, uint64(flag(cutsUDP)))
		all[i] = newProgress(memory, i)
	}
	return all, nil
}

func newProgress(memory *queueStates, queue int) *Progress {
	state := &memory.all[queue]
	return &Progress{
		memory: memory, state: state, now: time.Now,
		done:       atomic.LoadUint64(&state.finished),
		checkpoint: atomic.LoadUint64(&state.sent),
	}
}

// Finished says that so many more packets were read from the queue, at least
// one, and that all that came of them has been written. empty reports whether the
// queue is empty; it is only asked where the count may be wrong.
func (p *Progress) Finished(packets int, empty func() bool) {
	// Loaded before empty is asked: what is sent later does not count.
	sent := atomic.LoadUint64(&p.state.sent)
	p.done += uint64(packets)
	if p.reads += uint64(packets); p.reads >= queueBound {
		if p.count != onlyNumbered || p.done < p.checkpoint {
			p.done, p.count, p.gap = max(p.checkpoint, p.state.finished), onlyNumbered, gap{}
		}
		p.reads, p.checkpoint = 0, sent
	}
	missing := int64(sent - p.done)
	switch {
	case missing < 0 && p.count != withoutNumber:
		p.count, p.gap = withoutNumber, gap{}
	case missing == 0 && p.count == onlyNumbered:
		p.gap = gap{}
	case missing == 0 && p.count == sinceStart && empty():
		p.count, p.gap = onlyNumbered, gap{}
	default:
		if certain, ok := p.gap.sample(missing, p.now(), empty); ok {
			p.done += uint64(certain) // may be below zero
			p.count = onlyNumbered
		}
	}
	if p.count == onlyNumbered {
		atomic.StoreUint64(&p.state.finished, p.done)
	}
}

// String describes p for tests and logs.
func (p *Progress) String() string {
	return fmt.Sprintf("%d of %d packets", atomic.LoadUint64(&p.state.finished), atomic.LoadUint64(&p.state.sent))
}
