package shim

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	osexec "os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The tests of system calls run this executable as a program of the shim, in a
// network namespace with nothing but a loopback interface: the PREF64 stands for
// an address of it, at which port 7 sends back what it gets.

const (
	worldVar = "SHIM_TEST_WORLD" // kernelLacks, as words
	actVar   = "SHIM_TEST_ACT"
)

var (
	testPREF64 = netip.MustParsePrefix("64:ff9b::/96")
	testServer = netip.MustParseAddr("192.0.2.7")
	echoPort   = netip.AddrPortFrom(testServer, 7)
)

// acts are what the program does, by name.
var acts = map[string]func() error{}

func act(name string, f func() error) struct{} {
	acts[name] = f
	return struct{}{}
}

func TestMain(m *testing.M) {
	Stage()
	if f, ok := acts[os.Getenv(actVar)]; ok {
		err := f()
		if err != nil {
			fmt.Println("act:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if world, ok := os.LookupEnv(worldVar); ok {
		status, err := runWorld(world)
		if err != nil {
			fmt.Println("world:", err)
			status = 1
		}
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// underShim runs an act with everything that the kernel offers, and with less.
func underShim(t *testing.T, name string) {
	t.Helper()
	for _, world := range []string{"all", "namespaces", "addfd-send", "namespaces,addfd-send"} {
		mode := "without " + world
		if world == "all" {
			mode = "with everything"
		}
		t.Run(mode, func(t *testing.T) {
			out, err := inWorld(t, world, name)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// inWorld runs an act and returns what is printed.
func inWorld(t *testing.T, world, name string) (string, error) {
	t.Helper()
	if acts[name] == nil {
		t.Fatalf("no act %q", name)
	}
	cmd := osexec.Command("/proc/self/exe")
	// A program that has the race detector waits for a second when it exits. An
	// act takes three such programs, one after the other.
	race := strings.TrimSpace(os.Getenv("GORACE") + " atexit_sleep_ms=0")
	cmd.Env = append(os.Environ(), worldVar+"="+world, "SHIM_TEST_WANTS="+name, "GORACE="+race)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("needs a user namespace: %v", err)
	}
	return string(out), err
}

// runWorld sets up the network namespace, with the server, and runs the program.
func runWorld(world string) (int, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return 0, err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return 0, err
	}
	table, err := Policy{Routes: []Route{{Everything, testPREF64}}}.prepare()
	if err != nil {
		return 0, err
	}
	six, _ := table.embed(testServer)
	a, err := netlink.ParseAddr(six.String() + "/128")
	if err != nil {
		return 0, err
	}
	// The only route is that of the local address, which the kernel adds a little
	// later. By a route of the prefix, packets would leave and not arrive.
	a.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	if err := netlink.AddrAdd(lo, a); err != nil {
		return 0, err
	}
	for !routeTo(six) {
		time.Sleep(time.Millisecond)
	}
	if err := serveEcho(netip.AddrPortFrom(six, 7)); err != nil {
		return 0, err
	}
	c := Command(Policy{Routes: []Route{{Everything, testPREF64}}}, "/proc/self/exe")
	c.Env = append(os.Environ(), actVar+"="+os.Getenv("SHIM_TEST_WANTS"))
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.Say = func(s string) { fmt.Println("said:", s) }
	c.Method = MethodSockets
	c.lacks = kernelLacks{Namespaces: strings.Contains(world, "namespaces"), AddFDSend: strings.Contains(world, "addfd-send")}
	return c.Run()
}

// serveEcho sends back what arrives, over TCP and UDP.
func serveEcho(at netip.AddrPort) error {
	l, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(l, sockaddr(at))
	}
	if err == nil {
		err = unix.Listen(l, 100)
	}
	u, uerr := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = uerr
	}
	if err == nil {
		err = unix.Bind(u, sockaddr(at))
	}
	if err != nil {
		return err
	}
	go func() {
		for {
			c, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
			if err != nil {
				continue
			}
			go func() {
				defer unix.Close(c)
				b := make([]byte, 4096)
				for {
					n, err := unix.Read(c, b)
					if err != nil || n == 0 {
						return
					}
					unix.Write(c, b[:n])
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 70000)
		for {
			if n, from, err := unix.Recvfrom(u, b, 0); err == nil {
				unix.Sendto(u, b[:n], 0, from)
			}
		}
	}()
	return nil
}

// first returns the first error, with what failed.
func first(steps ...error) error { return errors.Join(steps...) }

// failed is an error about a step unless err is nil.
func failed(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", step, err)
}

// tcp opens a TCP socket.
func tcp() int { return open(unix.SOCK_STREAM) }

// udp opens a UDP socket that does not wait for ever.
func udp() int {
	fd := open(unix.SOCK_DGRAM)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	return fd
}

func open(typ int) int {
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	return fd
}

// dial connects a socket to the server.
func dial(fd int) error { return connectTo(fd, echoPort) }

// echo sends a byte and takes it back.
func echo(fd int) error {
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		return err
	}
	var b [10]byte
	n, err := unix.Read(fd, b[:])
	if err == nil && string(b[:n]) != "x" {
		err = fmt.Errorf("%q came back", b[:n])
	}
	return err
}

// expect is an error unless got is what is wanted.
func expect[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: %v, want %v", what, got, want)
	}
	return nil
}

func peer(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func domain(fd int) int {
	v, err := getInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return -1
	}
	return v
}

// messages prepares n messages to the server, or to receive with names.
func messages(n int, to netip.AddrPort) ([]mmsghdr, [][]byte, []unix.RawSockaddrInet6) {
	all, data, names := make([]mmsghdr, n), make([][]byte, n), make([]unix.RawSockaddrInet6, n)
	for i := range all {
		data[i] = []byte(fmt.Sprintf("message %d", i))
		if !to.IsValid() {
			data[i] = make([]byte, 100)
		}
		h := &all[i].hdr
		iov := &unix.Iovec{Base: &data[i][0]}
		iov.SetLen(len(data[i]))
		h.Iov, h.Name, h.Namelen = iov, (*byte)(unsafe.Pointer(&names[i])), unix.SizeofSockaddrInet6
		h.SetIovlen(1)
		if to.IsValid() {
			h.Namelen = rawName(&names[i], to)
		}
	}
	return all, data, names
}
