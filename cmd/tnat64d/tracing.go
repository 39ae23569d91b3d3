package main

import (
	"errors"

	"tnat64d/datapath/engine"
	"tnat64d/internal/config"
)

// see is shown every packet of every uplink while somebody traces.
type see func(uplink string, p engine.Seen)

// trace begins to show packets to see, or ends it if that is nil. It is called
// in the loop. engine is the setting.
func (d *datapaths) trace(see see, engine config.Engine) error {
	err := d.traceTo(see)
	switch {
	case see == nil:
		d.log.Info("packets are no longer traced")
	case engine == config.EngineUser:
		d.log.Info("packets are traced")
	default:
		d.log.Info("packets are traced; the kernel engine pauses")
	}
	return err
}

// traceTo makes every path show its packets to see, now and later, or to nobody
// if that is nil.
func (d *datapaths) traceTo(see see) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.see = see
	var errs []error
	for _, p := range d.paths {
		errs = append(errs, d.show(p))
	}
	return errors.Join(errs...)
}

// show makes the path do as d.see says. The caller holds d.mu.
func (d *datapaths) show(p *path) error {
	see, uplink := d.see, p.uplink
	if see == nil {
		return p.SetTrace(nil)
	}
	return p.SetTrace(func(s engine.Seen) { see(uplink, s) })
}

// belongs notes the uplink of a TUN.
func (d *datapaths) belongs(tun, uplink string) {
	p := d.byName(tun)
	if p == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.uplink == uplink {
		return
	}
	p.uplink = uplink
	if d.see != nil {
		_ = d.show(p) // who translates does not change
	}
}
