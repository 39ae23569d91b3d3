package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// process is a thread of the program, seen from the supervisor.
type process struct {
	tid   int
	pidfd int
	whole bool // pidfd is that of the process: before Linux 6.9 there is none of a thread
	group *group
	used  uint64      // of processes.clock
	known atomic.Bool // tid was seen to be the caller's after pidfd had been opened
}

// group is what threads of one process share.
type group struct {
	tgid int

	mu     sync.Mutex
	stale  bool  // an epoll instance may have appeared since epolls was read
	epolls []int // descriptor numbers of epoll instances

	netStale bool   // it may have left its network namespace since net was read
	net      uint64 // its network namespace; 0: unknown
	wanders  bool   // it has called setns or unshare
}

// processes remembers pidfds, as opening one for each system call is slow.
type processes struct {
	mu     sync.Mutex
	by     map[int]*process
	groups map[int]*group
	clock  uint64

	wander bool // some process has called setns or unshare
}

const maxProcesses = 256

// errGone: the thread is no more.
var errGone = errors.New("the thread has ended")

// descriptor returns a duplicate of descriptor fd of the thread tid.
func (ps *processes) descriptor(tid, fd int) (dup int, p *process, err error) {
	for range 2 {
		p, err = ps.of(tid)
		if err != nil {
			return -1, nil, err
		}
		ps.mu.Lock()
		if ps.by[tid] != p { // closed meanwhile
			ps.mu.Unlock()
			continue
		}
		r, _, e := unix.RawSyscall(unix.SYS_PIDFD_GETFD, uintptr(p.pidfd), uintptr(fd), 0)
		dup, err = int(r), nil
		if e != 0 {
			dup, err = -1, e
		}
		if exhausted(err) && len(ps.by) > 1 {
			ps.keepOnly(p)
			ps.mu.Unlock()
			continue
		}
		ps.mu.Unlock()
		if p.whole && tid != p.group.tgid && unix.Tgkill(p.group.tgid, tid, 0) == unix.ESRCH {
			// The process lives, but the thread's number is another's.
			if err == nil {
				unix.Close(dup)
			}
			err = unix.ESRCH
		}
		if err != unix.ESRCH {
			return dup, p, err
		}
		ps.forget(p) // the number has been given to another thread
	}
	return -1, nil, errGone
}

// of returns the process for a thread.
func (ps *processes) of(tid int) (*process, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.clock++
	if p, ok := ps.by[tid]; ok {
		p.used = ps.clock
		return p, nil
	}
	tgid, pidfd, whole, err := openProcess(tid)
	if exhausted(err) && len(ps.by) > 0 {
		ps.keepOnly(nil)
		tgid, pidfd, whole, err = openProcess(tid)
	}
	if err != nil {
		return nil, err
	}
	if ps.by == nil {
		ps.by, ps.groups = map[int]*process{}, map[int]*group{}
	}
	for len(ps.by) >= maxProcesses {
		ps.evict()
	}
	g := ps.groups[tgid]
	if g == nil || tid == tgid {
		g = &group{tgid: tgid, stale: true, netStale: true, wanders: ps.wander}
		ps.groups[tgid] = g
	}
	p := &process{tid: tid, pidfd: pidfd, whole: whole, group: g, used: ps.clock}
	ps.by[tid] = p
	return p, nil
}

// openProcess opens a pidfd of a thread, or of its process where the kernel has
// none for threads.
func openProcess(tid int) (tgid, pidfd int, whole bool, err error) {
	if tgid, err = threadGroup(tid); err != nil {
		return 0, -1, false, err
	}
	pidfd, err = unix.PidfdOpen(tid, unix.PIDFD_THREAD)
	if whole = err == unix.EINVAL; whole {
		pidfd, err = unix.PidfdOpen(tgid, 0)
	}
	return tgid, pidfd, whole, err
}

// release closes the descriptors of all processes. They are opened again when needed.
func (ps *processes) release() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.keepOnly(nil)
}

// keepOnly forgets all processes but one, to have their descriptors. It is called
// with the lock held.
func (ps *processes) keepOnly(one *process) {
	for _, p := range ps.by {
		if p != one {
			ps.remove(p)
		}
	}
}

func (ps *processes) evict() {
	var oldest *process
	for _, p := range ps.by {
		if oldest == nil || p.used < oldest.used {
			oldest = p
		}
	}
	ps.remove(oldest)
}

func (ps *processes) forget(p *process) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.by[p.tid] == p {
		ps.remove(p)
	}
}

// remove is called with the lock held.
func (ps *processes) remove(p *process) {
	unix.Close(p.pidfd)
	delete(ps.by, p.tid)
	for _, q := range ps.by {
		if q.group == p.group {
			return
		}
	}
	delete(ps.groups, p.group.tgid)
}

// epollCreated notes that the thread makes an epoll instance.
func (ps *processes) epollCreated(tid int) {
	if p, err := ps.of(tid); err == nil {
		p.group.mu.Lock()
		p.group.stale = true
		p.group.mu.Unlock()
	}
}

// namespaceOf returns the network namespace of a process; 0 if it does not let
// others look into it, or has ended.
func (ps *processes) namespaceOf(p *process) uint64 {
	g := p.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wanders {
		return netNamespace(p.tid)
	}
	if g.netStale {
		g.net = netNamespace(p.tid)
		g.netStale = g.net == 0
	}
	return g.net
}

// namespaceChanges notes that the thread may leave its network namespace. From
// then on its process is asked about each time, as the call is still to come.
func (ps *processes) namespaceChanges(tid int) {
	ps.mu.Lock()
	ps.wander = true // also for what is forgotten and seen again before the call
	ps.mu.Unlock()
	if p, err := ps.of(tid); err == nil {
		p.group.mu.Lock()
		p.group.wanders = true
		p.group.mu.Unlock()
	}
}

// threadGroup returns the process to which a thread belongs.
func threadGroup(tid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if exhausted(err) {
		return 0, err
	}
	if err != nil {
		return 0, errGone
	}
	_, rest, _ := bytes.Cut(b, []byte("\nTgid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return strconv.Atoi(string(bytes.TrimSpace(line)))
}

// netNamespace identifies the network namespace of a thread; 0: unknown.
func netNamespace(tid int) uint64 {
	var st unix.Stat_t
	path := "/proc/thread-self/ns/net"
	if tid != 0 {
		path = "/proc/" + strconv.Itoa(tid) + "/ns/net"
	}
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// readCloseOnExec reads /proc/PID/fdinfo/FD.
func readCloseOnExec(b []byte) bool {
	_, rest, ok := bytes.Cut(b, []byte("flags:"))
	if !ok {
		return false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	flags, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 8, 64)
	return err == nil && flags&unix.O_CLOEXEC != 0
}

// descriptorsTo returns the descriptors of a thread whose link in /proc reads
// target, such as "socket:[4711]".
func descriptorsTo(tid int, target string) []int {
	var found []int
	dir := "/proc/" + strconv.Itoa(tid) + "/fd"
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	buf := make([]byte, len(target)+1)
	for _, n := range names {
		l, err := unix.Readlinkat(int(d.Fd()), n, buf)
		if err != nil || string(buf[:l]) != target {
			continue
		}
		if fd, err := strconv.Atoi(n); err == nil {
			found = append(found, fd)
		}
	}
	return found
}
