package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

var _ = addAct("attack-shim", actAttackShim)

// actAttackShim tries to get at processes of another user. It fails if it
// gets at anything.
func actAttackShim(args []string) (string, error) {
	runtime.LockOSThread() // ptrace is a thread's
	var got []error
	gained := func(pid int, what string, err error) {
		if err == nil {
			got = append(got, fmt.Errorf("process %d: %s", pid, what))
		}
	}
	tried := 0
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		if err != nil {
			return "", err
		}
		proc := fmt.Sprintf("/proc/%d/", pid)
		if _, err := os.Stat(proc + "status"); err != nil {
			return "", err
		}
		err = unix.PtraceAttach(pid)
		gained(pid, "ptrace", err)
		if err == nil {
			unix.PtraceDetach(pid)
		}
		gained(pid, "signal", unix.Kill(pid, 0))
		for _, name := range []string{"mem", "environ", "maps", "fd/0", "fd/3", "fd/7", "ns/net", "ns/user"} {
			f, err := os.Open(proc + name)
			gained(pid, name, err)
			if err == nil {
				if strings.HasPrefix(name, "ns/") {
					gained(pid, "enter "+name, unix.Setns(int(f.Fd()), 0))
				}
				f.Close()
			}
		}
		if names, err := os.ReadDir(proc + "fd"); err == nil {
			gained(pid, fmt.Sprintf("list of %d descriptors", len(names)), nil)
		}
		threads, _ := filepath.Glob(proc + "task/[0-9]*/ns/net")
		for _, path := range threads {
			f, err := os.Open(path)
			gained(pid, path, err)
			if err == nil {
				f.Close()
			}
		}
		var b [1]byte
		_, err = unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: 0x400000, Len: 1}}, 0)
		gained(pid, "process_vm_readv", err)
		if !errors.Is(err, unix.EPERM) {
			got = append(got, fmt.Errorf("process %d: process_vm_readv: %w", pid, err))
		}
		if p, err := unix.PidfdOpen(pid, 0); err == nil { // everybody may
			for fd := range 300 {
				_, err := unix.PidfdGetfd(p, fd, 0)
				gained(pid, fmt.Sprintf("descriptor %d", fd), err)
			}
			gained(pid, "namespaces", unix.Setns(p, unix.CLONE_NEWNET|unix.CLONE_NEWUSER))
			unix.Close(p)
		}
		tried++
	}
	// What it listens at for others would be here: it has no name anywhere.
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return "", err
	}
	if bytes.Contains(table, []byte("tnat64-shim")) {
		got = append(got, errors.New("a Unix socket with a name"))
	}
	return fmt.Sprintf("%d processes are safe", tried), errors.Join(got...)
}

// TestHostileShimDescriptors leaves the shim's processes few descriptors, and makes
// as many processes connect and as many sockets send at once as would need all of them.
// Calls work or fail with an error that says why; nothing hangs.
func TestHostileShimDescriptors(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	program := `
import socket,os,errno,sys,time,signal
S='` + server + `'
honest={errno.ENOBUFS,errno.ENFILE,errno.EMFILE}
def connect():
    try:
        s=socket.socket();s.settimeout(60);s.connect((S,7));s.sendall(b'x');assert s.recv(9)==b'x';return 0
    except OSError as e:
        if e.errno in honest: return 1
        print('connect:',e,flush=True);return 2
r,w=os.pipe()
kids=[]
for i in range(60):
    pid=os.fork()
    if not pid:
        os.close(w);signal.alarm(120);c=connect();os.read(r,1);os._exit(c) # all stay until the last
    kids.append(pid)
keep=[]
for i in range(60): # each a socket of the relay
    try:
        u=socket.socket(2,2);u.sendto(b'y',(S,7));keep.append(u)
    except OSError as e:
        if e.errno not in honest: print('wrong datagram:',e)
        keep=keep[20:]
time.sleep(1);os.close(w)
got=[os.waitstatus_to_exitcode(os.waitpid(p,0)[1]) for p in kids]
print('connected',got.count(0),'refused',got.count(1),'wrong',len(got)-got.count(0)-got.count(1))
keep=[]
last=None
for i in range(12):
    try:
        u=socket.socket(2,2);u.settimeout(5);u.sendto(b'z',(S,7));print('datagram',u.recvfrom(9));break
    except OSError as e: last=e;time.sleep(.5)
else: print('datagram',last)
print('afterwards',connect())`
	cmd := w.shim(t.Context(), "python3", "-c", program)
	cmd.Args = append([]string{"prlimit", "--nofile=40:40"}, cmd.Args...)
	path, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skipf("needs the program %q", "prlimit")
	}
	cmd.Path = path
	// The kernel counts the descriptors that all processes of a user have sent: other
	// tests must not count.
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody - 2, Gid: nobody - 2}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wants(t, string(out), " wrong 0", "datagram (b'z', ('198.51.100.7', 7))", "afterwards 0")
	if strings.Contains(string(out), "wrong datagram") {
		t.Errorf("%s", out)
	}
}

// TestHostileShim lets another user, without capabilities, try to get at the
// supervisor, the relay, their sockets and their hidden namespace.
func TestHostileShim(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	cmd := w.shim(t.Context(), "sh", "-c", calls(t)+" mmsg "+server+"; echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var text []byte
	for b := make([]byte, 100); !bytes.Contains(text, []byte("ready")); {
		n, err := out.Read(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		text = append(text, b[:n]...)
	}
	var pids []string
	for _, all := range w.stages(t) {
		for _, pid := range all {
			pids = append(pids, strconv.Itoa(pid))
		}
	}
	if len(pids) != 2 {
		t.Fatalf("processes %q", pids)
	}
	attacker := w.user(t.Context(), append([]string{actorPath(t), actCommand, "attack-shim"}, pids...)...)
	attacker.SysProcAttr.Credential = &syscall.Credential{Uid: nobody - 1, Gid: nobody - 1}
	if out, err := attacker.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("2 processes are safe")) {
		t.Errorf("%v\n%s", err, out)
	}
	// None of their sockets can be reached over the network: the host's are not
	// bound before they send, and take only what comes from where they sent to.
	time.Sleep(10 * time.Millisecond)
	list := w.Laptop.Command(t.Context(), "ss", "-H", "-l", "-n", "-t", "-u", "-w", "-p")
	sockets, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, sockets)
	}
	for line := range strings.Lines(string(sockets)) {
		if !strings.Contains(line, "exe") && !strings.Contains(line, "tnat64") {
			continue
		}
		if strings.HasPrefix(line, "tcp") || strings.HasPrefix(line, "p_raw") {
			t.Errorf("a socket of the shim listens: %s", line)
		}
	}
}
