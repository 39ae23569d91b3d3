package datapath

import "fmt"

// QueueName returns the name in a store of a TUN's queue.
func QueueName(tunIndex, queue int) string { return fmt.Sprintf("tun-%d-%d", tunIndex, queue) }

// ParseQueueName is the reverse of QueueName.
func ParseQueueName(name string) (tunIndex, queue int, ok bool) {
	_, err := fmt.Sscanf(name, "tun-%d-%d", &tunIndex, &queue)
	return tunIndex, queue, err == nil && queue >= 0 && name == QueueName(tunIndex, queue)
}

// keepQueues puts the queues of the TUN into the store, with which it outlives the
// process, if the steering does so too.
func (p *Path) keepQueues() error {
	s := p.steering
	if p.options.Store == nil || p.kept || s == nil || s.kernel == nil || s.kernel.Attached() != "tcx" {
		return nil
	}
	p.kept = true
	for i, q := range p.device.Queues {
		err := q.Descriptor(func(fd int) error {
			p.options.Store.Keep(QueueName(p.device.Index, i), fd)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropQueues takes them out again.
func (p *Path) dropQueues() {
	if p.options.Store == nil {
		return
	}
	for i := range max(p.options.Queues, len(p.device.Queues)) { // some may be closed
		p.options.Store.Drop(QueueName(p.device.Index, i))
	}
}

// attach attaches the programs of the steering, now that they have what they need,
// where those of a former process are in force. The caller holds p.mu.
func (p *Path) attach() error {
	s := p.steering
	if s == nil || s.kernel == nil {
		return nil
	}
	if err := s.kernel.Attach(); err != nil {
		return err
	}
	return p.keepQueues()
}

// Kept reports whether all that carries packets is in the store, and will work
// without this process.
func (p *Path) Kept() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept && p.steering != nil && p.steering.kernel != nil && p.steering.kernel.Attached() == "tcx"
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
