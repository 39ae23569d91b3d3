package steer

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// child starts the test binary as another process in the laptop's namespace
// and returns what it says first.
func (l *lab) child(t *testing.T, attach Attach, attr *syscall.SysProcAttr) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe") // readable whoever the child is
	cmd.Env = []string{fmt.Sprintf("%s=%d %d %d", childEnv, attach, l.laptop.index(t, l.uplink), l.tun.index)}
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.laptop.do(t, cmd.Start)
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child says nothing: %v", err)
	}
	return cmd, strings.TrimSpace(line)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

func TestKilled(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			before := l.laptop.sysctls(t)
			cmd, said := l.child(t, attach, nil)
			if said != "steering" {
				t.Fatal(said)
			}
			if len(l.laptop.leftovers(t)) == 0 {
				t.Fatal("the child has attached nothing")
			}
			kill(t, cmd)
			if attach == Clsact {
				// Filters on both interfaces, four, and two qdiscs.
				if left := l.laptop.leftovers(t); len(left) != 6 {
					t.Errorf("after SIGKILL %d are left: %q", len(left), left)
				}
			} else {
				eventually(t, "tcx links are gone", func() bool { return len(l.laptop.leftovers(t)) == 0 })
			}
			for range 2 { // the second time there is nothing to do
				if err := CleanUp(l.laptop.nl); err != nil {
					t.Fatal(err)
				}
				l.nothingLeft(t)
			}
			sameSysctls(t, "after", before, l.laptop.sysctls(t))

			// The successor works, and leaves nothing either.
			s := l.steer(t, attach)
			l.roundTrip(t, 1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			l.nothingLeft(t)
		})
	}
}

// foreignFilter adds a filter of somebody else's to the uplink.
func (l *lab) foreignFilter(t *testing.T, priority uint16) {
	t.Helper()
	f := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.laptop.index(t, l.uplink),
			Parent:    netlink.HANDLE_MIN_EGRESS,
			Priority:  priority,
			Protocol:  unix.ETH_P_ALL,
		},
	}
	if err := l.laptop.nl.FilterAdd(f); err != nil {
		t.Fatal(err)
	}
}

// A qdisc that others use, or that was there before us, is not ours to remove.
func TestForeignQdisc(t *testing.T) {
	clsact := func(l *lab, t *testing.T) *netlink.Clsact {
		return &netlink.Clsact{QdiscAttrs: clsactAttrs(l.laptop.index(t, l.uplink))}
	}
	t.Run("made by others", func(t *testing.T) {
		l := newLab(t)
		if err := l.laptop.nl.QdiscAdd(clsact(l, t)); err != nil {
			t.Fatal(err)
		}
		before := l.laptop.leftovers(t)
		s := l.steer(t, Clsact)
		l.roundTrip(t, 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if after := l.laptop.leftovers(t); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("left is %q, was %q", after, before)
		}
	})
	t.Run("used by others at start", func(t *testing.T) {
		l := newLab(t)
		if err := l.laptop.nl.QdiscAdd(clsact(l, t)); err != nil {
			t.Fatal(err)
		}
		l.foreignFilter(t, filterPriority) // of another kind, at the priority we would take
		before := l.laptop.leftovers(t)
		s := l.steer(t, Clsact)
		l.roundTrip(t, 1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if after := l.laptop.leftovers(t); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("left is %q, was %q", after, before)
		}
	})
	t.Run("used by others since", func(t *testing.T) {
		l := newLab(t)
		s := l.steer(t, Clsact)
		l.foreignFilter(t, filterPriority+1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if left := l.laptop.leftovers(t); len(left) != 2 {
			t.Errorf("left is %q, want the qdisc and the foreign filter", left)
		}
	})
	t.Run("used by others since, killed", func(t *testing.T) {
		l := newLab(t)
		cmd, said := l.child(t, Clsact, nil)
		if said != "steering" {
			t.Fatal(said)
		}
		l.foreignFilter(t, filterPriority+1)
		kill(t, cmd)
		if err := CleanUp(l.laptop.nl); err != nil {
			t.Fatal(err)
		}
		if left := l.laptop.leftovers(t); len(left) != 2 {
			t.Errorf("left is %q, want the qdisc and the foreign filter", left)
		}
	})
	t.Run("two of ours", func(t *testing.T) {
		l := newLab(t)
		first := l.steer(t, Clsact)
		second := l.steer(t, Clsact)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		l.roundTrip(t, 1)
		if err := second.Close(); err != nil {
			t.Fatal(err)
		}
		l.nothingLeft(t)
	})
}

// A New that fails half way leaves nothing.
func TestNewFails(t *testing.T) {
	l := newLab(t)
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.laptop.index(t, l.uplink),
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_INGRESS,
	}}
	uplink, tun := l.laptop.index(t, l.uplink), l.tun.index
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no such uplink", Config{Uplink: 4711, TUN: tun}, "steer: find the uplink, interface 4711: Link not found"},
		{"no such TUN", Config{Uplink: uplink, TUN: 4711}, "steer: find the TUN, interface 4711: Link not found"},
		{"loopback as uplink", Config{Uplink: 1, TUN: tun}, `steer: use the uplink: interface "lo" has a link type that is neither Ethernet nor plain IP: "loopback"`},
		{"Ethernet as TUN", Config{Uplink: uplink, TUN: uplink}, `steer: use the TUN: interface "up0" is none`},
		{"ingress qdisc in the way", Config{Uplink: uplink, TUN: tun, Attach: Clsact},
			`steer: attach uplink_egress to interface "up0": an ingress qdisc takes the place of the clsact qdisc`},
	} {
		if strings.HasPrefix(tt.name, "ingress") {
			if err := l.laptop.nl.QdiscAdd(ingress); err != nil {
				t.Fatal(err)
			}
		}
		before := l.laptop.leftovers(t)
		err := l.laptop.try(func() error { _, err := New(tt.cfg); return err })
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: error is\n%v, want\n%s", tt.name, err, tt.want)
		}
		if errors.Is(err, os.ErrPermission) {
			t.Errorf("%s: says that rights are missing", tt.name)
		}
		if after := l.laptop.leftovers(t); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("%s: left is %q, was %q", tt.name, after, before)
		}
	}
}

// Close after the interfaces have gone, and again.
func TestCloseAfterInterfaces(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			s := l.steer(t, attach)
			l.tun.file.Close()
			if err := l.laptop.nl.LinkDel(l.laptop.link(t, l.uplink)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			l.nothingLeft(t)
		})
	}
}

// The rights that the daemon's unit will give it are enough, and without them
// there is one clear sentence.
func TestRights(t *testing.T) {
	const nobody = 65534
	tests := []struct {
		name string
		caps []uintptr
		want string
	}{
		{"CAP_BPF and CAP_NET_ADMIN", []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN}, "steering"},
		{"no CAP_BPF", []uintptr{unix.CAP_NET_ADMIN}, "permission: steer: load the BPF programs: not permitted, CAP_BPF and CAP_NET_ADMIN are needed"},
		{"no CAP_NET_ADMIN", []uintptr{unix.CAP_BPF}, "permission: steer: load the BPF programs: not permitted, CAP_BPF and CAP_NET_ADMIN are needed"},
		{"none", nil, "permission: steer: load the BPF programs: not permitted, CAP_BPF and CAP_NET_ADMIN are needed"},
	}
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			for _, tt := range tests {
				cmd, said := l.child(t, attach, &syscall.SysProcAttr{
					Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
					AmbientCaps: tt.caps,
				})
				if said != tt.want {
					t.Errorf("%s: %q, want %q", tt.name, said, tt.want)
				}
				if tt.want == "steering" {
					l.roundTrip(t, 1)
				}
				kill(t, cmd)
				if err := CleanUp(l.laptop.nl); err != nil {
					t.Fatal(err)
				}
				eventually(t, "nothing is left", func() bool { return len(l.laptop.leftovers(t)) == 0 })
			}
		})
	}
}
