package main

import (
	"context"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// rootVariable names the root file system in which other CLATs run, as the program
// of this directory prints it.
const rootVariable = "TNAT64_TEST_OTHERS"

// machine is a lab.Machine of a test.
type machine struct {
	*lab.Machine
}

// newMachine boots a machine with files (path and content; none for others but its
// root) and a shell script that starts its programs and waits for them.
func newMachine(t *testing.T, l *lab.Lab, root string, files map[string]string, start string) *machine {
	t.Helper()
	log := &book{}
	m, err := l.StartMachine(lab.MachineOptions{Root: root, Files: files, Start: start, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Stop()
		if t.Failed() {
			t.Logf("log of the machine:\n%s", log)
		}
	})
	return &machine{m}
}

// run is Try for what must succeed.
func (m *machine) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := m.Try(ctx, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write writes a file of the machine.
func (m *machine) write(t *testing.T, path, content string) {
	t.Helper()
	m.run(t, "/bin/sh", "-c", `printf %s "$1" >"$0"`, path, content)
}

// kill kills programs on the machine, which must run.
func (m *machine) kill(t *testing.T, names ...string) {
	t.Helper()
	if err := m.Kill(names...); err != nil {
		t.Fatal(err)
	}
}

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// eventually tries until f succeeds, for a bounded time.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
