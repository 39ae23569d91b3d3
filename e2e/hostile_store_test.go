package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
	"tnat64d/tun"
)

// TestHostileStore kills tnat64d and puts descriptors of others into its store, with
// its names. It uses none of them, says so, leaves them alone and comes up.
func TestHostileStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		alone bool // nothing else is in the store
		plant func(t *testing.T, w *world, s *fakeSystemd) (after func(t *testing.T))
		says  string // in the log
	}{
		{"no TUN, link or map", true, plantNothing, "cannot use"},
		{"no TUN, link or map, beside its own", false, plantNothing, "cannot use"},
		{"too many", false, func(t *testing.T, _ *world, s *fakeSystemd) func(*testing.T) {
			for i := range 400 {
				s.Put(fmt.Sprintf("tun-%d-%d", 900+i/4, i%4), pipeEnd(t))
			}
			return nil
		}, "cannot use"},
		{"no names", false, func(t *testing.T, _ *world, s *fakeSystemd) func(*testing.T) {
			for range 3 {
				s.Put("", pipeEnd(t))
			}
			return nil
		}, "cannot use"},
		{"another order", false, func(_ *testing.T, _ *world, s *fakeSystemd) func(*testing.T) { s.Reverse(); return nil }, "took over"},
		{"TUN of another name", true, plantTUN("vpn0", false), "cannot use"},
		{"TUN of another name, beside its own", false, plantTUN("vpn0", false), "cannot use"},
		{"TUN of another network namespace", true, plantTUN("clat0", true), "cannot use"},
		{"TUN of another network namespace, beside its own", false, plantTUN("clat0", true), "cannot use"},
		{"link of another network namespace", false, plantLink, "cannot use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, config string) {
				t.Parallel()
				s := startSystemd(t)
				w := newWorldOn(t, stage{config: config, how: s.how})
				w.needTCX(t)
				w.moved = true
				w.daemon.Kill()
				if c.alone {
					s.Forget("")
				}
				after := c.plant(t, w, s)
				w.start(built(t, "tnat64d"), true)
				w.firstAnswer(t, "", soon)
				w.page(t)
				wants(t, w.log.String(), c.says)
				if after != nil {
					after(t)
				}
				s.job.Store("stop")
			})
		})
	}
}

// pipeEnd returns one end of a pipe.
func pipeEnd(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return r
}

// plantNothing puts files into the store that are nothing that is kept there.
func plantNothing(t *testing.T, w *world, s *fakeSystemd) func(*testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	node, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.MemfdCreate("tnat64d-token", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Shutdown(closed, unix.SHUT_RDWR)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "last_sent", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	copied, err := unix.Dup(m.FD())
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*os.File{
		"tun-901-0": null, "tun-901-1": node, "tun-901-2": os.NewFile(uintptr(closed), "closed"),
		"token": os.NewFile(uintptr(memory), "token"), "link-901": pipeEnd(t),
		fmt.Sprintf("map-%d-last_sent", w.index(t, lab.Uplink)): os.NewFile(uintptr(copied), "map"),
	} {
		s.Put(name, f)
	}
	return nil
}

// plantTUN puts the queues of another program's TUN into the store, which looks like
// one of tnat64d's.
func plantTUN(name string, elsewhere bool) func(*testing.T, *world, *fakeSystemd) func(*testing.T) {
	return func(t *testing.T, w *world, s *fakeSystemd) func(*testing.T) {
		where := w.Laptop
		if elsewhere {
			where = w.Server
		}
		var d *tun.Device
		if err := where.Do(func() (err error) {
			d, err = tun.Open(name, 2)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		for i, q := range d.Queues {
			if err := q.Descriptor(func(fd int) error {
				fd, err := unix.Dup(fd)
				if err == nil {
					s.Put(fmt.Sprintf("tun-%d-%d", d.Index, i), os.NewFile(uintptr(fd), "queue"))
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		return func(t *testing.T) {
			l, err := where.Netlink.LinkByName(name)
			if err != nil || l.Attrs().Index != d.Index || l.Attrs().Alias != "" {
				t.Errorf("the other program's TUN: %v, %+v", err, l)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// plantLink replaces a link in the store by that of another program, at the
// interface with the same index in another network namespace.
func plantLink(t *testing.T, w *world, s *fakeSystemd) func(*testing.T) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "others", Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, License: "GPL"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	var l link.Link
	index := w.index(t, lab.Uplink)
	if err := w.Server.Do(func() error {
		at := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "same0", Index: index}}
		if _, err := netlink.LinkByIndex(index); err != nil {
			if err := netlink.LinkAdd(at); err != nil {
				return err
			}
		}
		l, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: ebpf.AttachTCXIngress})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	fd, err := unix.Dup(l.(interface{ FD() int }).FD())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Names() {
		if strings.HasPrefix(n, "link-") {
			s.Forget(n)
			break
		}
	}
	s.Put("link-1", os.NewFile(uintptr(fd), "link"))
	s.Reverse() // it comes first
	return func(t *testing.T) {
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		want, _ := p.Info()
		id, _ := want.ID()
		if at := info.TCX(); info.Program != id || at == nil || int(at.Ifindex) != index {
			t.Errorf("the other program's link is %+v at %+v", info, at)
		}
	}
}
