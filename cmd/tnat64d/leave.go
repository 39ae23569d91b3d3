package main

import (
	"context"
	"time"

	"tnat64d/internal/bus"
)

// askFor is how long systemd may take to tell what it is doing. On a machine that is
// busy with an upgrade it takes more than the second that other questions may.
const askFor = 5 * time.Second

// askSystemd asks about the unit of this process.
func askSystemd(ctx context.Context) (bus.UnitState, error) {
	b := bus.New(bus.Options{Timeout: askFor})
	defer b.Close()
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	return b.Unit(ctx)
}

// mayLeave reports whether what carries packets is to go on without this process:
// systemd restarts the daemon, and has all that it takes in its store.
func (d *tnat64d) mayLeave() bool {
	if !d.opener.kept() {
		return false
	}
	unit, err := askSystemd(context.Background())
	switch {
	case err != nil:
		d.log.Info("cannot ask systemd whether this is a restart: removing everything", "reason", err)
		return false
	case !unit.Restarting:
		return false
	case !d.opener.store.complete(unit.Stored):
		d.log.Warn("systemd does not keep the descriptors of the CLAT: removing everything", "kept", unit.Stored, "hint", "see FileDescriptorStoreMax= in systemd.service(5)")
		return false
	}
	return true
}

// leave ends this process's part and nothing else.
func (d *tnat64d) leave() error {
	d.rec.Leave()
	err := d.path.leave()
	d.found.close()
	d.log.Info("stopped for a restart; IPv4 keeps working meanwhile", summary(d.path.Stats())...)
	return err
}
