package bus

import (
	"errors"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestUnit(t *testing.T) {
	type job struct {
		ID   uint32
		Path dbus.ObjectPath
	}
	const unitPath, jobPath = systemdPath + "/unit/tnat64d_2eservice", systemdPath + "/job/17"
	d := startDaemon(t)
	if _, err := d.open().Unit(ctx(t)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without systemd: %v", err)
	}
	f := d.serve(systemdName, systemdPath, systemdName+".Manager", map[string]any{
		"GetUnitByPID": func(pid uint32) (dbus.ObjectPath, *dbus.Error) {
			if pid != uint32(os.Getpid()) {
				return "", dbus.NewError(systemdName+".NoUnitForPID", []any{"no unit"})
			}
			return unitPath, nil
		},
	})
	f.set(unitPath, systemdName+".Service", "NFileDescriptorStore", uint32(12))
	b := d.open()
	for kind, restarting := range map[string]bool{"": false, "stop": false, "restart": true, "start": false} {
		j := job{0, "/"}
		if kind != "" {
			j = job{17, jobPath}
		}
		f.set(unitPath, systemdName+".Unit", "Job", j)
		f.set(jobPath, systemdName+".Job", "JobType", kind)
		if got, err := b.Unit(ctx(t)); err != nil || got != (UnitState{Restarting: restarting, Stopping: kind == "stop", Stored: 12}) {
			t.Errorf("job %q: %+v, %v", kind, got, err)
		}
	}
	f.set(unitPath, systemdName+".Unit", "Job", "nonsense")
	if got, err := b.Unit(ctx(t)); err == nil {
		t.Errorf("a job of the wrong type: %+v", got)
	}
}
