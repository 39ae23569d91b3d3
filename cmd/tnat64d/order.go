package main

import "tnat64d/datapath/steer"

// order has packets of one flow go through one queue of the TUN, and tells the
// kernel engine how far the other one has come with them.
func (p *path) order(s *steer.Steering) error {
	progress, err := s.Progress()
	if err != nil {
		return err
	}
	if err := p.device.SetQueueProgram(s.QueueProgram()); err != nil {
		return err
	}
	p.progress.Store(&progress)
	return nil
}

// finished is called after every packet that was read from a queue.
func (p *path) finished(queue int) {
	if all := p.progress.Load(); all != nil {
		(*all)[queue].Finished(p.device.Queues[queue].Empty)
	}
}
