package shim

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runSupervise is the supervisor's process: it starts the program as its child,
// so that it may read the program's memory (Yama), adopts what the program
// leaves behind, and ends when no process is left that the filter is about.
func runSupervise(c *channel) error {
	debug.SetGCPercent(50)
	// With a P to spare, a thread that comes out of a system call finds its own
	// again; with many, memory grows.
	runtime.GOMAXPROCS(min(max(runtime.NumCPU(), 2), 4))
	given := slices.DeleteFunc(inherited(), func(fd int) bool { return fd == c.fd })
	var j job
	if _, err := c.receive(&j, 10*time.Second); err != nil {
		return err
	}
	// Signals of the terminal are the program's. Those that are ignored stay
	// so, for the program.
	unix.Setpgid(0, 0)
	deaf := slices.DeleteFunc([]os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
	}, signal.Ignored)
	signal.Notify(make(chan os.Signal, 1), deaf...)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return c.send(report{Failed: fmt.Sprintf("cannot adopt processes: %v", err)})
	}
	t, err := j.Policy.prepare()
	if err != nil {
		return c.send(report{Failed: err.Error()})
	}
	s := &supervisor{net: netNamespace(0), root: unix.Geteuid() == 0}
	s.policy.Store(t)
	if m, err := markOf(0); err == nil {
		s.limits.begin(m)
	}
	voice := &voice{channel: c}
	s.say = voice.say
	s.stale = func() {}
	var refresh <-chan struct{}
	if j.Refresh {
		wake := make(chan struct{}, 1)
		s.stale = func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
		s.routes.changed = s.stale
		refresh = wake
	}
	if err := s.routes.watch(); err != nil {
		voice.say("routes", "cannot follow changes of routing: %v", err)
	}
	p, how, err := s.start(j)
	if err != nil {
		var e syscall.Errno
		if errors.As(err, &e) && errors.Is(err, errExec) {
			return c.send(report{Errno: int(e)})
		}
		return c.send(report{Failed: err.Error()})
	}
	// What the program has inherited is its own now.
	for _, fd := range given {
		unix.Close(fd)
	}
	quiet()
	if c.send(report{Started: &how}) != nil {
		unix.Kill(p.pid, unix.SIGKILL)
	}
	if refresh != nil {
		go s.followPrefix(j.Policy, refresh)
	}
	ended, alone := make(chan struct{}), make(chan struct{})
	report := func(status int) {
		c.send(report{Exited: &status})
		voice.stop()
		close(ended)
	}
	if p.contained != nil {
		go obey(c, p.inner)
		go func() {
			var r contained
			for r.Status == nil {
				if _, err := p.contained.receive(&r, 0); err != nil {
					lost := int(unix.SIGKILL) // as if it had been killed, which it was
					r.Status = &lost
				}
			}
			report(*r.Status)
		}()
	} else {
		go obey(c, p.pid)
	}
	go func() {
		reapAll(p.pid, func(status unix.WaitStatus) {
			if p.contained == nil {
				report(int(status))
			}
		})
		close(alone)
	}()
	<-ended
	if p.contained != nil {
		<-alone
		return nil
	}
	s.listener.hungUp()
	return nil
}

// quiet gives up the program's standard files: whoever reads them waits for the
// program, not for us.
func quiet() {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for fd := range 3 {
		unix.Dup3(null, fd, 0)
	}
	unix.Close(null)
}

// obey does what the front process says. When it is killed, so is the program.
func obey(c *channel, pid int) {
	for {
		var o order
		if _, err := c.receive(&o, 0); err != nil {
			unix.Kill(pid, unix.SIGKILL) // in vain if it has ended
			return
		}
		unix.Kill(pid, unix.Signal(o.Signal))
	}
}

// reapAll waits for every child, and calls ended when the program has ended. It
// returns when no child is left.
func reapAll(pid int, ended func(unix.WaitStatus)) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return
		case got == pid && (status.Exited() || status.Signaled()):
			pid = -1
			ended(status)
		}
	}
}

// voice tells the user something once.
type voice struct {
	mu      sync.Mutex
	channel *channel
	said    map[string]bool
	over    bool
}

// maxSaid bounds what a program makes us say.
const maxSaid = 32

func (v *voice) say(key, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over || v.said[key] || len(v.said) > maxSaid {
		return
	}
	if v.said == nil {
		v.said = map[string]bool{}
	}
	v.said[key] = true
	text := fmt.Sprintf(format, args...)
	if len(v.said) > maxSaid {
		text = "further messages are not shown"
	}
	v.channel.send(report{Say: text})
}

func (v *voice) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
}

// program is the one that has been started.
type program struct {
	pid int // our child

	// With MethodNamespace our child contains the program:
	contained *channel // tells how it ends
	inner     int      // its process
}

// errExec is wrapped by errors of execve.
var errExec = errors.New("exec")

// start starts the program by the best method that the kernel allows.
func (s *supervisor) start(j job) (p program, how How, err error) {
	if j.Method != MethodNamespace {
		p, err = s.startSockets(j, &how)
		if err == nil || errors.Is(err, errExec) {
			return p, how, err
		}
		how.Refused = append(how.Refused, fmt.Sprintf("sockets cannot be replaced: %v", err))
		if j.Method == MethodSockets {
			return p, how, errors.New(how.Refused[len(how.Refused)-1])
		}
	}
	p, err = s.startNamespace(j, &how)
	if err == nil || errors.Is(err, errExec) {
		return p, how, err
	}
	how.Refused = append(how.Refused, fmt.Sprintf("the program cannot run in a namespace: %v", err))
	text := how.Refused[0]
	for _, r := range how.Refused[1:] {
		text += "; " + r
	}
	return p, how, errors.New(text)
}

// startSockets starts it with a filter that leads to this supervisor.
func (s *supervisor) startSockets(j job, how *How) (program, error) {
	if err := canSupervise(); err != nil {
		return program{}, err
	}
	s.late.Store(j.Lacks.AddFDSend)
	if j.Lacks.AddFDSend {
		s.sayLate()
	}
	var h *hidden
	err := error(unix.EPERM)
	if !j.Lacks.Namespaces {
		h, err = hide(hiddenJob{j.Policy, pathMTU(s.policy.Load())})
	}
	if err != nil {
		how.Refused = append(how.Refused, fmt.Sprintf("no hidden network namespace: %v", err))
	} else {
		s.hidden = h
	}
	raw, err := assemble(rules(s.hidden != nil))
	if err != nil {
		return program{}, err
	}
	type result struct {
		pid int
		err error
	}
	done := make(chan result)
	go func() {
		// The thread with the filter ends with the goroutine, so that it does
		// not keep the listener alive.
		runtime.LockOSThread()
		var flags uintptr
		if s.hidden != nil {
			flags = flagWaitKillableRecv
		}
		l, err := install(raw, flags)
		if err == unix.EINVAL && flags != 0 {
			l, err = install(raw, 0)
		}
		if err != nil {
			done <- result{err: filterError(err)}
			return
		}
		s.listener = l
		unix.CloseOnExec(int(l))
		l.wakeSynchronously()
		newReaders(s.serve)
		pid, err := exec(j, nil)
		done <- result{pid, err}
	}()
	r := <-done
	if r.err != nil {
		if s.hidden != nil {
			s.hidden.close()
			s.hidden = nil
		}
		return program{}, r.err
	}
	how.Method = "sockets and a hidden network namespace"
	if s.hidden == nil {
		how.Method = "sockets, datagrams one by one"
	}
	return program{pid: r.pid}, nil
}

// exec starts the program of a job from the calling thread.
func exec(j job, attr *syscall.SysProcAttr) (pid int, err error) {
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Setpgid, attr.Pgid = true, j.Group
	pid, err = syscall.ForkExec(j.Path, j.Args, &syscall.ProcAttr{
		Dir: j.Dir, Env: j.Env, Files: []uintptr{0, 1, 2}, Sys: attr,
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errExec, err)
	}
	return pid, nil
}

// filterError says why the kernel refuses the filter.
func filterError(err error) error {
	switch err {
	case unix.EBUSY:
		return errors.New("another supervisor already handles this process (seccomp user notification)")
	case unix.EINVAL, unix.ENOSYS:
		return errors.New("the kernel has no seccomp user notification (Linux 5.9)")
	}
	return fmt.Errorf("seccomp: %w", err)
}

// canSupervise finds out whether the kernel lets us look into a child.
func canSupervise() error {
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope") // absent without Yama
	if err := yamaRefuses(scope, unix.Geteuid()); err != nil {
		return err
	}
	var there, here [1]byte
	local := unix.Iovec{Base: &here[0]}
	local.SetLen(1)
	if err := probeRead(&there[0], local); err != nil {
		return fmt.Errorf("process_vm_readv is refused (%w)", err)
	}
	p, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open is refused (%w)", err)
	}
	defer unix.Close(p)
	fd, err := unix.PidfdGetfd(p, p, 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd is refused (%w; Linux 5.6, and a container's seccomp profile must allow it)", err)
	}
	unix.Close(fd)
	return nil
}

// yamaRefuses says why Yama does not let a user look into a child, from what
// kernel.yama.ptrace_scope reads: 1 permits it, 2 wants CAP_SYS_PTRACE, 3 nobody.
func yamaRefuses(scope []byte, uid int) error {
	if len(scope) == 0 || scope[0] < '2' || scope[0] == '2' && uid == 0 {
		return nil
	}
	return fmt.Errorf("kernel.yama.ptrace_scope is %c, which forbids reading another process's memory", scope[0])
}

// pathMTU is the largest IPv4 datagram that goes to the PLAT unfragmented, as far
// as the host's routes tell.
func pathMTU(tab *table) int {
	const unknown = 1480
	for _, r := range tab.routes {
		if !r.PREF64.IsValid() {
			continue
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return unknown
		}
		defer unix.Close(fd)
		a := r.embed.Embed(r.Network.Addr().Next())
		if unix.Connect(fd, sockaddr(netip.AddrPortFrom(a, 9))) != nil {
			return unknown
		}
		if mtu, err := unix.GetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU); err == nil && mtu >= 1280 && mtu < 65536 {
			return mtu - 20
		}
	}
	return unknown
}
