package lab

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Cmd is an exec.Cmd whose process runs inside a host. It dies with the lab,
// also when the lab's own process is killed.
type Cmd struct {
	*exec.Cmd
	host *Host
}

// pipeDelay is how long after the end of a process its pipes are read, in case a
// grandchild keeps them open. A busy machine takes seconds to read what is left.
const pipeDelay = 20 * time.Second

// Command prepares a process inside the host. As with exec.CommandContext the
// process is killed when ctx ends.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = pipeDelay
	return &Cmd{Cmd: cmd, host: h}
}

// Start is exec.Cmd's, inside the host.
func (c *Cmd) Start() error {
	if err := c.host.onThread(c.Cmd.Start); err != nil {
		return err
	}
	c.host.procs.add(c.Process)
	return nil
}

// Wait is exec.Cmd's.
func (c *Cmd) Wait() error {
	err := c.Cmd.Wait()
	c.host.procs.remove(c.Process)
	return err
}

// Run is exec.Cmd's, inside the host.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output is exec.Cmd's, inside the host, except that standard error goes where
// c.Stderr says and nowhere else.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput is exec.Cmd's, inside the host.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// processes are those of a host that have been started and not waited for.
type processes struct {
	mu   sync.Mutex
	live map[*os.Process]struct{}
}

func (p *processes) add(proc *os.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		p.live = make(map[*os.Process]struct{})
	}
	p.live[proc] = struct{}{}
}

func (p *processes) remove(proc *os.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, proc)
}

func (p *processes) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for proc := range p.live {
		proc.Kill() // os.ErrProcessDone is as good
	}
}
