package shim

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startNamespace starts the program in a network namespace in which the relay
// takes its connections too.
func (s *supervisor) startNamespace(j job, how *How) (program, error) {
	ours, theirs, err := newChannel()
	if err != nil {
		return program{}, err
	}
	defer theirs.close()
	// The program keeps its user and group, so that the relay's power over the
	// namespace cannot come from being root in it.
	powers := []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_ADMIN, unix.CAP_NET_BIND_SERVICE}
	pid, err := stage("contain", theirs, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: powers,
		Setpgid:     true,
	}, []uintptr{0, 1, 2})
	if err != nil {
		ours.close()
		return program{}, fmt.Errorf("user namespace: %w", err)
	}
	var r contained
	err = ours.send(containJob{Hidden: hiddenJob{j.Policy, pathMTU(s.policy.Load())}, Job: j})
	if err == nil {
		_, err = ours.receive(&r, 20*time.Second)
	}
	switch {
	case err != nil:
		ours.close()
		return program{}, err
	case r.Errno != 0:
		ours.close()
		return program{}, fmt.Errorf("%w: %w", errExec, syscall.Errno(r.Errno))
	case r.Error != "":
		ours.close()
		return program{}, errors.New(r.Error)
	}
	how.Method = "a network namespace for the whole program"
	return program{pid: pid, inner: r.PID, contained: ours}, nil
}

// containJob is what the process that contains a program is started with.
type containJob struct {
	Hidden hiddenJob
	Job    job
}

// contained is what it answers: first how it has started the program, then how
// that has ended.
type contained struct {
	Error  string `json:",omitempty"`
	Errno  int    `json:",omitempty"` // of execve
	PID    int    `json:",omitempty"`
	Status *int   `json:",omitempty"` // wait status
}

// runContain makes the namespace, starts the program in it and forwards for it.
func runContain(c *channel) error {
	var j containJob
	if _, err := c.receive(&j, 10*time.Second); err != nil {
		return err
	}
	table, err := j.Hidden.Policy.prepare()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	r := newRelay(table)
	r.mtu = j.Hidden.MTU
	type result struct {
		pid int
		err error
	}
	done := make(chan result)
	go r.thread.run(func() {
		_, ping, err := r.enter(j.Hidden.MTU, true)
		if err != nil {
			done <- result{err: err}
			return
		}
		if err := r.routes.watch(); err != nil {
			done <- result{err: err}
			return
		}
		r.run(ping)
		// What the program is started with: no capability is handed on.
		unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		pid, err := exec(j.Job, nil)
		done <- result{pid, err}
	})
	res := <-done
	if res.err != nil {
		answer := contained{Error: res.err.Error()}
		var e syscall.Errno
		if errors.Is(res.err, errExec) && errors.As(res.err, &e) {
			answer = contained{Errno: int(e)}
		}
		return c.send(answer)
	}
	quiet()
	if err := c.send(contained{PID: res.pid}); err != nil {
		unix.Kill(res.pid, unix.SIGKILL)
	}
	go r.look()
	reapAll(res.pid, func(w unix.WaitStatus) {
		status := int(w)
		c.send(contained{Status: &status})
	})
	return nil
}
