package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// rootVariable names the root file system in which other CLATs run, as the program
// of this directory prints it.
const rootVariable = "TNAT64_TEST_OTHERS"

// machine is the laptop of a lab with the file system of another one: what
// runs on it has the laptop's network, and mounts and processes of its own. Its
// files are a layer above the root file system, which stays as it is.
type machine struct {
	lab  *lab.Lab
	init int // process ID of the first of its processes
	bus  string
	log  *book
}

// boot mounts the machine's file system, DIR/root, and has a shell run START. The
// shell is the first process of the machine, and the mounts and all other processes
// end with it: so it does not end by itself.
const boot = `
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$DIR/layer"
mkdir "$DIR/layer/upper" "$DIR/layer/work"
mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$DIR/layer/upper,workdir=$DIR/layer/work" "$DIR/root"
cp -a "$DIR/files/." "$DIR/root/"
mount -t proc proc "$DIR/root/proc"
# NetworkManager waits for udev to initialise devices unless /sys is read-only.
mount -t sysfs -o ro sysfs "$DIR/root/sys"
mount --bind /dev "$DIR/root/dev"
mount --bind "$DIR/run" "$DIR/root/run"
cd /
exec chroot "$DIR/root" /bin/sh -c "$START
exec sleep infinity"
`

// newMachine boots a machine with files (path and content; none for others but its
// root) and a shell script that starts its programs and waits for them.
func newMachine(t *testing.T, l *lab.Lab, files map[string]string, start string) *machine {
	t.Helper()
	dir := filepath.Join(l.Dir, "machine")
	for _, d := range []string{"layer", "root", "run/dbus", "files"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		path := filepath.Join(dir, "files", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	m := &machine{lab: l, bus: "unix:path=" + filepath.Join(dir, "run/dbus/system_bus_socket"), log: &book{}}
	cmd := l.Laptop.Command(context.WithoutCancel(t.Context()), "/bin/sh", "-c", boot)
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"ROOT=" + os.Getenv(rootVariable), "DIR=" + dir, "START=" + start,
	}
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.init = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() // and with it all of its processes
		<-ended
		if t.Failed() {
			t.Logf("log of the machine:\n%s", m.log)
		}
	})
	return m
}

// try runs a program on the machine.
func (m *machine) try(ctx context.Context, name string, args ...string) (string, error) {
	enter := []string{"--target", strconv.Itoa(m.init), "--mount", "--pid", "--root", "--wdns=/", "--", name}
	cmd := m.lab.Laptop.Command(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// run is try for what must succeed.
func (m *machine) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := m.try(ctx, name, args...)
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

// processes returns the process IDs of a program on the machine, as this process
// sees them.
func (m *machine) processes(t *testing.T, name string) []int {
	t.Helper()
	namespace := func(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) }
	own, err := namespace(m.init)
	if err != nil {
		t.Fatal(err)
	}
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range comms {
		comm, err := os.ReadFile(file)
		pid, numErr := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || numErr != nil || strings.TrimSpace(string(comm)) != name {
			continue // it has ended
		}
		if ns, err := namespace(pid); err == nil && ns == own {
			found = append(found, pid)
		}
	}
	return found
}

// kill kills programs on the machine, which must run.
func (m *machine) kill(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		pids := m.processes(t, name)
		if len(pids) == 0 {
			t.Fatalf("%s does not run", name)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
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
