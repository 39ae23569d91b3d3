package main

import (
	"errors"

	"tnat64d/datapath/engine"
	"tnat64d/internal/config"
)

// see is shown every packet of every uplink while somebody traces.
type see func(uplink string, p engine.Seen)

// trace begins to show packets to see, or ends it if that is nil. It is called
// in the loop, as the kernel engines are.
func (d *tnat64d) trace(see see) error {
	err := d.path.traceTo(see)
	switch {
	case see == nil:
		d.log.Info("packets are no longer traced")
	case d.path.engine == config.EngineUser:
		d.log.Info("packets are traced")
	default:
		d.log.Info("packets are traced; the kernel engine pauses")
	}
	d.changed()
	return err
}

// traceTo makes every engine show its packets to see, now and later, or to
// nobody if that is nil.
func (d *datapath) traceTo(see see) error {
	d.mu.Lock()
	d.see = see
	var paths []*path
	for _, p := range d.paths {
		paths = append(paths, p)
		p.show()
	}
	d.mu.Unlock()
	var errs []error
	for _, p := range paths {
		if p.kernel != nil && p.translation.MTU6 != 0 { // 0: it has not been told yet
			errs = append(errs, p.applyTranslation())
		}
	}
	return errors.Join(errs...)
}

// show makes the path's engine do as data.see says. The caller holds data.mu.
func (p *path) show() {
	switch see, uplink := p.data.see, p.uplink; {
	case p.engine == nil:
	case see == nil:
		p.engine.SetTrace(nil)
	default:
		p.engine.SetTrace(func(s engine.Seen) { see(uplink, s) })
	}
}

// traced reports whether somebody sees the packets.
func (d *datapath) traced() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.see != nil
}

// belongs notes the uplink of a TUN.
func (d *datapath) belongs(tun, uplink string) {
	p := d.byName(tun)
	if p == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.uplink != uplink {
		p.uplink = uplink
		p.show()
	}
}
