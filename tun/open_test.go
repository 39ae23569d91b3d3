package tun

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a process that holds a TUN interface, parks a
// reader on each queue, says so, and waits to be killed.
const childEnv = "TNAT64_TUN_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		holdInterface()
	}
	if order := os.Getenv(intruderEnv); order != "" {
		intrude(order)
	}
	os.Exit(m.Run())
}

func holdInterface() {
	d, err := Open("clat0", 4)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, q := range d.Queues {
		go func() {
			buf := make([]byte, 1<<16+VnetHeaderLen)
			for {
				if _, _, err := q.Read(buf, VnetHeaderLen); err != nil {
					os.Exit(0)
				}
			}
		}()
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1)) // until the parent is gone
	os.Exit(0)
}

// startChild runs holdInterface in the namespace of the calling thread.
func startChild(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("child says %q", line)
	}
	return cmd
}

func TestOpen(t *testing.T) {
	h := enterNetns(t)
	for _, queues := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			// A subtest is another goroutine, on another thread: go there too.
			h := enterNetns(t)
			d, err := Open("clat0", queues)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			link, err := h.LinkByName("clat0")
			if err != nil {
				t.Fatal(err)
			}
			if d.Name != "clat0" || d.Index != link.Attrs().Index || len(d.Queues) != queues {
				t.Errorf("got %q, index %d, %d queues; want clat0, %d, %d", d.Name, d.Index, len(d.Queues), link.Attrs().Index, queues)
			}
			if n := link.(*netlink.Tuntap).Queues; n != queues {
				t.Errorf("the kernel counts %d queues, want %d", n, queues)
			}
			t.Logf("offloads: %v", d.Offloads)
			if !d.Offloads.Checksum || !d.Offloads.TSO4 || !d.Offloads.TSO6 {
				t.Errorf("offloads %v, but every supported kernel grants checksum and TSO", d.Offloads)
			}
			if err := h.LinkSetUp(link); err != nil {
				t.Fatal(err)
			}
			disciplines, err := h.QdiscList(link)
			if err != nil {
				t.Fatal(err)
			}
			if len(disciplines) != 1 || disciplines[0].Type() != "noqueue" {
				t.Errorf("queueing disciplines %v, which may let packets overtake others of their flow", disciplines)
			}
			if err := d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if _, err := h.LinkByName("clat0"); err == nil {
				t.Error("the interface outlived its last descriptor")
			}
			if err := d.Close(); err != nil {
				t.Errorf("second close: %v", err)
			}
		})
	}

	d, err := Open("", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := h.LinkByName(d.Name); err != nil {
		t.Errorf("interface %q that the kernel named: %v", d.Name, err)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Run("name taken by a TUN", func(t *testing.T) {
		enterNetns(t)
		d, err := Open("clat0", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		_, err = Open("clat0", 1)
		expectError(t, err, fs.ErrExist, `create TUN interface "clat0": there is an interface of that name already`)
	})
	t.Run("name taken by another kind", func(t *testing.T) {
		h := enterNetns(t)
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "clat0"}, PeerName: "peer0"}); err != nil {
			t.Fatal(err)
		}
		_, err := Open("clat0", 1)
		expectError(t, err, fs.ErrExist, `create TUN interface "clat0": there is an interface of that name already`)
	})
	t.Run("name too long", func(t *testing.T) {
		enterNetns(t)
		_, err := Open("a-name-too-long-for-linux", 1)
		expectError(t, err, unix.EINVAL, `create TUN interface "a-name-too-long-for-linux": a name has at most 15 bytes: invalid argument`)
	})
	t.Run("no queues", func(t *testing.T) {
		if _, err := Open("clat0", 0); err == nil {
			t.Error("opened an interface without queues")
		}
	})
	t.Run("too many queues", func(t *testing.T) {
		h := enterNetns(t)
		_, err := Open("clat0", 257)
		expectError(t, err, unix.E2BIG, `create TUN interface "clat0": the kernel allows no more queues: argument list too long`)
		if _, err := h.LinkByName("clat0"); err == nil {
			t.Error("a failed Open left the interface behind")
		}
	})
	t.Run("no rights", func(t *testing.T) {
		enterNetns(t)
		dropCapabilities(t)
		_, err := Open("clat0", 1)
		expectError(t, err, fs.ErrPermission, `create TUN interface "clat0": operation not permitted`)
	})
	t.Run("no device", func(t *testing.T) {
		enterNetns(t)
		hideDeviceNode(t)
		_, err := Open("clat0", 1)
		expectError(t, err, fs.ErrNotExist, "open /dev/net/tun: no such file or directory")
	})
	t.Run("no driver", func(t *testing.T) {
		enterNetns(t)
		hideDeviceNode(t)
		// A character device whose number belongs to nobody.
		if err := unix.Mknod(clonePath, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 254))); err != nil {
			t.Fatal(err)
		}
		_, err := Open("clat0", 1)
		expectError(t, err, fs.ErrNotExist, "open /dev/net/tun: no such device")
	})
}

func expectError(t *testing.T, err, class error, text string) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatalf("no error, want %q", text)
	case !errors.Is(err, class):
		t.Errorf("%q is no %q", err, class)
	case err.Error() != text:
		t.Errorf("got  %q\nwant %q", err, text)
	}
}

// dropCapabilities takes the capabilities from the calling thread, and only it.
func dropCapabilities(t *testing.T) {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		t.Fatal(err)
	}
}

// hideDeviceNode covers /dev/net with an empty directory, for the calling
// thread only.
func hideDeviceNode(t *testing.T) {
	t.Helper()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
}

// The interface goes with the process, even if that had no chance to clean up.
func TestInterfaceVanishesWithKilledProcess(t *testing.T) {
	h := enterNetns(t)
	child := startChild(t)
	if _, err := h.LinkByName("clat0"); err != nil {
		t.Fatalf("while the child runs: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	if _, err := h.LinkByName("clat0"); err == nil {
		t.Error("the interface outlived the process")
	}
}

// Open starts no goroutine.
func TestNoBackgroundGoroutines(t *testing.T) {
	enterNetns(t)
	before := runtime.NumGoroutine()
	d, err := Open("clat0", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if after := runtime.NumGoroutine(); after > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines before Open, %d after:\n%s", before, after, buf[:runtime.Stack(buf, true)])
	}
}

// An idle process with a TUN is left asleep by the kernel: no thread of it is
// scheduled while no packet comes.
func TestNoWakeUpsAtIdle(t *testing.T) {
	h := enterNetns(t)
	child := startChild(t)
	link, err := h.LinkByName("clat0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	// The Go runtime itself takes a moment to go to sleep. After that, what
	// wakes up once a second shows in every window; noise does not.
	const windows = 4
	for range windows {
		before := contextSwitches(t, child.Process.Pid)
		time.Sleep(1500 * time.Millisecond)
		if contextSwitches(t, child.Process.Pid) == before {
			return
		}
	}
	t.Errorf("the idle process woke up in each of %d windows of 1.5 s", windows)
}

// contextSwitches counts how often any thread of a process was scheduled.
func contextSwitches(t *testing.T, pid int) (sum int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			var n int
			if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &n); err == nil {
				sum += n
			}
		}
	}
	return sum
}
