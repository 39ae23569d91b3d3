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

	settled bool // nothing is in the queue that was there before this Progress

	// Packets that have a number but never come out of the queue, because it
	// was full, leave a gap between the numbers given and those finished.
	gap      uint64    // the smallest since gapSince
	gapSince time.Time // zero: there is none

	// Where the queue never gets empty, what was sent before so many packets
	// were read has been read as well.
	reads, checkpoint uint64
}

const (
	// gapAge is how long a gap must last until it means that packets were
	// dropped. A processor that was interrupted between giving a packet its
	// number and putting it into the queue makes a gap too.
	gapAge = 50 * time.Millisecond
	// queueBound is how many packets a queue never holds: those of the TUN's
	// ring (its tx_queue_len) and of the queueing discipline before it, of which
	// fq_codel's 10,240 are the most.
	queueBound = 1 << 14
)

// queueState is struct queue_state of bpf/order.h.
type queueState struct {
	sent     uint64
	_        [15]uint64
	finished uint64
	_        [15]uint64
}

// queueStates is the memory of the map queue_states. It is unmapped when nothing
// refers to it any more, which may be after the Steering was closed.
type queueStates struct{ all []queueState }

// mapQueueStates maps the memory of the map queue_states.
func mapQueueStates(m *ebpf.Map) (*queueStates, error) {
	b, err := mapMemory(m, int(unsafe.Sizeof(queueState{})))
	if err != nil {
		return nil, &Error{"map the memory of the TUN's queue states", err}
	}
	q := &queueStates{unsafe.Slice((*queueState)(unsafe.Pointer(&b[0])), m.MaxEntries())}
	runtime.AddCleanup(q, unmapMemory, b)
	return q, nil
}

// mapMemory maps the memory of an array whose values have so many bytes.
func mapMemory(m *ebpf.Map, value int) ([]byte, error) {
	page := os.Getpagesize()
	size := (int(m.MaxEntries())*value + page - 1) / page * page
	return unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func unmapMemory(b []byte) { _ = unix.Munmap(b) }

// Progress returns a Progress for each queue of the TUN, in their order. It can
// be used after Close, without effect.
func (e *Engine) Progress() ([]*Progress, error) {
	memory, err := mapQueueStates(e.objects.QueueStates)
	if err != nil {
		return nil, err
	}
	all := make([]*Progress, len(memory.all))
	for i := range all {
		all[i] = &Progress{memory: memory, state: &memory.all[i]}
	}
	return all, nil
}

// Finished says that so many more packets were read from the queue, at least
// one, and that all that came of them has been written. empty reports whether the
// queue is empty; it is only asked where packets seem to have been dropped.
func (p *Progress) Finished(packets int, empty func() bool) {
	// Loaded before empty is asked: what is sent later does not count.
	sent := atomic.LoadUint64(&p.state.sent)
	if !p.settled {
		if empty() {
			p.settled = true
			p.gapSince = time.Time{}
			atomic.StoreUint64(&p.state.finished, sent)
		}
		return
	}
	done := p.state.finished + uint64(packets) // nobody else writes it
	if done > sent {
		p.settled = false // something came that had no number
		return
	}
	if p.reads += uint64(packets); p.reads >= queueBound {
		done = max(done, p.checkpoint)
		p.reads, p.checkpoint = 0, sent
	}
	if done == sent {
		p.gapSince = time.Time{}
	} else {
		done += p.dropped(sent-done, empty)
	}
	atomic.StoreUint64(&p.state.finished, done)
}

// dropped returns how many packets are known to have been dropped.
func (p *Progress) dropped(gap uint64, empty func() bool) uint64 {
	now := time.Now()
	if p.gapSince.IsZero() {
		p.gap, p.gapSince = gap, now
		return 0
	}
	p.gap = min(p.gap, gap)
	if now.Sub(p.gapSince) < gapAge || !empty() {
		return 0
	}
	p.gapSince = time.Time{}
	return p.gap
}

// String describes p for tests and logs.
func (p *Progress) String() string {
	return fmt.Sprintf("%d of %d packets", atomic.LoadUint64(&p.state.finished), atomic.LoadUint64(&p.state.sent))
}
