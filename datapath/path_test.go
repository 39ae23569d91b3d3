package datapath

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/internal/needs"
	"tnat64d/siit"
)

// inNamespace runs the rest of the test on a thread with a network namespace of
// its own, where "up0" is up.
func inNamespace(t *testing.T) *netlink.Handle {
	t.Helper()
	needs.Netns(t)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "peer0"}); err != nil {
		t.Fatal(err)
	}
	return h
}

var (
	pref64 = netip.MustParsePrefix("64:ff9b::/96")
	clat4  = netip.MustParseAddr("192.0.0.1")
	clat6  = netip.MustParseAddr("2001:db8::1")
	ours   = []netip.Prefix{netip.PrefixFrom(clat6, 128)}
	config = siit.Config{Mapping: siit.Mapping{PREF64: pref64, CLAT: siit.Pair{IPv4: clat4, IPv6: clat6}}, MTU6: 1500, MTU4: 1480}
)

func TestPath(t *testing.T) {
	h := inNamespace(t)
	up, err := h.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	p, err := Open(Options{
		TUN: "clat0", Queues: 2, Token: steer.NewToken(), Netlink: h, Log: slog.New(slog.DiscardHandler),
		ICMPErrorsPerSecond: 100, OnFailed: func(err error) { failed <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	wants := func(engine, why string) {
		t.Helper()
		if s := p.Status(); s.Engine != engine || s.EngineWhy != why || s.Queues != 2 {
			t.Errorf("status is %+v, want engine %q because of %q", s, engine, why)
		}
	}
	wants("user", "")
	s, err := p.Steer(SteeringConfig{Uplink: up.Attrs().Index, Ours: ours})
	if err != nil {
		t.Fatal(err)
	}
	wants("user", "") // nothing says what to translate yet
	if err := p.SetMapping(config); err != nil {
		t.Fatal(err)
	}
	if s.kernel == nil || s.kernel.KernelEngine() != nil {
		t.Skipf("this kernel has no kernel engine: %+v", p.Status())
	}
	wants("kernel", "")

	if err := p.SetTrace(func(engine.Seen) {}); err != nil {
		t.Fatal(err)
	}
	wants("user", "while packets are traced")
	if err := p.SetTrace(nil); err != nil {
		t.Fatal(err)
	}
	wants("kernel", "")
	withEAM := config
	withEAM.Mapping.EAM = []siit.EAM{{IPv4: netip.MustParsePrefix("192.0.2.1/32"), IPv6: netip.MustParsePrefix("2001:db8::2/128")}}
	if err := p.SetMapping(withEAM); err != nil {
		t.Fatal(err)
	}
	wants("kernel", "")
	for i := range steer.MaxEAM {
		withEAM.Mapping.EAM = append(withEAM.Mapping.EAM, siit.EAM{
			IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32),
			IPv6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 1, 14: byte(i >> 8), 15: byte(i)}), 128),
		})
	}
	if err := p.SetMapping(withEAM); err != nil {
		t.Fatal(err)
	}
	wants("user", "more than 16384 explicit address mappings are configured")
	bad := config
	bad.MTU6 = 100
	if err := p.SetMapping(bad); err == nil {
		t.Error("an IPv6 MTU of 100 is accepted")
	}
	if err := p.SetMapping(config); err != nil {
		t.Fatal(err)
	}
	if err := s.Suspend(); err != nil {
		t.Fatal(err)
	}
	if err := p.SetTrace(nil); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.kernel.EngineCounters(); n.To6.TCP.Packets != 0 {
		t.Errorf("a suspended kernel engine has translated: %+v", n)
	}

	// Another program removes the TUN.
	if err := h.LinkDel(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "clat0", Index: p.Index()}}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("the engine ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("nobody hears that the TUN is gone")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p.Stats() // after the end
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// A Path that is opened and closed leaves no interface and no program.
func TestPathLeavesNothing(t *testing.T) {
	h := inNamespace(t)
	for range 3 {
		p, err := Open(Options{TUN: "clat0", Queues: 1, Engine: EngineUser, Netlink: h, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.SetMapping(config); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := h.LinkByName("clat0"); err == nil {
		t.Errorf("%s is left", l.Attrs().Name)
	}
}

// Without the kernel engine nobody asks how far user space is, so that it costs
// nothing to know.
func TestProgressOnlyForKernelEngine(t *testing.T) {
	h := inNamespace(t)
	up, err := h.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Engine{EngineUser, EngineKernel} {
		p, err := Open(Options{TUN: "clat0", Queues: 2, Engine: e, Netlink: h, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Steer(SteeringConfig{Uplink: up.Attrs().Index, Ours: ours}); err != nil {
			t.Fatal(err)
		}
		if has := p.order.progress.Load() != nil; has != (e == EngineKernel) {
			t.Errorf("engine %d: progress is kept: %v", e, has)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Somebody traces packets while routes inside PREF64 change: both tell the kernel
// engine what to do. The race detector watches.
func TestTraceWhileRoutesChange(t *testing.T) {
	h := inNamespace(t)
	up, err := h.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(up); err != nil {
		t.Fatal(err)
	}
	if err := h.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, LinkIndex: up.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	p, err := Open(Options{TUN: "clat0", Queues: 1, Netlink: h, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s, err := p.Steer(SteeringConfig{Uplink: up.Attrs().Index, Ours: ours})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetMapping(config); err != nil {
		t.Fatal(err)
	}
	inside := &netlink.Route{Dst: &net.IPNet{IP: net.ParseIP("64:ff9b::c000:200"), Mask: net.CIDRMask(120, 128)}, Type: unix.RTN_UNREACHABLE}
	traced := make(chan error, 1)
	go func() {
		var err error
		for range 30 {
			err = errors.Join(err, p.SetTrace(func(engine.Seen) {}), p.SetTrace(nil))
		}
		traced <- err
	}()
	for i := range 30 {
		change := h.RouteAdd
		if i%2 == 1 {
			change = h.RouteDel
		}
		if err := change(inside); err != nil {
			t.Fatal(err)
		}
		if err := s.Follow(clat6, pref64, nil, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-traced; err != nil {
		t.Error(err)
	}
}
