package main

import "tnat64d/datapath/steer"

// followCaptures makes the kernel engine of a TUN pause while a program captures
// packets there, as that program would miss what the engine translates.
func (d *tnat64d) followCaptures() {
	for _, p := range d.path.steeredByKernel() {
		captured, err := steer.Captured(d.path.handle, p.device.Index)
		if err != nil || captured == p.captured {
			continue // the interface may just be going; the pass sees to that
		}
		p.captured = captured
		if p.translation.MTU6 == 0 {
			continue // it has not been told yet
		}
		if err := p.applyTranslation(); err != nil {
			d.log.Warn("cannot pause or resume the kernel engine", "tun", p.name, "reason", err)
			continue
		}
		if captured {
			d.log.Info("a program captures packets; the kernel engine pauses", "tun", p.name)
		} else {
			d.log.Info("no program captures packets; the kernel engine may resume", "tun", p.name)
		}
		d.changed()
	}
}

// steeredByKernel returns the paths that have a kernel engine.
func (d *datapath) steeredByKernel() (paths []*path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.paths {
		if p.kernel != nil && p.kernel.KernelEngine() == nil {
			paths = append(paths, p)
		}
	}
	return paths
}
