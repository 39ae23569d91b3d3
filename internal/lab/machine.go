package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MachineOptions describe a [Machine].
type MachineOptions struct {
	Root  string            // directory with a root file system, which stays as it is
	Files map[string]string // path and content, in addition; readable by the machine's root only
	Start string            // shell script that starts programs in the background and waits until they are ready
	Log   io.Writer         // output of the script and its programs
}

// Machine is the laptop of a lab with another root file system: what runs on it has
// the laptop's network, and mounts and processes of its own. Its files are a layer
// above the root file system.
type Machine struct {
	Bus    string          // address of its D-Bus system bus, if it has one
	Exited <-chan struct{} // closed when its first process has ended, and all others with it

	laptop *Host
	init   *os.Process
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

// StartMachine boots a machine. It does not wait for its programs. Stop it before the
// lab is closed.
func (l *Lab) StartMachine(o MachineOptions) (*Machine, error) {
	dir, err := os.MkdirTemp(l.Dir, "machine-")
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"layer", "root", "run/dbus", "files"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, content := range o.Files {
		path := filepath.Join(dir, "files", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // its programs need not be root
		return nil, err
	}
	cmd := l.Laptop.Command(context.Background(), "/bin/sh", "-c", boot)
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "ROOT=" + o.Root, "DIR=" + dir, "START=" + o.Start}
	cmd.Stdout, cmd.Stderr = o.Log, o.Log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	return &Machine{laptop: l.Laptop, init: cmd.Process, Exited: exited, Bus: "unix:path=" + filepath.Join(dir, "run/dbus/system_bus_socket")}, nil
}

// Stop kills all processes of the machine.
func (m *Machine) Stop() {
	m.init.Kill() // and with it all the others
	<-m.Exited
}

// Try runs a program on the machine and returns its output.
func (m *Machine) Try(ctx context.Context, name string, args ...string) (string, error) {
	enter := []string{"--target", strconv.Itoa(m.init.Pid), "--mount", "--pid", "--root", "--wdns=/", "--", name}
	cmd := m.laptop.Command(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Processes returns the process IDs of a program on the machine, as this process
// sees them.
func (m *Machine) Processes(name string) ([]int, error) {
	namespace := func(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) }
	own, err := namespace(m.init.Pid)
	if err != nil {
		return nil, err
	}
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
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
	return found, nil
}

// Kill kills programs on the machine, which must run.
func (m *Machine) Kill(names ...string) error {
	for _, name := range names {
		pids, err := m.Processes(name)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return fmt.Errorf("%s does not run", name)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return err
			}
		}
	}
	return nil
}
