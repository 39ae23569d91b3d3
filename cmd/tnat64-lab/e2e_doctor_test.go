package main

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

	"tnat64d/cmd/tnat64-lab/lab"
)

var updateGolden = flag.Bool("update", false, "write what tnat64ctl doctor says into its golden files")

// atOnce is how many networks are examined at the same time. They mostly wait.
const atOnce = 8

// examined is a network, and what the doctor is to look at there.
type examined struct {
	name    string // of the golden file
	network lab.Options
	prepare func(l *lab.Lab) error // the laptop, before the doctor comes and after tnat64d
	args    []string               // besides those of every examination
	nobody  bool                   // examined by an ordinary user
	daemon  bool                   // tnat64d runs
	// during, if set, is called while the doctor is at work.
	during func(l *lab.Lab, doctor *os.Process) error
	status int
}

var (
	anotherPREF64 = netip.MustParsePrefix("3fff:64:1::/96")
	dns64         = &lab.DNS{}
	noDNS64       = &lab.DNS{NoDNS64: true}
	target        = []string{"-target", fmt.Sprintf("%s:%d", lab.ServerIPv4, lab.PortHTTP)}
	deep          = append([]string{"-deep"}, target...)
)

var examinations = []examined{
	{name: "healthy", network: lab.Options{DNS: dns64}, args: deep},
	{name: "healthy-running", network: lab.Options{DNS: dns64}, args: deep, daemon: true},
	{name: "healthy-ordinary-user", network: lab.Options{DNS: dns64}, args: target, nobody: true},
	{name: "healthy-no-target", network: lab.Options{PREF64: anotherPREF64, DNS: noDNS64}},
	{name: "no-pref64", network: lab.Options{NoPREF64: true, DNS: noDNS64}, args: target, status: 1},
	{name: "dns64-only", network: lab.Options{NoPREF64: true, DNS: dns64}, args: target},
	{name: "plat-dead", network: lab.Options{DeadPREF64: []netip.Prefix{lab.WellKnownPrefix}, DNS: dns64}, args: deep, status: 1},
	{name: "black-hole", network: lab.Options{BlackHole: 1400, DNS: dns64}, args: target, status: 1},
	{name: "small-mtu", network: lab.Options{MTUISP: 1400, DNS: dns64}, args: target},
	{name: "dhcpv6-only", network: lab.Options{DHCPv6: true, DNS: dns64}, args: target, status: 1},
	{name: "native-ipv4", network: lab.Options{NativeIPv4: true, DNS: noDNS64}, args: target},
	{name: "captive-portal", network: lab.Options{NoPREF64: true, DNS: &lab.DNS{Captive: true}}, args: target, status: 1},
	{name: "small-mtu-ping-group", network: lab.Options{MTUISP: 1400, DNS: dns64}, args: target, nobody: true, prepare: pingGroup},
	{name: "dns-silent", network: lab.Options{DNS: &lab.DNS{Silent: true}}, args: target, status: 1},
	{name: "two-prefixes-one-dead", args: target, status: 1, network: lab.Options{
		MorePREF64: []netip.Prefix{anotherPREF64}, DeadPREF64: []netip.Prefix{lab.WellKnownPrefix}, DNS: dns64}},
	{name: "disagreement", network: lab.Options{DNS: &lab.DNS{Prefixes: []netip.Prefix{anotherPREF64}}}, args: target, status: 1},
	{name: "nd-filter", network: lab.Options{NDFilter: 1, DNS: dns64}, args: deep, status: 1},
	{name: "interrupted", args: deep, status: 1, during: interrupt},
	{name: "no-ipv6", prepare: vanish, args: target, status: 1},
	{name: "ipv6-off", args: target, status: 1, prepare: func(l *lab.Lab) error {
		return l.Laptop.Sysctl("net.ipv6.conf."+lab.Uplink+".disable_ipv6", "1")
	}},
	{name: "vpn-resolver", network: lab.Options{DNS: dns64}, prepare: vpn, args: target, daemon: true},
	{name: "other-clat", network: lab.Options{DNS: dns64}, prepare: anotherCLAT},
}

// TestDoctor examines healthy and broken networks, all with real packets, and
// compares all that the doctor says with a golden file for each.
func TestDoctor(t *testing.T) {
	needRoot(t)
	ctl, daemon := built(t, "tnat64ctl"), built(t, "tnat64d")
	if err := os.Chmod(binaries.dir, 0o755); err != nil { // for the ordinary user
		t.Fatal(err)
	}
	type outcome struct {
		said   string
		status int
		err    error
	}
	outcomes := make([]chan outcome, len(examinations))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	defer all.Wait()
	for i, e := range examinations {
		outcomes[i] = make(chan outcome, 1)
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			var o outcome
			o.said, o.status, o.err = e.examine(t.Context(), ctl, daemon)
			outcomes[i] <- o
		})
	}
	for i, e := range examinations {
		t.Run(e.name, func(t *testing.T) {
			o := <-outcomes[i]
			if o.err != nil {
				t.Fatalf("%v\n%s", o.err, o.said)
			}
			golden(t, filepath.Join("testdata", "doctor", e.name+".txt"), o.said)
			if o.status != e.status {
				t.Errorf("exit status %d, want %d", o.status, e.status)
			}
		})
	}
}

// examine builds the network and runs the doctor on its laptop.
func (e examined) examine(ctx context.Context, ctl, daemon string) (said string, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout+stepTimeout)
	defer cancel()
	l, err := lab.New(ctx, e.network)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	socket := filepath.Join(l.Dir, "none.sock")
	if e.daemon {
		d, err := l.StartDaemon(ctx, daemon, "", nil)
		if err != nil {
			return "", 0, err
		}
		defer func() { err = errors.Join(err, d.Stop()) }()
		if _, err := l.WaitCLAT(ctx); err != nil {
			return "", 0, err
		}
		socket = d.Socket
	}
	if err := l.SetResolvConf(l.Laptop, resolvConf(l.Advert().RDNSS...)); err != nil {
		return "", 0, err
	}
	if e.prepare != nil {
		if err := e.prepare(l); err != nil {
			return "", 0, err
		}
	}
	before, err := l.Laptop.Snapshot()
	if err != nil {
		return "", 0, err
	}
	cmd := l.Laptop.Command(ctx, ctl, append([]string{"-socket", socket, "doctor"}, e.args...)...)
	// The lab's hosts share the machine's bus.
	cmd.Env = append(withoutProxies(os.Environ()), "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent")
	if e.nobody {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	start := time.Now()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", 0, err
	}
	if e.during != nil {
		err = e.during(l, cmd.Process)
	}
	err = errors.Join(err, cmd.Wait())
	said = e.normalize(out.String(), l)
	if took := time.Since(start); took > stepTimeout {
		return said, 0, fmt.Errorf("it took %s", took)
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		status, err = exit.ExitCode(), nil
	}
	if err != nil {
		return said, status, err
	}
	after, err := l.Laptop.Snapshot()
	if err != nil {
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
func (e examined) normalize(s string, l *lab.Lab) string {
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

// vanish takes the router away, and what the laptop has learned of it.
func vanish(l *lab.Lab) error {
	return errors.Join(l.Vanish(true), l.Forget(lab.Uplink))
}

// anotherCLAT gives the laptop an interface like that of somebody's CLAT.
func anotherCLAT(l *lab.Lab) error {
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
