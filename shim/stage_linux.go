package shim

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageName is argument 0 of our own processes.
const stageName = "tnat64-shim"

// channelAt is the least number of the channel's descriptor in a process of
// ours: below are those that the program inherits.
const channelAt = 200

// In our processes nothing but main runs on the main thread: a thread that must
// end with its goroutine, as it has a filter or a descriptor table of its own,
// cannot be that one, which Go keeps.
func init() {
	if len(os.Args) == 3 && os.Args[0] == stageName {
		runtime.LockOSThread()
	}
}

// Stage runs a process of this package, and does not return, if the executable
// was started as one. Call it first in main, and in TestMain.
func Stage() {
	if len(os.Args) != 3 || os.Args[0] != stageName {
		return
	}
	fd, err := strconv.Atoi(os.Args[2])
	if err != nil || fd < 3 {
		os.Exit(Failed)
	}
	if os.Args[1] == "nothing" {
		os.Exit(0)
	}
	unix.CloseOnExec(fd)
	c := &channel{fd}
	switch os.Args[1] {
	case "supervise":
		err = runSupervise(c)
	case "hide":
		closeInherited(fd)
		err = runHide(c)
	case "contain":
		closeInherited(fd)
		err = runContain(c)
	default:
		os.Exit(Failed)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tnat64:", err)
		os.Exit(Failed)
	}
	os.Exit(0)
}

// stage starts a process of ours, with c as its end of a channel and the
// standard files given; nil: none. It closes c here, so that the other end tells when
// the process has ended, however early.
func stage(what string, c *channel, attr *syscall.SysProcAttr, files []uintptr) (pid int, err error) {
	defer c.close()
	if files == nil {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return 0, err
		}
		defer null.Close()
		files = []uintptr{null.Fd(), null.Fd(), null.Fd()}
	}
	// Without close-on-exec under a number of its own; other descriptors that
	// the program is to inherit keep theirs.
	fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD, channelAt)
	if err == unix.EINVAL { // RLIMIT_NOFILE is lower
		fd, err = unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD, 3)
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return syscall.ForkExec("/proc/self/exe", []string{stageName, what, strconv.Itoa(fd)}, &syscall.ProcAttr{
		Env: os.Environ(), Files: files, Sys: attr,
	})
}

// inherited returns the descriptors from 3 on without close-on-exec: those that
// were there when the process began.
func inherited() (all []int) {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		fd, err := strconv.Atoi(n)
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			all = append(all, fd)
		}
	}
	return all
}

// closeInherited closes them, except one.
func closeInherited(except int) {
	for _, fd := range inherited() {
		if fd != except {
			unix.Close(fd)
		}
	}
}
