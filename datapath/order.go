package datapath

import (
	"sync/atomic"

	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/tun"
)

// queueOrder keeps packets of a flow in order: which queue of the TUN they take,
// and how far user space is with them. It also keeps fragments from filling the queues.
type queueOrder struct {
	device   *tun.Device
	progress atomic.Pointer[[]*steer.Progress] // by queue; nil: nobody asks

	fragments atomic.Pointer[[]*steer.FragmentProgress] // by queue; nil: nobody asks
}

// keep sends packets of one flow through one queue of the TUN, and tells the
// programs of k how far user space is with them.
func (o *queueOrder) keep(k *steer.Engine) error {
	if err := o.device.SetQueueProgram(k.QueueProgram()); err != nil {
		return err
	}
	fragments, err := k.FragmentProgress()
	if err != nil {
		return err
	}
	o.fragments.Store(&fragments)
	if err := o.device.SetFilter(k.AdmitProgram()); err != nil {
		return err
	}
	o.progress.Store(nil)
	if k.KernelEngine() != nil { // nobody asks
		return nil
	}
	progress, err := k.Progress(!o.device.Offloads.USO)
	if err != nil {
		return err
	}
	o.progress.Store(&progress)
	return nil
}

// finished is called when the user engine is done with more packets of a queue.
func (o *queueOrder) finished(queue int, b engine.Batch) {
	if all := o.progress.Load(); all != nil {
		(*all)[queue].Finished(b.Packets, o.device.Queues[queue].Empty)
	}
	if all := o.fragments.Load(); all != nil {
		(*all)[queue].Finished(b.Packets, b.Fragments, b.Emptied)
	}
}
