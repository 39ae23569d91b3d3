package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namedNamespaces is where iproute2 keeps named network namespaces.
const namedNamespaces = "/run/netns"

// Host is one machine of the lab: a named network namespace.
type Host struct {
	interfaces
	routing
	Namespace string // as `ip netns exec` wants it: "tn64-4711-2ph4-1-laptop"

	ns    netns.NsHandle
	spawn chan func()   // run on the host's own thread, see newHost
	quit  chan struct{} // closed when that thread is to end
	procs processes

	resolvConf bool // its processes have an /etc/resolv.conf of their own
}

// newHost creates the namespace and a thread that lives in it until close.
//
// Processes are started from that thread, not from any that happens to have
// entered the namespace: the kernel delivers Pdeathsig when the starting
// thread ends, and this is one whose end we know.
func newHost(id, name string) (*Host, error) {
	h := &Host{interfaces: interfaces{Name: name}, Namespace: id + "-" + name, ns: netns.None(), spawn: make(chan func()), quit: make(chan struct{})}
	h.routing.links = &h.interfaces
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		if err := prepareNamespaces(namedNamespaces); err != nil {
			ready <- err
			return
		}
		ns, err := netns.NewNamed(h.Namespace)
		h.ns = ns
		ready <- err
		if err != nil {
			return
		}
		for {
			select {
			case f := <-h.spawn:
				f()
			case <-h.quit:
				return
			}
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("create network namespace %q: %w", h.Namespace, err)
	}
	nl, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink in %q: %w", h.Namespace, err), h.close())
	}
	h.Netlink = nl
	lo, err := nl.LinkByName("lo")
	if err == nil {
		err = nl.LinkSetUp(lo)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up lo in %q: %w", h.Namespace, err), h.close())
	}
	return h, nil
}

// Do runs f on the calling goroutine with its thread inside the host: sockets
// that f opens and files under /proc/sys/net that it reads are the host's.
// Goroutines that f starts are not inside.
func (h *Host) Do(f func() error) error {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer func() {
		// A thread that cannot go back stays locked, so that it ends with
		// its goroutine and no other runs in the wrong namespace.
		if netns.Set(here) == nil {
			runtime.UnlockOSThread()
		}
		here.Close()
	}()
	if err := netns.Set(h.ns); err != nil {
		return fmt.Errorf("enter network namespace %q: %w", h.Namespace, err)
	}
	return f()
}

// onThread runs f on the host's own thread.
func (h *Host) onThread(f func() error) error {
	done := make(chan error)
	select {
	case h.spawn <- func() { done <- f() }:
		return <-done
	case <-h.quit:
		return fmt.Errorf("%s: the lab is closed: %w", h.Name, os.ErrClosed)
	}
}

// ThreadID returns the ID of the host's own thread. Another process enters the
// host's namespaces by it while the lab is open, as nsenter(1) does with
// --target.
func (h *Host) ThreadID() (id int, err error) {
	err = h.onThread(func() error {
		id = unix.Gettid()
		return nil
	})
	return id, err
}

// Sysctl writes value to the host's sysctl of that name, for example
// "net.ipv4.ip_forward".
func (h *Host) Sysctl(name, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	return h.Do(func() error { return os.WriteFile(path, []byte(value), 0) })
}

// close ends the host's processes and removes the namespace's name. The
// namespace itself goes when the last socket and process in it do.
func (h *Host) close() error {
	h.procs.killAll()
	close(h.quit)
	if h.Netlink != nil {
		h.Netlink.Close()
	}
	if h.ns.IsOpen() {
		h.ns.Close()
	}
	return removeNamespace(h.Namespace)
}

// removeNamespace removes a named network namespace; one that is not there, or
// that somebody else removes at the same time, is no error.
func removeNamespace(name string) error {
	err := netns.DeleteNamed(name)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// A file that nothing is mounted on cannot be unmounted, only removed.
	if rmErr := os.Remove(filepath.Join(namedNamespaces, name)); rmErr == nil || errors.Is(rmErr, os.ErrNotExist) {
		return nil
	}
	return err
}

// infrastructure turns a fresh namespace into a machine of ours, as opposed to
// the laptop, which keeps the kernel's ways: addresses are usable at once, the
// only link-local address is the one we give, and traceroute is answered as
// often as it asks.
func (h *Host) infrastructure() error {
	for name, value := range map[string]string{
		"net.ipv6.conf.all.accept_dad":               "0",
		"net.ipv6.conf.default.accept_dad":           "0",
		"net.ipv6.conf.default.accept_ra":            "0",
		"net.ipv6.conf.default.addr_gen_mode":        "1",
		"net.ipv6.conf.default.router_solicitations": "0",
		"net.ipv6.icmp.ratelimit":                    "0",
		"net.ipv4.icmp_ratelimit":                    "0",
	} {
		if err := h.Sysctl(name, value); err != nil {
			return fmt.Errorf("in %s: %w", h.Name, err)
		}
	}
	return nil
}

// Listening reports with an error that nobody listens on a TCP port of the
// host. It looks and does not connect: some servers serve one client only.
func (h *Host) Listening(port int) error {
	return h.Do(func() error {
		for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
			data, err := os.ReadFile(table)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(data)) {
				// "sl local_address rem_address st": the port in hexadecimal, 0A is LISTEN
				f := strings.Fields(line)
				if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
					return nil
				}
			}
		}
		return fmt.Errorf("nobody listens on port %d of %s", port, h.Name)
	})
}
