package datapath

import (
	"sync/atomic"

	"tnat64d/datapath/steer"
	"tnat64d/tun"
)

// queueOrder keeps packets of a flow in order: which queue of the TUN they take,
// and how far user space is with them.
type queueOrder struct {
	device   *tun.Device
	progress atomic.Pointer[[]*steer.Progress] // by queue; nil: nobody asks
}

// keep sends packets of one flow through one queue of the TUN, and tells the
// kernel engine how far user space is with them.
func (o *queueOrder) keep(k *steer.Engine) error {
	if err := o.device.SetQueueProgram(k.QueueProgram()); err != nil {
		return err
	}
	o.progress.Store(nil)
	if k.KernelEngine() != nil { // nobody asks
		return nil
	}
	progress, err := k.Progress()
	if err != nil {
		return err
	}
	o.progress.Store(&progress)
	return nil
}

// finished is called when the user engine is done with so many more packets of a
// queue.
func (o *queueOrder) finished(queue, packets int) {
	if all := o.progress.Load(); all != nil {
		(*all)[queue].Finished(packets, o.device.Queues[queue].Empty)
	}
}
