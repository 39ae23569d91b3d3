package main

import (
	"context"
	"os"
	"os/exec"
	"time"
)

// tool prepares a compiler or another tool. Its temporary files are in dir,
// which goes at the end: tools that are interrupted leave them behind.
func tool(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "GOTMPDIR="+dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}
