package tun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// intruderEnv makes the test binary a program that attaches to TUN interfaces
// by a device node: see intrude.
const intruderEnv = "TNAT64_TUN_TEST_INTRUDER"

const nobody = 65534

// intruder is another user's program in the network namespace of the test, and
// the device node that it uses, which is open to everybody.
type intruder struct{ binary, node string }

func newIntruder(t *testing.T) intruder {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp("", "tun-intruder-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	dev, err := os.MkdirTemp("/dev", "tun-intruder-") // elsewhere device nodes may be off
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dev) })
	i := intruder{binary: filepath.Join(dir, "intruder"), node: filepath.Join(dev, "tun")}
	self, err := os.ReadFile("/proc/self/exe")
	for _, err := range []error{err,
		os.WriteFile(i.binary, self, 0o755),
		os.Chmod(dir, 0o755), os.Chmod(dev, 0o755),
		unix.Mknod(i.node, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))),
		os.Chmod(i.node, 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// command prepares the program; the namespace is that of the starting thread.
func (i intruder) command(name, what string) *exec.Cmd {
	cmd := exec.Command(i.binary)
	cmd.Env = []string{intruderEnv + "=" + strings.Join([]string{i.node, name, what}, ",")}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// intrude is the intruder. It prints as JSON what every attempt answered.
func intrude(order string) {
	f := strings.Split(order, ",")
	node, name, what := f[0], f[1], f[2]
	runtime.LockOSThread()
	fd, err := unix.Open(node, unix.O_RDWR, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch what {
	case "race": // for the moment between TUNSETIFF and TUNSETOWNER
		for {
			if attach(fd, name, 0) == nil {
				os.Stdout.WriteString("attached\n")
				time.Sleep(time.Millisecond)
				unix.Close(fd)
				fd, _ = unix.Open(node, unix.O_RDWR, 0)
			}
		}
	case "follow": // the same, of every interface that comes
		nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
		if err == nil {
			err = unix.Bind(nl, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		buf := make([]byte, 1<<16)
		for {
			n, _, err := unix.Recvfrom(nl, buf, unix.MSG_DONTWAIT)
			if err != nil {
				continue
			}
			messages, _ := syscall.ParseNetlinkMessage(buf[:n])
			for _, m := range messages {
				if info, ok := parseLink(m); ok && attach(fd, info.name, 0) == nil {
					os.Stdout.WriteString("attached\n")
					unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, 12)
					unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
					unix.IoctlSetInt(fd, unix.TUNSETOWNER, nobody)
					unix.Close(fd)
					fd, _ = unix.Open(node, unix.O_RDWR, 0)
				}
			}
		}
	}
	answers := map[string]syscall.Errno{}
	for _, flags := range []uint16{0, unix.IFF_TUN_EXCL, unix.IFF_NAPI} {
		answers[fmt.Sprintf("attach %#x", flags)] = errno(attach(fd, name, flags))
	}
	for what, err := range map[string]error{
		"TUNSETPERSIST":   unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1),
		"TUNSETOWNER":     unix.IoctlSetInt(fd, unix.TUNSETOWNER, nobody),
		"TUNSETGROUP":     unix.IoctlSetInt(fd, unix.TUNSETGROUP, nobody),
		"TUNSETVNETHDRSZ": unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, 12),
		"TUNSETOFFLOAD":   unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0),
		"TUNSETSNDBUF":    unix.IoctlSetPointerInt(fd, unix.TUNSETSNDBUF, 1),
		"TUNSETCARRIER":   unix.IoctlSetPointerInt(fd, unix.TUNSETCARRIER, 0),
		"read":            func() error { _, err := unix.Read(fd, make([]byte, 1)); return err }(),
		"write":           func() error { _, err := unix.Write(fd, make([]byte, 50)); return err }(),
	} {
		answers[what] = errno(err)
	}
	json.NewEncoder(os.Stdout).Encode(answers)
	os.Exit(0)
}

func errno(err error) (e syscall.Errno) {
	errors.As(err, &e)
	return e
}

// Another user cannot attach, and whoever is not attached cannot read, write,
// or change any setting.
func TestOtherUserCannotAttach(t *testing.T) {
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprint(queues, " queues"), func(t *testing.T) {
			i := newIntruder(t)
			enterNetns(t)
			d, err := Open("clat0", queues)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			out, err := i.command("clat0", "attach").Output()
			if err != nil {
				t.Fatal(err)
			}
			var answers map[string]syscall.Errno
			if err := json.Unmarshal(out, &answers); err != nil {
				t.Fatal(err)
			}
			if len(answers) != 12 {
				t.Errorf("%d answers: %v", len(answers), answers)
			}
			for what, got := range answers {
				want := unix.EBADFD
				switch what {
				case "attach 0x0", "attach 0x10":
					want = unix.EPERM
				case "attach 0x8000":
					want = unix.EBUSY // IFF_TUN_EXCL is looked at first
				}
				if got != want {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			if err := d.check(queues); err != nil {
				t.Error(err)
			}
		})
	}
}

// A program that tries to attach all the time, by the name or by every name
// that netlink tells, does not get in, and cannot keep Open from succeeding.
func TestNobodyAttachesWhileItIsMade(t *testing.T) {
	for _, way := range []string{"race", "follow"} {
		t.Run(way, func(t *testing.T) {
			i := newIntruder(t)
			h := enterNetns(t)
			var attached [2]strings.Builder
			var others []*exec.Cmd
			for n := range attached {
				cmd := i.command("clat0", way)
				cmd.Stdout = &attached[n]
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				others = append(others, cmd)
			}
			// An emulated machine makes a few a second.
			for n, start := 0, time.Now(); n < 50 && (n < 5 || time.Since(start) < 5*time.Second); n++ {
				d, err := Open("clat0", 2)
				if err != nil {
					t.Fatal(err)
				}
				if err := d.check(2); err != nil {
					t.Error(err)
				}
				if size, err := vnetHeaderSize(d.Queues[0]); size != VnetHeaderLen {
					t.Errorf("a virtio-net header has %d bytes, %v", size, err)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				if links, err := h.LinkList(); err != nil || len(links) != 1 {
					t.Fatalf("left behind: %v, %v", links, err)
				}
			}
			won := 0
			for n, cmd := range others {
				cmd.Process.Kill()
				cmd.Wait()
				won += strings.Count(attached[n].String(), "attached")
			}
			t.Logf("attached %d times to interfaces that were thrown away", won)
			if way == "race" && won > 0 {
				t.Errorf("attached %d times by the name", won)
			}
		})
	}
}

func vnetHeaderSize(q *Queue) (size int, err error) {
	conn, err := q.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := conn.Control(func(fd uintptr) { size, err = unix.IoctlGetInt(int(fd), unix.TUNGETVNETHDRSZ) })
	return size, errors.Join(err, controlErr)
}

// Close removes an interface that a privileged program keeps alive.
func TestCloseEndsAttachedPrograms(t *testing.T) {
	h := enterNetns(t)
	d, err := Open("clat0", 1)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = attach(fd, "clat0", 0)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := d.check(1); !errors.Is(err, errForeign) {
		t.Errorf("a second descriptor is not noticed: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := h.LinkByName("clat0"); err == nil {
		t.Error("the interface is still there")
	}
}

// A persistent interface with our alias, or one without an owner, is removed;
// those of others and of a running process are not.
func TestRemoveLeftovers(t *testing.T) {
	h := enterNetns(t)
	live, err := Open("live0", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	make := func(name string, owner, persist int) {
		t.Helper()
		fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			err = attach(fd, name, 0)
		}
		if err == nil && owner >= 0 {
			err = unix.IoctlSetInt(fd, unix.TUNSETOWNER, owner)
		}
		if err == nil {
			err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, persist)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if persist == 1 && owner == 0 {
			unix.Close(fd) // nobody is attached any more
		}
	}
	make("old0", -1, 0)
	make("kept0", 0, 1)
	make("held0", nobody, 1)
	make("vpn0", -1, 1)
	for name, alias := range map[string]string{
		"live0": "ours: CLAT on wlan0", "old0": "ours: CLAT on wlan0", "kept0": "ours: CLAT on wlan0", "held0": "ours: CLAT on eth0", "vpn0": "VPN",
	} {
		link, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetAlias(link, alias)
		}
		if err != nil {
			t.Fatal(name, err)
		}
	}
	// Of another kind, whatever its alias says.
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth7"}, PeerName: "peer7"}); err != nil {
		t.Fatal(err)
	} else if link, err := h.LinkByName("veth7"); err != nil {
		t.Fatal(err)
	} else if err := h.LinkSetAlias(link, "ours: CLAT on wlan0"); err != nil {
		t.Fatal(err)
	}
	removed, err := RemoveLeftovers("ours: ")
	slices.Sort(removed)
	if want := []string{"held0", "kept0", "old0"}; err != nil || !slices.Equal(removed, want) {
		t.Errorf("removed %v, %v; want %v", removed, err, want)
	}
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, l := range links {
		left = append(left, l.Attrs().Name)
	}
	slices.Sort(left)
	if want := []string{"live0", "lo", "peer7", "veth7", "vpn0"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	if removed, err := RemoveLeftovers("ours: "); err != nil || removed != nil {
		t.Errorf("again: %v, %v", removed, err)
	}
}

// The temporary name cannot be guessed, begins like the name, and fits.
func TestTemporaryName(t *testing.T) {
	for name, begin := range map[string]string{"clat0": "clat", "clat12": "clat", "": "", "tun%d": "tun", "a-name-of-15-by": "a-name-"} {
		a, b := temporaryName(name), temporaryName(name)
		if a == b || !strings.HasPrefix(a, begin) || len(a) >= unix.IFNAMSIZ {
			t.Errorf("%q: %q, %q", name, a, b)
		}
	}
}

// The answer of the kernel is believed only as far as its lengths are right.
func FuzzParseLink(f *testing.F) {
	f.Add(make([]byte, 16))
	f.Add(append(make([]byte, 16), 4, 0, 18, 0, 8, 0, 1, 0, 't', 'u', 'n', 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseLink(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWLINK}, Data: data})
	})
}

// The name is taken between the look and the rename.
func TestNameTakenMeanwhile(t *testing.T) {
	h := enterNetns(t)
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "clat0"}, PeerName: "peer0"}); err != nil {
		t.Fatal(err)
	}
	d, err := open("clat0", 1, 0)
	if d != nil || !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if links, err := h.LinkList(); err != nil || len(links) != 3 {
		t.Errorf("left behind: %v, %v", links, err)
	}
}
