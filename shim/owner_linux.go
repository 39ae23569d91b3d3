package shim

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// giveTo makes a socket that root's supervisor has opened for the program belong to
// the user of the calling thread, who need not be root any more. Firewall and routing
// rules that are about a user look at the owner of the socket (sk_uid).
func (t *trapped) giveTo(fd int) error {
	if !t.root {
		return nil // the program cannot be anybody else
	}
	uid, err := t.processes.userOf(t.tid)
	if err != nil || uid == 0 {
		return err
	}
	return unix.Fchown(fd, uid, -1)
}

// pidfdInfo is struct pidfd_info as of Linux 6.13.
type pidfdInfo struct {
	mask, cgroup       uint64
	pid, tgid, ppid    uint32
	ruid, rgid         uint32
	euid, egid         uint32
	suid, sgid         uint32
	fsuid, fsgid, code uint32
}

const ioctlPidfdInfo = 0xc040ff0b // PIDFD_GET_INFO; every kernel that knows it tells of users

// userOf returns the user whom files that a thread creates belong to (fsuid).
func (ps *processes) userOf(tid int) (int, error) {
	if _, err := ps.of(tid); err != nil {
		return 0, err
	}
	ps.mu.Lock()
	if p := ps.by[tid]; p != nil && !p.whole {
		var info pidfdInfo
		_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(p.pidfd), ioctlPidfdInfo, uintptr(unsafe.Pointer(&info)))
		if e == 0 && int(info.pid) == tid {
			ps.mu.Unlock()
			return int(info.fsuid), nil
		}
	}
	ps.mu.Unlock()
	return userByStatus(tid)
}

// userByStatus is userOf for kernels before 6.13; it takes longer.
func userByStatus(tid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte("\nUid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	ids := bytes.Fields(line) // real, effective, saved, of files
	if len(ids) != 4 {
		return 0, unix.EBADMSG
	}
	return strconv.Atoi(string(ids[3]))
}
