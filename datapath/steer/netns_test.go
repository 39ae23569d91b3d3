package steer

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
)

// needsRoot skips a test that ordinary users cannot run.
func needsRoot(t testing.TB) {
	t.Helper()
	needs.Root(t, "BPF and network namespaces")
}

// host is a network namespace with a thread of its own, nameless: it goes
// when the test ends, even if that is a crash.
type host struct {
	ns    netns.NsHandle
	nl    *netlink.Handle
	calls chan func()
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ready <- h.enter()
		for f := range h.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		h.nl.Close()
		h.ns.Close()
		close(h.calls)
	})
	h.up(t, "lo")
	return h
}

func (h *host) enter() (err error) {
	if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if h.ns, err = netns.Get(); err != nil {
		return err
	}
	h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return err
}

// do runs f on the namespace's thread.
func (h *host) do(t *testing.T, f func() error) {
	t.Helper()
	if err := h.try(f); err != nil {
		t.Fatal(err)
	}
}

func (h *host) try(f func() error) error {
	done := make(chan error)
	h.calls <- func() { done <- f() }
	return <-done
}

func (h *host) link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := h.nl.LinkByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l
}

func (h *host) index(t *testing.T, name string) int {
	t.Helper()
	return h.link(t, name).Attrs().Index
}

func (h *host) up(t *testing.T, name string) {
	t.Helper()
	if err := h.nl.LinkSetUp(h.link(t, name)); err != nil {
		t.Fatalf("%s up: %v", name, err)
	}
}

// addr adds an ordinary address without waiting for duplicate detection.
func (h *host) addr(t *testing.T, name, prefix string) {
	t.Helper()
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	a.Flags = unix.IFA_F_NODAD
	if err := h.nl.AddrAdd(h.link(t, name), a); err != nil {
		t.Fatalf("%s: address %s: %v", name, prefix, err)
	}
}

// clatAddr adds an address as the daemon does: deprecated, no prefix route.
func (h *host) clatAddr(t *testing.T, name string, addr netip.Addr, flags int) {
	t.Helper()
	err := h.nl.AddrAdd(h.link(t, name), &netlink.Addr{
		IPNet:    &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(128, 128)},
		Flags:    unix.IFA_F_NOPREFIXROUTE | flags,
		ValidLft: 1<<32 - 1, // and PreferedLft 0
	})
	if err != nil {
		t.Fatalf("%s: address %s: %v", name, addr, err)
	}
}

func (h *host) route(t *testing.T, r netlink.Route) {
	t.Helper()
	if err := h.nl.RouteAdd(&r); err != nil {
		t.Fatalf("route %v: %v", r, err)
	}
}

// rule adds a rule, which counts before those with a higher priority number.
func (h *host) rule(t *testing.T, r *netlink.Rule) {
	t.Helper()
	if err := h.nl.RuleAdd(r); err != nil {
		t.Fatalf("rule %v: %v", r, err)
	}
}

// sysctls reads everything under /proc/sys/net of the namespace.
func (h *host) sysctls(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	h.do(t, func() error {
		return filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			value, err := os.ReadFile(path)
			if err != nil {
				value = fmt.Append(nil, err) // write-only, or stable_secret that is not set
			}
			all[path] = string(value)
			return nil
		})
	})
	if len(all) < 100 {
		t.Fatalf("only %d sysctls under /proc/sys/net", len(all))
	}
	return all
}

func sameSysctls(t *testing.T, when string, before, now map[string]string) {
	t.Helper()
	if maps.Equal(before, now) {
		return
	}
	for path, value := range now {
		if before[path] != value {
			t.Errorf("%s: %s is %q, was %q", when, path, value, before[path])
		}
	}
}

// connect joins two hosts by a veth pair.
func connect(t *testing.T, a *host, nameA string, b *host, nameB string) {
	t.Helper()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: nameA},
		PeerName:      nameB,
		PeerNamespace: netlink.NsFd(b.ns),
	}
	if err := a.nl.LinkAdd(veth); err != nil {
		t.Fatalf("veth: %v", err)
	}
	a.up(t, nameA)
	b.up(t, nameB)
}

// eventually repeats a check that needs the kernel to get round to something.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if check() {
			return
		}
	}
	t.Fatalf("did not happen: %s", what)
}
