package shim

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses of what runs commands, as with env(1) and others.
const (
	Failed      = 125 // the shim itself
	CannotRun   = 126
	NotFound    = 127
	signalsFrom = 128 // and the number of the signal that killed the command
)

// Cmd is a program to be run through NAT64. Its methods are those of exec.Cmd.
type Cmd struct {
	Path   string   // of the executable
	Args   []string // with argument 0
	Env    []string // nil: that of this process
	Dir    string   // "": that of this process
	Stdin  *os.File // nil: nothing, /dev/null
	Stdout *os.File
	Stderr *os.File

	Policy Policy
	Method Method

	// Refresh lets the supervisor look for the PREF64 of 0.0.0.0/0 again when
	// the network has changed.
	Refresh bool

	// Say is told what a user should know, a sentence at a time; nil: nobody is.
	Say func(string)

	// Started is told how the program runs, before it can have said anything
	// that is read by Say; nil: nobody is.
	Started func(How)

	lacks kernelLacks // of tests

	supervisor int // process
	channel    *channel
	err        error // from Command
	done       chan struct{}
	status     int
	waitErr    error
	how        How
}

// How says which method runs the program, and why none before it.
type How struct {
	Method  string   // in words
	Refused []string // why not what is better, one sentence each
}

// Command returns a Cmd for the named program, which is looked for in PATH.
func Command(p Policy, name string, args ...string) *Cmd {
	c := &Cmd{Path: name, Args: append([]string{name}, args...), Policy: p}
	if filepath.Base(name) == name {
		c.Path, c.err = lookPath(name)
	}
	return c
}

// StartError is why a program could not be started.
type StartError struct {
	Status int // the exit status for it
	Err    error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// job is what the supervisor is started with.
type job struct {
	Path    string
	Args    []string
	Env     []string
	Dir     string
	Group   int // process group
	Policy  Policy
	Method  Method
	Refresh bool
	Lacks   kernelLacks
}

// kernelLacks is what the kernel is taken not to have. Tests say so where an
// older kernel cannot be had.
type kernelLacks struct {
	Namespaces bool // user namespaces
	AddFDSend  bool // SECCOMP_ADDFD_FLAG_SEND, Linux 5.14
}

// report is what the supervisor tells.
type report struct {
	Started *How   `json:",omitempty"`
	Failed  string `json:",omitempty"` // the shim itself
	Errno   int    `json:",omitempty"` // of execve
	Say     string `json:",omitempty"`
	Exited  *int   `json:",omitempty"` // wait status
}

// order is what the supervisor is told.
type order struct{ Signal int }

// Start starts the program and its supervisor.
func (c *Cmd) Start() error {
	if c.err != nil {
		return startError(c.err)
	}
	ours, theirs, err := newChannel()
	if err != nil {
		return &StartError{Failed, err}
	}
	defer theirs.close()
	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	var files []uintptr
	for _, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		if f == nil {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				ours.close()
				return &StartError{Failed, err}
			}
			defer null.Close()
			f = null
		}
		files = append(files, f.Fd())
	}
	pid, err := stage("supervise", theirs, nil, files)
	if err == nil {
		err = ours.send(job{c.Path, c.Args, env, c.Dir, unix.Getpgrp(), c.Policy, c.Method, c.Refresh, c.lacks})
	}
	if err != nil {
		ours.close()
		return &StartError{Failed, fmt.Errorf("cannot start the supervisor: %w", err)}
	}
	if why := gainsNothing(c.Path, unix.Geteuid(), unix.Getegid()); why != "" {
		c.tell(why)
	}
	c.supervisor, c.channel, c.done = pid, ours, make(chan struct{})
	for {
		var r report
		if _, err := ours.receive(&r, 0); err != nil {
			ours.close()
			return &StartError{Failed, fmt.Errorf("the supervisor has ended: %w (%s)", err, reap(pid))}
		}
		switch {
		case r.Say != "":
			c.tell(r.Say)
		case r.Failed != "":
			ours.close()
			reap(pid)
			return &StartError{Failed, errors.New(r.Failed)}
		case r.Errno != 0:
			ours.close()
			reap(pid)
			return startError(&os.PathError{Op: "exec", Path: c.Path, Err: syscall.Errno(r.Errno)})
		case r.Started != nil:
			c.how = *r.Started
			if c.Started != nil {
				c.Started(c.how)
			}
			go c.listen()
			return nil
		}
	}
}

// gainsNothing says that a setuid or setgid program is to run without the
// privilege that it is made for; "": it is none.
func gainsNothing(path string, uid, gid int) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	switch {
	case st.Mode&unix.S_ISUID != 0 && int(st.Uid) != uid:
		return fmt.Sprintf("%s is a setuid program: it runs as yourself and may fail (no_new_privs)", path)
	case st.Mode&unix.S_ISGID != 0 && st.Mode&unix.S_IXGRP != 0 && int(st.Gid) != gid:
		return fmt.Sprintf("%s is a setgid program: it runs as yourself and may fail (no_new_privs)", path)
	}
	return ""
}

// reap waits for a process of ours and says how it has ended.
func reap(pid int) string {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err.Error()
		case status.Signaled():
			return "signal: " + status.Signal().String()
		default:
			return fmt.Sprintf("exit status %d", status.ExitStatus())
		}
	}
}

// startError gives an error of exec its exit status.
func startError(err error) error {
	status := CannotRun
	if errors.Is(err, os.ErrNotExist) {
		status = NotFound
	}
	return &StartError{status, err}
}

func (c *Cmd) tell(s string) {
	if c.Say != nil {
		c.Say(s)
	}
}

// How says how the program runs. It has started.
func (c *Cmd) How() How { return c.how }

// listen takes what the supervisor says until the program has ended.
func (c *Cmd) listen() {
	defer close(c.done)
	for {
		var r report
		if _, err := c.channel.receive(&r, 0); err != nil {
			unix.Shutdown(c.channel.fd, unix.SHUT_RDWR) // if it lives, it ends
			c.status, c.waitErr = Failed, fmt.Errorf("the supervisor has ended: %w (%s)", err, reap(c.supervisor))
			return
		}
		switch {
		case r.Say != "":
			c.tell(r.Say)
		case r.Exited != nil:
			c.status = exitStatus(unix.WaitStatus(*r.Exited))
			return
		}
	}
}

// exitStatus is that of a shell.
func exitStatus(w unix.WaitStatus) int {
	if w.Signaled() {
		return signalsFrom + int(w.Signal())
	}
	return w.ExitStatus()
}

// Signal sends the program a signal.
func (c *Cmd) Signal(sig syscall.Signal) error { return c.channel.send(order{int(sig)}) }

// Wait waits until the program has ended and returns its exit status, 128 and
// the number of the signal if one killed it. Processes that it has left go on,
// and so does their supervisor.
func (c *Cmd) Wait() (status int, err error) {
	<-c.done
	c.channel.close()
	return c.status, c.waitErr
}

// Run starts the program, passes on the signals that this process gets, and
// waits for it.
func (c *Cmd) Run() (status int, err error) {
	stop := c.forwardSignals()
	defer stop()
	if err := c.Start(); err != nil {
		return Failed, err
	}
	return c.Wait()
}

// forwarded are the signals that are passed on to the program.
var forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE,
}

// forwardSignals passes signals on. The program is in our process group, so
// that it gets those of the terminal by itself.
func (c *Cmd) forwardSignals() (stop func()) {
	ch := make(chan os.Signal, 16)
	caught := slices.DeleteFunc(slices.Clone(forwarded), signal.Ignored)
	signal.Notify(ch, caught...)
	var once sync.Once
	end := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-ch:
				sig := s.(syscall.Signal)
				if (sig == unix.SIGINT || sig == unix.SIGQUIT) && inForeground() {
					continue
				}
				if c.channel != nil {
					c.Signal(sig)
				}
			case <-end:
				return
			}
		}
	}()
	return func() {
		once.Do(func() {
			signal.Stop(ch)
			close(end)
		})
	}
}

// inForeground reports whether the terminal sends us its signals.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// lookPath finds a program as the shell does.
func lookPath(name string) (string, error) {
	var denied error
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir == "" {
			dir = "."
		}
		path := filepath.Join(dir, name)
		if dir == "." {
			path = "./" + name
		}
		st, err := os.Stat(path)
		if err != nil || st.IsDir() {
			continue
		}
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
		denied = &os.PathError{Op: "exec", Path: path, Err: syscall.EACCES}
	}
	if denied != nil {
		return name, denied
	}
	return name, &os.PathError{Op: "exec", Path: name, Err: syscall.ENOENT}
}

// Exec replaces this process by the program, without any shim. It returns only
// on failure.
func (c *Cmd) Exec() error {
	if c.err != nil {
		return startError(c.err)
	}
	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	return startError(&os.PathError{Op: "exec", Path: c.Path, Err: syscall.Exec(c.Path, c.Args, env)})
}
