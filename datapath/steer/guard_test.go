package steer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guardedLink is a laptop with a link that is no uplink of a CLAT, and who
// listens at its other end.
type guardedLink struct {
	laptop *host
	index  int
	peer   net.PacketConn
}

func newGuardedLink(t *testing.T) *guardedLink {
	t.Helper()
	needsRoot(t)
	l := &guardedLink{laptop: newHost(t)}
	other := newHost(t)
	connect(t, l.laptop, "eth0", other, "peer0")
	l.index = l.laptop.index(t, "eth0")
	for _, a := range []string{"198.51.100.2/24", "192.0.0.1/32", "192.0.0.7/32", "192.0.0.8/32", "10.9.9.9/32"} {
		l.laptop.addr(t, "eth0", a)
	}
	other.addr(t, "peer0", "198.51.100.1/24")
	for _, back := range []string{"192.0.0.0/24", "10.9.9.9/32"} {
		_, dst, _ := net.ParseCIDR(back)
		other.route(t, netlink.Route{Dst: dst, LinkIndex: other.index(t, "peer0")})
	}
	other.do(t, func() (err error) {
		l.peer, err = net.ListenPacket("udp4", "198.51.100.1:9")
		return err
	})
	t.Cleanup(func() { l.peer.Close() })
	return l
}

// native is the link's own address, which no guard knows.
const native = "198.51.100.2"

// send sends a datagram to the peer.
func (l *guardedLink) send(t *testing.T, src, payload string) {
	t.Helper()
	l.laptop.do(t, func() error {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(src)}}
		c, err := d.Dial("udp4", "198.51.100.1:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(payload))
		return err
	})
}

// passes reports whether a datagram from src gets out: before one that does,
// and was sent later.
func (l *guardedLink) passes(t *testing.T, src string) (passed bool) {
	t.Helper()
	l.send(t, src, src)
	l.send(t, native, "later")
	l.peer.SetReadDeadline(time.Now().Add(patience))
	for b := make([]byte, 100); ; {
		n, _, err := l.peer.ReadFrom(b)
		if err != nil {
			t.Fatalf("nothing gets out: %v", err)
		}
		if string(b[:n]) == "later" {
			return passed
		}
		passed = passed || string(b[:n]) == src
	}
}

func (l *guardedLink) guard(t *testing.T, attach Attach) *Guard {
	t.Helper()
	var g *Guard
	l.laptop.do(t, func() (err error) {
		g, err = NewGuard(GuardConfig{Link: l.index, Attach: attach, Token: testToken, Guarded: guarded("192.0.0.1", "10.9.9.9")})
		return err
	})
	t.Cleanup(func() { g.Close() })
	return g
}

func guarded(addrs ...string) (g Guarded) {
	for _, a := range addrs {
		if a := netip.MustParseAddr(a); a.Is4() {
			g.IPv4 = append(g.IPv4, a)
		} else {
			g.IPv6 = append(g.IPv6, netip.PrefixFrom(a, 128))
		}
	}
	return g
}

// Nothing but what is guarded is dropped, also of 192.0.0.0/29, and the guarded
// addresses may change at any time.
func TestGuard(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l := newGuardedLink(t)
			all := []string{"192.0.0.1", "192.0.0.7", "192.0.0.8", "10.9.9.9", "198.51.100.2"}
			for _, src := range all {
				if !l.passes(t, src) {
					t.Fatalf("this test proves nothing: %s does not pass", src)
				}
			}
			g := l.guard(t, attach)
			var want uint64
			for _, set := range [][]string{{"192.0.0.1", "10.9.9.9"}, {"192.0.0.7"}, {}, {"192.0.0.1"}} {
				if err := g.SetGuarded(guarded(set...)); err != nil {
					t.Fatal(err)
				}
				for _, src := range all {
					if got, drops := l.passes(t, src), slices.Contains(set, src); got == drops {
						t.Errorf("%v guarded, %s passes: %v", set, src, got)
					} else if drops {
						want++
					}
				}
			}
			if c, err := g.Counters(); c.Dropped != dropped(UntranslatedIPv4, want) || err != nil {
				t.Errorf("counted %+v, %v; want %d", c, err, want)
			}
			for range 2 {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
			}
			for _, f := range l.laptop.leftovers(t) {
				t.Errorf("left behind: %s", f)
			}
			if !l.passes(t, "192.0.0.1") {
				t.Error("still dropped")
			}
		})
	}
}

// The filter of a killed process is found, and an interface that goes is no
// error.
func TestGuardLeftBehind(t *testing.T) {
	l := newGuardedLink(t)
	l.guard(t, Clsact)
	if len(l.laptop.leftovers(t)) != 3 { // two filters and the qdisc
		t.Errorf("attached: %q", l.laptop.leftovers(t))
	}
	if err := CleanUp(l.laptop.nl); err != nil {
		t.Fatal(err)
	}
	for _, f := range l.laptop.leftovers(t) {
		t.Errorf("left behind: %s", f)
	}
	for _, attach := range attachments() {
		l := newGuardedLink(t)
		g := l.guard(t, attach)
		if err := l.laptop.nl.LinkDel(l.laptop.link(t, "eth0")); err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestGuardOfNoInterface(t *testing.T) {
	needsRoot(t)
	_, err := NewGuard(GuardConfig{Link: 99999999})
	var e *Error
	if !errors.As(err, &e) || e.Refused() {
		t.Errorf("error %v", err)
	}
}

// Nothing is translated or sent while a steering is suspended, and it comes
// back.
func TestSuspend(t *testing.T) {
	l := newLab(t)
	s := l.steer(t, Auto)
	l.roundTrip(t, 1)
	if err := s.Suspend(); err != nil {
		t.Fatal(err)
	}
	if len(s.ours.has) != 0 {
		t.Errorf("still ours: %v", s.ours.has)
	}
	if err := s.Suspend(); err != nil {
		t.Error(err)
	}
	if err := s.SetOurs([]netip.Prefix{netip.PrefixFrom(clat6, 128)}); err != nil {
		t.Fatal(err)
	}
	l.roundTrip(t, 2)
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		err  Error
		want bool
	}{
		{Error{"load the BPF programs", installing{unix.EPERM}}, true},
		{Error{"load the BPF programs", installing{unix.ENOSYS}}, true},
		{Error{"load the BPF programs", installing{fmt.Errorf("map: %w", unix.ENOMEM)}}, false},
		{Error{`attach uplink_egress to interface "eth0"`, installing{unix.EINVAL}}, true},
		{Error{`attach uplink_egress to interface "eth0"`, installing{unix.ENODEV}}, false},
		{Error{"find the uplink, interface 7", unix.EPERM}, false},
		{Error{"list the routes", unix.EPERM}, false},
	} {
		if got := tt.err.Refused(); got != tt.want {
			t.Errorf("%v: %v", &tt.err, got)
		}
	}
}

// The programs of others are told from ours, at both kinds of hook.
func TestForeignPrograms(t *testing.T) {
	l := newGuardedLink(t)
	names := func() []string {
		t.Helper()
		var all []string
		l.laptop.do(t, func() (err error) {
			all, _, err = NewPrograms().Foreign(l.laptop.nl, l.index)
			return err
		})
		slices.Sort(all)
		return all
	}
	for _, attach := range attachments() {
		l.guard(t, attach)
	}
	if got := names(); len(got) != 0 {
		t.Errorf("ours are foreign: %q", got)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nm_clat_egress", Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	want := []string{"clatd.o:[egress]"}
	if haveTCX() {
		want = append(want, "nm_clat_egress")
		l.laptop.do(t, func() error {
			link, err := attachTCX(hook{l.laptop.link(t, "eth0"), egress, p, "nm_clat_egress"})
			if err == nil {
				t.Cleanup(func() { link.Close() })
			}
			return err
		})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.laptop.nl.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.index, Parent: netlink.HANDLE_MIN_EGRESS, Priority: 7, Protocol: unix.ETH_P_ALL},
		Fd:          p.FD(), Name: "clatd.o:[egress]", DirectAction: true,
	}))
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("foreign programs %q, want %q", got, want)
	}
}
