package steer

import "sync/atomic"

// AdmitProgram returns the descriptor of the program that refuses fragments before
// a TUN queue is full, whole datagrams at a time, for TUNSETFILTEREBPF. It relies on
// [FragmentProgress], and stays valid until Close.
func (e *Engine) AdmitProgram() int { return e.objects.Admit.FD() }

// FragmentProgress tells AdmitProgram how many fragments user space has read from
// one TUN queue. See bpf/fragments.h. One goroutine uses it, the one that reads the
// queue.
type FragmentProgress struct {
	memory *queueStates
	queue  *queueState

	// Fragments that found the queue full are never read. They are known to be
	// gone when the queue is empty and, if it never is, when as many packets were
	// read as it can hold.
	reads, checkpoint uint64
}

// FragmentProgress returns one for each queue of the TUN, in their order. It can be
// used after Close, without effect.
func (e *Engine) FragmentProgress() ([]*FragmentProgress, error) {
	memory, err := mapQueueStates(e.objects.QueueStates)
	if err != nil {
		return nil, err
	}
	all := make([]*FragmentProgress, len(memory.fragments))
	for i := range all {
		all[i] = &FragmentProgress{memory: memory, queue: &memory.fragments[i]}
	}
	return all, nil
}

// Finished says that so many more packets were read from the queue, of which so
// many are fragments, and whether the queue was empty then.
func (p *FragmentProgress) Finished(packets, fragments int, emptied bool) {
	sent := atomic.LoadUint64(&p.queue.sent)
	done := p.queue.finished + uint64(fragments) // nobody else writes it
	if p.reads += uint64(packets); p.reads >= queueBound {
		if int64(p.checkpoint-done) > 0 {
			done = p.checkpoint
		}
		p.reads, p.checkpoint = 0, sent
	}
	// What enters the queue at this moment counts as read, and later once more: until
	// the queue is empty again.
	if emptied {
		done = sent
	}
	if done != p.queue.finished {
		atomic.StoreUint64(&p.queue.finished, done)
	}
}
