package host

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath/steer"
	"tnat64d/siit"
	"tnat64d/tun"
)

// realPath has real TUNs, steering and guards, and no engine: nobody answers.
type realPath struct {
	opened []io.Closer // TUNs and steering that are not closed yet
	guards map[int]*steer.Guard
}

// kill closes what a killed process would leave to the kernel to close.
func (p *realPath) kill(t *testing.T) {
	t.Helper()
	for _, c := range slices.Backward(p.opened) {
		must(t, c.Close())
	}
	p.opened = nil
}

func (p *realPath) closed(c io.Closer) {
	p.opened = slices.DeleteFunc(p.opened, func(o io.Closer) bool { return o == c })
}

func (p *realPath) Open(name string, queues int, _ plan.Uplink) (clat.Path, error) {
	d, err := tun.Open(name, queues)
	if err == nil {
		p.opened = append(p.opened, d)
	}
	return &realTUN{Device: d, path: p}, err
}

type realTUN struct {
	*tun.Device
	steering *realSteering
	path     *realPath
}

func (t *realTUN) Index() int { return t.Device.Index }

func (t *realTUN) Steer(uplink int, ours []netip.Prefix, share clat.Share, _ clat.Begun, g clat.Guarded) (clat.Steering, error) {
	s, err := steer.New(steer.Config{Uplink: uplink, TUN: t.Index(), Ours: ours, Guarded: steer.Guarded(g), Share: steer.Share(share)})
	if err != nil {
		return nil, err
	}
	t.path.opened = append(t.path.opened, s)
	t.steering = &realSteering{s, t.path}
	return t.steering, nil
}

func (*realTUN) SetMapping(siit.Config) error { return nil }

func (t *realTUN) Close() error {
	var err error
	if t.steering != nil {
		err = t.steering.Close()
	}
	t.path.closed(t.Device)
	return errors.Join(err, t.Device.Close())
}

func (*realPath) Prepare(plan.Uplink, int) {}

func (*realPath) Unprepare(plan.Uplink) {}

func (p *realPath) Guard(link int, g clat.Guarded) (clat.Guard, error) {
	made, err := steer.NewGuard(steer.GuardConfig{Link: link, Guarded: steer.Guarded(g)})
	if err == nil {
		p.guards[link] = made
	}
	return realGuard{made, link, p}, err
}

type realGuard struct {
	*steer.Guard
	link int
	path *realPath
}

func (r realGuard) SetGuarded(g clat.Guarded) error { return r.Guard.SetGuarded(steer.Guarded(g)) }

func (r realGuard) Close() error {
	delete(r.path.guards, r.link)
	return r.Guard.Close()
}

type realSteering struct {
	*steer.Steering
	path *realPath
}

func (r realSteering) SetGuarded(g clat.Guarded) error {
	return r.Steering.SetGuarded(steer.Guarded(g))
}

func (r realSteering) SetShared(to clat.Share) error {
	return r.Steering.SetShared(steer.Share(to))
}

func (realSteering) SetNext(clat.Next, netip.Prefix, func() []plan.Connection) error {
	return errors.ErrUnsupported
}

func (realSteering) KeepsMain(plan.Connection) bool { return true }

func (r realSteering) Close() error {
	r.path.closed(r.Steering)
	return r.Steering.Close()
}

func (realSteering) Follow(netip.Addr, netip.Prefix, []netip.Prefix, netip.Addr) error { return nil }

// realBench does with a real host what the daemon does.
type realBench struct {
	t    *testing.T
	k    *Host
	rec  *clat.Reconciler
	conf plan.Config
	o    plan.Observed
	log  bytes.Buffer

	path    *realPath
	journal *clat.Journal
}

func newRealBench(t *testing.T) *realBench {
	k := enterNetns(t)
	j, err := clat.OpenJournal(filepath.Join(t.TempDir(), "run", "journal"))
	must(t, err)
	t.Cleanup(func() { j.Close() })
	b := &realBench{t: t, k: k, conf: plan.Config{Secret: []byte("x"), Metric: 2048}, path: &realPath{guards: map[int]*steer.Guard{}}, journal: j}
	b.rec = clat.NewReconciler(k, b.path, j, slog.New(slog.NewTextHandler(&b.log, nil)))
	must(t, k.kernel.handle.LinkSetUp(byName(t, k, "lo")))
	return b
}

// uplink makes a link with an address and a default route.
func (b *realBench) uplink(name, prefix string, metric int) netlink.Link {
	b.t.Helper()
	l, _ := addVeth(b.t, b.k, name, "to-"+name)
	b.network(l, prefix, metric)
	return l
}

func (b *realBench) network(l netlink.Link, prefix string, metric int) {
	b.t.Helper()
	addAddr(b.t, b.k, l, prefix+"10/64", unix.IFA_F_NODAD)
	must(b.t, b.k.kernel.handle.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, LinkIndex: l.Attrs().Index, Gw: net.ParseIP(prefix + "1"), Priority: metric,
	}))
}

// pass returns how far each uplink has come.
func (b *realBench) pass() (ps []clat.Progress) {
	b.t.Helper()
	b.o = observe(b.t, b.k)
	b.o.Memory = b.rec.Memory()
	for _, u := range plan.Make(b.o, b.conf).Uplinks {
		b.o.PREF64 = append(b.o.PREF64, plan.PREF64{Link: u.Uplink.Index, Prefix: netip.MustParsePrefix("64:ff9b::/96"), Source: "test"})
	}
	for _, out := range b.rec.Reconcile(b.o, plan.Make(b.o, b.conf)) {
		if out.Err != nil {
			b.t.Fatal(out.Err)
		}
		ps = append(ps, out.Progress)
	}
	return ps
}

// until passes until the outcome is as wanted.
func (b *realBench) until(want ...clat.Progress) {
	b.t.Helper()
	var last []clat.Progress
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if last = b.pass(); slices.Equal(last, want) {
			return
		}
	}
	b.t.Fatalf("stays at %v, not %v\n%s", last, want, &b.log)
}

// dial connects UDP, which asks the routes and sends nothing.
func dialUDP(t *testing.T, local string) (net.Conn, error) {
	t.Helper()
	var d net.Dialer
	if local != "" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(local)}
	}
	c, err := d.Dial("udp4", "203.0.113.1:53")
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// TestQueueLen has an uplink on which super-packets become longer than 64 KiB, which
// the kernel cuts into many packets for the TUN.
func TestQueueLen(t *testing.T) {
	b := newRealBench(t)
	eth := b.uplink("eth0", "2001:db8:1::", 100)
	b.until(clat.Up)
	want := func(n int) {
		t.Helper()
		b.until(clat.Up)
		if got := byName(t, b.k, "clat0").Attrs().TxQLen; got != n {
			t.Errorf("queues of %d packets, want %d", got, n)
		}
	}
	want(1000)
	if eth.Attrs().TSOMaxSize < 185000 {
		t.Skip("the kernel has no BIG TCP (5.19)")
	}
	must(t, b.k.kernel.handle.LinkSetGROMaxSize(eth, 185000))
	want(8000)
	must(t, b.k.kernel.handle.LinkSetGROMaxSize(eth, 65536))
	want(1000)
	must(t, b.k.kernel.handle.LinkSetGSOMaxSize(eth, 185000))
	want(8000)
}

// A walk: first one network, then both, then the other, and home again.
func TestKernelWalk(t *testing.T) {
	b := newRealBench(t)
	k := b.k
	wlan := b.uplink("wlan0", "2001:db8:1::", 600)
	b.until(clat.Up)
	tun0 := byName(t, k, "clat0").Attrs().Index
	if len(b.o.Rules) != 0 {
		t.Errorf("rules with one CLAT: %v", b.o.Rules)
	}
	flow, err := dialUDP(t, "")
	must(t, err)
	if got := flow.LocalAddr().(*net.UDPAddr).IP; !got.Equal(net.IPv4(192, 0, 0, 1)) {
		t.Errorf("source %s", got)
	}

	// The dock: preferred, and the flow stays where it is.
	eth := b.uplink("eth0", "2001:db8:2::", 100)
	b.until(clat.Up, clat.Up)
	b.pass()
	if len(b.o.Rules) != 2 {
		t.Errorf("rules with two CLATs: %v", b.o.Rules)
	}
	tun1 := byName(t, k, "clat1").Attrs().Index
	for src, want := range map[string]int{"192.0.0.1": tun0, "192.0.0.3": tun1} {
		if via, err := leadsFrom(k, netip.MustParseAddr(src)); err != nil || via != want {
			t.Errorf("%s leaves by %d, %v", src, via, err)
		}
	}
	if rs, err := k.kernel.handle.RouteGet(net.IPv4(203, 0, 113, 1)); err != nil || rs[0].LinkIndex != tun1 {
		t.Errorf("new flows: %v %v", rs, err)
	}

	// Another program removes them.
	must(t, k.DelSourceRules())
	b.pass()
	if b.pass(); len(b.o.Rules) != 2 {
		t.Errorf("rules not restored: %v", b.o.Rules)
	}

	// Out of reach: held, and nothing of its flows goes by the other.
	must(t, k.kernel.handle.LinkSetDown(wlan))
	b.until(clat.Up, clat.Held)
	if via, err := leadsFrom(k, netip.MustParseAddr("192.0.0.1")); err == nil {
		t.Errorf("a flow of the held CLAT leaves by %d", via)
	}
	if _, err := flow.Write([]byte("x")); err == nil {
		t.Error("a program does not hear that nothing can be reached")
	}
	must(t, k.kernel.handle.LinkSetDown(eth))
	b.until(clat.Held, clat.Held)
	if _, err := dialUDP(t, ""); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("no network at all: %v", err)
	}
	if got := byName(t, k, "clat0").Attrs().Index; got != tun0 {
		t.Error("another TUN")
	}

	// Home again.
	must(t, k.kernel.handle.LinkSetUp(wlan))
	b.network(wlan, "2001:db8:1::", 600)
	b.until(clat.Up, clat.Held)
	if _, err := flow.Write([]byte("x")); err != nil {
		t.Errorf("the flow has not survived: %v", err)
	}
	if got := byName(t, k, "clat0").Attrs().Index; got != tun0 {
		t.Error("another TUN")
	}
	// Another network.
	must(t, k.kernel.handle.AddrDel(wlan, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8:1::10"), Mask: net.CIDRMask(64, 128)}}))
	addAddr(t, k, wlan, "2001:db8:3::10/64", unix.IFA_F_NODAD)
	must(t, k.kernel.handle.RouteReplace(&netlink.Route{
		Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, LinkIndex: wlan.Attrs().Index, Gw: net.ParseIP("2001:db8:3::1"), Priority: 600,
	}))
	b.until(clat.Up, clat.Held)
	flow.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := flow.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("the flow has not ended: %v", err)
	}
	if strings.Contains(b.log.String(), "restored") && strings.Count(b.log.String(), "restored") > 2 {
		t.Errorf("somebody is blamed:\n%s", &b.log)
	}

	// As a kill leaves it, but for what dies with the process.
	b.path.kill(t)
	_, _, err = clat.CleanUp(k, b.journal)
	must(t, err)
	o := observe(t, k)
	if len(o.Rules) != 0 || slices.ContainsFunc(o.Routes, func(r plan.Route) bool { return r.Protocol == plan.Protocol }) ||
		slices.ContainsFunc(o.Addrs, func(a plan.Addr) bool { return a.LooksLikeCLAT() }) {
		t.Errorf("left behind: %+v %+v %+v", o.Rules, o.Routes, o.Addrs)
	}
}

// Whatever the routes say, the CLAT's IPv4 does not get out untranslated.
func TestKernelGuards(t *testing.T) {
	b := newRealBench(t)
	k := b.k
	b.uplink("wlan0", "2001:db8:1::", 600)
	b.until(clat.Up)
	other, peer := addVeth(t, k, "eth0", "to-eth0")
	addAddr(t, k, other, "198.51.100.2/24", 0)
	zero := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	native := &netlink.Route{Dst: zero, LinkIndex: other.Attrs().Index, Gw: net.IPv4(198, 51, 100, 1), Priority: 100}
	must(t, k.kernel.handle.RouteAdd(native))
	must(t, k.kernel.handle.NeighSet(&netlink.Neigh{LinkIndex: other.Attrs().Index, IP: net.IPv4(198, 51, 100, 1), HardwareAddr: peer.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT}))
	b.until(clat.Up)
	b.until(clat.Up)
	if b.o.Memory.CLATs[0].IPv4.String() != "192.0.0.1" || len(b.path.guards) != 1 || b.path.guards[other.Attrs().Index] == nil {
		t.Fatalf("guards %v", b.path.guards)
	}
	must(t, k.DelSourceRules()) // whoever did that
	received := func() uint64 { return byName(t, k, "to-eth0").Attrs().Statistics.RxPackets }
	c, err := dialUDP(t, "192.0.0.1")
	must(t, err)
	d, err := dialUDP(t, "198.51.100.2")
	must(t, err)
	before := received()
	for range 1000 {
		c.Write([]byte("x"))
	}
	if n := received() - before; n > 100 {
		t.Errorf("%d of 1000 got out", n)
	}
	for range 1000 {
		d.Write([]byte("x"))
	}
	if n := received() - before; n < 1000 {
		t.Errorf("of the others only %d got out", n)
	}
	if n, err := b.path.guards[other.Attrs().Index].Counters(); n.Dropped[steer.UntranslatedIPv4] != 1000 || err != nil {
		t.Errorf("counted %+v, %v", n, err)
	}
	must(t, b.rec.Down())
}

// A BPF program of another CLAT is seen at an uplink, ours are not. With an
// address and a default route it is a CLAT that works.
func TestKernelSeesAnotherCLAT(t *testing.T) {
	b := newRealBench(t)
	wlan := b.uplink("wlan0", "2001:db8:1::", 600)
	b.until(clat.Up)
	b.until(clat.Up)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nm_CLAT_egress", Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	must(t, err)
	defer p.Close()
	must(t, b.k.kernel.handle.QdiscReplace(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: wlan.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}))
	must(t, b.k.kernel.handle.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: wlan.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Priority: 7, Protocol: unix.ETH_P_ALL},
		Fd:          p.FD(), Name: "nm_CLAT_egress", DirectAction: true,
	}))
	b.until(clat.Up)
	ip(t, "addr add 192.0.0.5/32 dev wlan0; -4 route add default src 192.0.0.5 via inet6 fe80::1 dev wlan0 metric 100")
	b.until(clat.Down)
	if d := plan.Make(b.o, b.conf).Uplinks[0]; !d.Standby || d.Why.Text != "NetworkManager's CLAT is active: wlan0 has the address 192.0.0.5 and the BPF program nm_CLAT_egress" {
		t.Errorf("plan %+v", d)
	}
	if _, err := os.Stat("/proc/sys/net/ipv4/conf/clat0"); err == nil {
		t.Error("the TUN is still there")
	}
}

// Carrier is not the same as up.
func TestKernelObservesCarrier(t *testing.T) {
	k := enterNetns(t)
	addVeth(t, k, "wlan0", "lan0")
	seen := func() plan.Link {
		l, _ := observe(t, k).LinkByName("wlan0")
		return l
	}
	if l := seen(); !l.Up || !l.Carrier {
		t.Errorf("%+v", l)
	}
	must(t, k.kernel.handle.LinkSetDown(byName(t, k, "lan0")))
	if l := seen(); !l.Up || l.Carrier {
		t.Errorf("%+v", l)
	}
}
