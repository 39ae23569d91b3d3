package datapath

import (
	"fmt"

	"tnat64d/datapath/steer"
	"tnat64d/tun"
)

// QueueName returns the name in a store of a TUN's queue.
func QueueName(tunIndex, queue int) string { return fmt.Sprintf("tun-%d-%d", tunIndex, queue) }

// ParseQueueName is the reverse of QueueName.
func ParseQueueName(name string) (tunIndex, queue int, ok bool) {
	_, err := fmt.Sscanf(name, "tun-%d-%d", &tunIndex, &queue)
	return tunIndex, queue, err == nil && queue >= 0 && name == QueueName(tunIndex, queue)
}

// storedQueues are the queues of a TUN in a store, with which it outlives the
// process.
type storedQueues struct {
	store  steer.Store // nil: there is none
	device *tun.Device
	kept   bool // the store has them
}

// keep puts the queues into the store.
func (q *storedQueues) keep() error {
	if q.store == nil || q.kept {
		return nil
	}
	q.kept = true
	for i, queue := range q.device.Queues {
		err := queue.Descriptor(func(fd int) error {
			q.store.Keep(QueueName(q.device.Index, i), fd)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// drop takes n of them out again.
func (q *storedQueues) drop(n int) {
	if q.store == nil {
		return
	}
	for i := range n {
		q.store.Drop(QueueName(q.device.Index, i))
	}
}

// attach attaches the programs, now that they have what they need, where those of a
// former process are in force. s may be nil. The caller holds the lock of the path.
func (s *Steering) attach() error {
	if s == nil || s.kernel == nil {
		return nil
	}
	if err := s.kernel.Attach(); err != nil {
		return err
	}
	return s.keepQueues()
}

// outlives reports whether the programs stay in force without this process. s may be
// nil.
func (s *Steering) outlives() bool {
	return s != nil && s.kernel != nil && s.kernel.Outlives()
}

// keepQueues puts the queues of the TUN into the store if the steering outlives the
// process too.
func (s *Steering) keepQueues() error {
	if !s.outlives() {
		return nil
	}
	return s.path.stored.keep()
}

// Kept reports whether all that carries packets is in the store, and will work
// without this process.
func (p *Path) Kept() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored.kept && p.steering.outlives()
}

// Leave ends the user engine, once it has written what it has read, and leaves
// everything else to the next process. Only Stats and Status may be called
// afterwards.
func (p *Path) Leave() error {
	p.mu.Lock()
	user := p.user
	p.mu.Unlock()
	if user == nil {
		return p.device.Release()
	}
	if err := user.Drain(); err != nil {
		return err
	}
	<-user.ended
	return p.device.Release()
}
