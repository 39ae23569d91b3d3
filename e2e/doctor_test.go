package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"tnat64d/internal/lab"
)

var updateGolden = flag.Bool("update", false, "write what tnat64ctl doctor says into its golden files")

// practice is a network and the doctor's visits there, one after the other.
type practice struct {
	network lab.Options
	visits  []visit
}

// visit is one run of tnat64ctl doctor on the laptop.
type visit struct {
	name   string   // of the golden file
	args   []string // besides those of every visit
	status int
	nobody bool // run by an ordinary user
	daemon bool // tnat64d is started before, and stays for the visits that follow
	// prepare, if set, changes the network or the laptop beforehand.
	prepare func(l *lab.Lab) error
	// during, if set, is called while the doctor is at work.
	during func(l *lab.Lab, doctor *os.Process) error
}

var (
	anotherPREF64 = netip.MustParsePrefix("3fff:64:1::/96")
	dns64         = &lab.DNS{}
	noDNS64       = &lab.DNS{NoDNS64: true}
	target        = []string{"-target", fmt.Sprintf("%s:%d", lab.ServerIPv4, lab.PortHTTP)}
	deep          = append([]string{"-deep"}, target...)
)

// Those that take longest come first.
var practices = []practice{
	{lab.Options{DNS: dns64}, []visit{
		{name: "no-ipv6", prepare: vanish, args: target, status: 1},
		{name: "ipv6-off", prepare: ipv6Off, args: target, status: 1},
	}},
	{lab.Options{DNS: dns64}, []visit{
		{name: "healthy", args: deep},
		{name: "interrupted", args: deep, status: 1, during: interrupt},
		{name: "healthy-ordinary-user", args: target, nobody: true},
		{name: "healthy-running", args: deep, daemon: true},
		{name: "healthy-running-ordinary-user", args: target, nobody: true},
		{name: "vpn-resolver", args: target, prepare: vpn},
	}},
	{lab.Options{MorePREF64: []netip.Prefix{anotherPREF64}, DeadPREF64: []netip.Prefix{lab.WellKnownPrefix}, DNS: dns64}, []visit{
		{name: "two-prefixes-one-dead", args: target, status: 1},
		{name: "plat-dead", args: deep, status: 1, prepare: func(l *lab.Lab) error { return l.PLATDead(true, anotherPREF64) }},
	}},
	{lab.Options{BlackHole: 1400, DNS: dns64}, []visit{
		{name: "black-hole", args: target, status: 1},
		{name: "black-hole-beyond", args: target, status: 1, prepare: func(l *lab.Lab) error { return l.SetBlackHole(0, 1400) }},
	}},
	{lab.Options{NDFilter: 1, DNS: dns64}, []visit{
		{name: "nd-filter", args: deep, status: 1},
		{name: "router-dead", args: target, status: 1, prepare: func(l *lab.Lab) error { return l.Vanish(true) }},
	}},
	{lab.Options{NoPREF64: true, DNS: noDNS64}, []visit{
		{name: "no-pref64", args: target, status: 1},
		{name: "no-pref64-ordinary-user", args: target, status: 1, nobody: true},
		{name: "captive-portal", args: target, status: 1, prepare: dns(lab.DNS{Captive: true})},
		{name: "dns64-only", args: target, prepare: dns(lab.DNS{})},
		{name: "dns-broken", args: target, status: 1, prepare: dns(lab.DNS{ServFail: true})},
	}},
	{lab.Options{MTUISP: 1400, DNS: dns64}, []visit{
		{name: "small-mtu", args: target},
		{name: "small-mtu-ping-group", args: target, nobody: true, prepare: pingGroup},
		{name: "disagreement", args: target, status: 1, prepare: dns(lab.DNS{Prefixes: []netip.Prefix{anotherPREF64}})},
		{name: "dns-silent", args: target, status: 1, prepare: dns(lab.DNS{Silent: true})},
	}},
	{lab.Options{DHCPv6: true, DNS: dns64}, []visit{{name: "dhcpv6-only", args: target}}},
	{lab.Options{PREF64: anotherPREF64, DNS: noDNS64}, []visit{
		{name: "healthy-no-target"},
		{name: "other-clat", prepare: anotherCLAT},
		{name: "native-ipv4", args: target, prepare: func(l *lab.Lab) error { return l.SetNativeIPv4(true) }},
		{name: "ra-ignored", args: target, status: 1, prepare: func(l *lab.Lab) error {
			return errors.Join(l.SetNativeIPv4(false), l.Laptop.Sysctl("net.ipv6.conf."+lab.Uplink+".accept_ra", "0"), l.Forget(lab.Uplink))
		}},
	}},
}

// TestDoctor examines healthy and broken networks, all with real packets, and
// compares all that the doctor says with a golden file for each.
func TestDoctor(t *testing.T) {
	needRoot(t)
	ctl, tnat64d := built(t, "tnat64ctl"), built(t, "tnat64d")
	if err := os.Chmod(binaries.dir, 0o755); err != nil { // for the ordinary user
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	outcomes := make([]chan outcome, len(practices))
	for i, p := range practices {
		outcomes[i] = make(chan outcome, len(p.visits)+1)
		all.Go(func() {
			defer close(outcomes[i])
			if err := p.visit(t.Context(), ctl, tnat64d, outcomes[i]); err != nil {
				outcomes[i] <- outcome{err: err}
			}
		})
	}
	for i, p := range practices {
		for _, v := range p.visits {
			t.Run(v.name, func(t *testing.T) {
				o, ok := <-outcomes[i]
				if !ok {
					t.Fatal("an earlier visit has failed")
				}
				o.check(t, v)
			})
		}
		for o := range outcomes[i] {
			t.Error(o.err)
		}
	}
}

// outcome is what a visit brought.
type outcome struct {
	said   string
	status int
	err    error
}

func (o outcome) check(t *testing.T, v visit) {
	if o.err != nil {
		t.Fatalf("%v\n%s", o.err, o.said)
	}
	golden(t, filepath.Join("testdata", "doctor", v.name+".txt"), o.said)
	if o.status != v.status {
		t.Errorf("exit status %d, want %d", o.status, v.status)
	}
}

// visit builds the network and makes the visits.
func (p practice) visit(ctx context.Context, ctl, tnat64d string, outcomes chan<- outcome) (err error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout+time.Duration(len(p.visits))*stepTimeout)
	defer cancel()
	l, err := lab.New(ctx, p.network)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := l.SetResolvConf(l.Laptop, resolvConf(l.Advert().RDNSS...)); err != nil {
		return err
	}
	socket := filepath.Join(l.Dir, "none.sock")
	for _, v := range p.visits {
		if v.daemon {
			d, err := l.StartDaemon(ctx, tnat64d, "", nil)
			if err != nil {
				return err
			}
			defer d.Stop()
			if _, err := l.WaitCLAT(ctx); err != nil {
				return err
			}
			socket = d.Socket
		}
		if v.prepare != nil {
			if err := v.prepare(l); err != nil {
				return err
			}
		}
		// Whether an ordinary user hears a router would be chance.
		l.Silence(v.nobody)
		var o outcome
		o.said, o.status, o.err = v.make(ctx, l, ctl, socket)
		l.Silence(false)
		outcomes <- o
	}
	return nil
}

// make runs the doctor on the laptop, which is to be as before afterwards.
func (v visit) make(ctx context.Context, l *lab.Lab, ctl, socket string) (said string, status int, err error) {
	before, err := l.Laptop.Snapshot()
	if err != nil {
		return "", 0, err
	}
	cmd := l.Laptop.Command(ctx, ctl, append([]string{"-socket", socket, "doctor"}, v.args...)...)
	// The lab's hosts share the machine's bus.
	cmd.Env = append(lab.WithoutProxies(os.Environ()), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent")
	if v.nobody {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", 0, err
	}
	if v.during != nil {
		err = v.during(l, cmd.Process)
	}
	ended := cmd.Wait()
	said = normalize(out.String(), l)
	if exit := new(exec.ExitError); errors.As(ended, &exit) {
		status, ended = exit.ExitCode(), nil
	}
	after, snapErr := l.Laptop.Snapshot()
	if err := errors.Join(err, ended, snapErr); err != nil {
		return said, status, err
	}
	if diff := before.Diff(after); len(diff) > 0 {
		return said, status, fmt.Errorf("the doctor left the laptop changed:\n%s", strings.Join(diff, "\n"))
	}
	return said, status, nil
}

var (
	durations = regexp.MustCompile(`\b[0-9]+(\.[0-9]+)? m?s\b`)
	kernels   = regexp.MustCompile(`Linux \S+, TUN, BPF with (tcx|clsact)`)
	madeUp    = regexp.MustCompile(`\b2001:db8:1:0?:[0-9a-f:]*[0-9a-f]`)
)

// normalize takes out of a report what differs from run to run, or from kernel
// to kernel.
func normalize(s string, l *lab.Lab) string {
	s = strings.ReplaceAll(s, l.Dir, "DIR")
	s = durations.ReplaceAllString(s, "TIME")
	s = kernels.ReplaceAllString(s, "Linux VERSION, TUN, BPF with HOOK")
	known := map[string]bool{lab.LaptopLink.Addr().String(): true, lab.RouterIPv6.String(): true, "2001:db8:1::ff:fe00:10": true, "2001:db8:1::dc6": true}
	return madeUp.ReplaceAllStringFunc(s, func(a string) string {
		if known[a] {
			return a
		}
		return "MADE-UP"
	})
}

// golden compares with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *updateGolden {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("other words than in %s (-want +got):\n%s", path, diff)
	}
}

// resolvConf is a resolv.conf with these servers.
func resolvConf(servers ...netip.Addr) string {
	var s strings.Builder
	for _, a := range servers {
		fmt.Fprintf(&s, "nameserver %s\n", a)
	}
	return s.String()
}

// vpn connects the laptop with a VPN whose resolver programs ask.
func vpn(l *lab.Lab) error {
	if err := noLinkLocal(l); err != nil {
		return err
	}
	_, err := l.StartVPN(lab.VPNDefault)
	return errors.Join(err, l.SetResolvConf(l.Laptop, resolvConf(lab.VPNServer)))
}

// noLinkLocal gives interfaces that the laptop gets from now on no link-local
// address: its DAD would end while the doctor is at work, and look like a change.
func noLinkLocal(l *lab.Lab) error {
	return l.Laptop.Sysctl("net.ipv6.conf.default.addr_gen_mode", "1")
}

// interrupt presses Ctrl-C as soon as the temporary address is there, which
// must be one that ends by itself if the doctor is killed.
func interrupt(l *lab.Lab, doctor *os.Process) error {
	link, err := l.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		addrs, err := l.Laptop.Netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			continue // interrupted by a change
		}
		for _, a := range addrs {
			if bits, _ := a.Mask.Size(); bits != 128 {
				continue
			}
			if a.ValidLft <= 0 || a.ValidLft > 60 || a.PreferedLft != 0 {
				return errors.Join(fmt.Errorf("%s lives for %d s, preferred %d s", a.IP, a.ValidLft, a.PreferedLft), doctor.Kill())
			}
			return doctor.Signal(os.Interrupt)
		}
	}
	return errors.Join(errors.New("the doctor puts no address on the uplink"), doctor.Kill())
}

// pingGroup lets everybody send echoes, as distributions with systemd do.
func pingGroup(l *lab.Lab) error {
	return l.Laptop.Sysctl("net.ipv4.ping_group_range", "0 2147483647")
}

// dns makes the network's resolver another one.
func dns(d lab.DNS) func(l *lab.Lab) error {
	return func(l *lab.Lab) error {
		l.SetDNS(d)
		return nil
	}
}

func ipv6Off(l *lab.Lab) error {
	return l.Laptop.Sysctl("net.ipv6.conf."+lab.Uplink+".disable_ipv6", "1")
}

// vanish takes the router away, and what the laptop has learned of it.
func vanish(l *lab.Lab) error {
	return errors.Join(l.Vanish(true), l.Forget(lab.Uplink))
}

// anotherCLAT gives the laptop an interface like that of somebody's CLAT, and a
// program of the name of one.
func anotherCLAT(l *lab.Lab) error {
	if err := pretendTayga(l); err != nil {
		return err
	}
	if err := noLinkLocal(l); err != nil {
		return err
	}
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "clat"}, Mode: netlink.TUNTAP_MODE_TUN}
	if err := l.Laptop.Do(func() error { return netlink.LinkAdd(link) }); err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("192.0.0.4/32")
	if err != nil {
		return err
	}
	created, err := l.Laptop.Netlink.LinkByName("clat")
	if err != nil {
		return err
	}
	return errors.Join(l.Laptop.Netlink.AddrAdd(created, addr), l.Laptop.Netlink.LinkSetUp(created))
}

// pretendTayga runs sleep under the name of tayga, until the lab is closed.
func pretendTayga(l *lab.Lab) error {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		return err
	}
	path := filepath.Join(l.Dir, "tayga")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		return err
	}
	cmd := l.Laptop.Command(context.Background(), path, "60")
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	return nil
}
