// Command init is the first process of the kernel that is under test. It mounts
// what a Linux system has, loads modules, runs those test binaries of the plan
// in the initramfs whose names are its arguments, reports to the
// plan's serial port, and powers off.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"tnat64d/packaging/test-kernel/guest"
)

// runnerArg makes a second process of this program the one that runs the jobs:
// the first must be free to reap whatever orphans the tests make, as on a real
// system.
const runnerArg = "run"

func main() {
	switch {
	case os.Getpid() == 1:
		first(os.Args[1:])
	case len(os.Args) > 1 && os.Args[1] == runnerArg:
		runner(os.Args[2:])
	default:
		fmt.Fprintln(os.Stderr, "init: this program belongs into the initramfs of `make test-kernel`")
		os.Exit(2)
	}
}

// first is process 1. Its own failures go to the console, and the missing
// events tell the host.
func first(jobs []string) {
	if err := system(jobs); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// system makes a system of the kernel and has the runner work there.
func system(jobs []string) error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := limits(); err != nil {
		return err
	}
	p, err := os.StartProcess("/init", append([]string{"/init", runnerArg}, jobs...), &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{nil, os.Stdout, os.Stderr},
	})
	if err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case pid == p.Pid:
			return nil
		}
	}
}

// runner is the process that does the work of the plan.
func runner(jobs []string) {
	plan, err := readPlan()
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		os.Exit(1)
	}
	events, err := openEvents(plan.Events)
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		os.Exit(1)
	}
	if err := execute(plan, jobs, events); err != nil {
		events.send(guest.Event{Failed: err.Error()})
	}
	events.close()
}

func readPlan() (plan guest.Plan, err error) {
	data, err := os.ReadFile(guest.PlanPath)
	if err != nil {
		return plan, err
	}
	if err := json.Unmarshal(data, &plan); err != nil {
		return plan, fmt.Errorf("%s: %w", guest.PlanPath, err)
	}
	return plan, nil
}

func execute(plan guest.Plan, jobs []string, events *events) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	events.send(guest.Event{Kernel: unix.ByteSliceToString(uts.Release[:])})
	if err := noFallbackTunnels(); err != nil {
		return err
	}
	if err := loadModules(plan.Modules); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	for _, j := range plan.Jobs {
		if !slices.Contains(jobs, j.Name) {
			continue
		}
		if err := runJob(j, plan.Env, events); err != nil {
			return fmt.Errorf("%s: %w", j.Name, err)
		}
	}
	tainted, err := taint()
	if err != nil {
		return err
	}
	events.send(guest.Event{Done: &guest.Done{Tainted: tainted}})
	return nil
}
