package shim

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openFor returns the socket that open makes, as one of the user and the group of the
// calling thread, which need not be root's any more although the supervisor is. Routing
// rules for a user look at the socket (sk_uid), and firewall rules (meta skuid, xt_owner)
// at the credentials with which it was opened.
func (t *trapped) openFor(open func() (int, error)) (fd int, err error) {
	if !t.root {
		return open() // the program cannot be anybody else
	}
	o, err := t.processes.ownerOf(t.tid)
	if err != nil {
		return -1, err
	}
	ours := owner{gid: unix.Getegid()}
	if o == ours {
		return open()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = setOwner(o)
	if err == nil {
		fd, err = open()
	}
	for setOwner(ours) != nil { // for lack of memory
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return -1, err
	}
	if err := unix.Fchown(fd, o.uid, o.gid); err != nil { // a socket of the stock is older
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// owner is whom files that a thread creates belong to (fsuid and fsgid).
type owner struct{ uid, gid int }

// setOwner makes o the owner of what the calling thread creates from now on.
func setOwner(o owner) error {
	unix.Setfsgid(o.gid)
	unix.Setfsuid(o.uid)
	// These calls return what was before, and no error. Given -1 they change nothing.
	if gid, _ := unix.SetfsgidRetGid(-1); gid != o.gid {
		return unix.EPERM
	}
	if uid, _ := unix.SetfsuidRetUid(-1); uid != o.uid {
		return unix.EPERM
	}
	return nil
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

// ownerOf returns whom files that a thread creates belong to.
func (ps *processes) ownerOf(tid int) (owner, error) {
	if _, err := ps.of(tid); err != nil {
		return owner{}, err
	}
	ps.mu.Lock()
	if p := ps.by[tid]; p != nil && !p.whole {
		var info pidfdInfo
		_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(p.pidfd), ioctlPidfdInfo, uintptr(unsafe.Pointer(&info)))
		if e == 0 && int(info.pid) == tid {
			ps.mu.Unlock()
			return owner{int(info.fsuid), int(info.fsgid)}, nil
		}
	}
	ps.mu.Unlock()
	return ownerByStatus(tid)
}

// ownerByStatus is ownerOf for kernels before 6.13; it takes longer.
func ownerByStatus(tid int) (o owner, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return o, err
	}
	for name, id := range map[string]*int{"\nUid:": &o.uid, "\nGid:": &o.gid} {
		_, rest, _ := bytes.Cut(b, []byte(name))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		ids := bytes.Fields(line) // real, effective, saved, of files
		if len(ids) != 4 {
			return o, unix.EBADMSG
		}
		if *id, err = strconv.Atoi(string(ids[3])); err != nil {
			return o, err
		}
	}
	return o, nil
}
