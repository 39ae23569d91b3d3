package bus

import (
	"context"
	"fmt"
	"os"

	"github.com/godbus/dbus/v5"
)

// UnitState is what systemd says about the unit of this process.
type UnitState struct {
	Restarting bool // a job to restart it is under way
	Stopping   bool // a job to stop it is under way
	Stored     int  // descriptors in its file descriptor store
}

// Unit asks systemd for the state of the unit of this process.
func (b *Bus) Unit(ctx context.Context) (u UnitState, err error) {
	err = b.ask(ctx, systemdName, func(q question) error {
		var unit dbus.ObjectPath
		if err := q.call(systemdPath, systemdName+".Manager.GetUnitByPID", []any{uint32(os.Getpid())}, &unit); err != nil {
			return err
		}
		var stored uint32
		if err := q.property(unit, systemdName+".Service", "NFileDescriptorStore", &stored); err != nil {
			return err
		}
		u.Stored = int(stored)
		var job struct {
			ID   uint32
			Path dbus.ObjectPath
		}
		if err := q.property(unit, systemdName+".Unit", "Job", &job); err != nil {
			return err
		}
		if job.ID == 0 {
			return nil // nobody has asked systemd for anything
		}
		var kind string
		if err := q.property(job.Path, systemdName+".Job", "JobType", &kind); err != nil {
			return fmt.Errorf("job %d: %w", job.ID, err)
		}
		// try-restart and the like have become restart by now. A stop stays one.
		u.Restarting, u.Stopping = kind == "restart", kind == "stop"
		return nil
	})
	return u, err
}
