package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/host"
	"tnat64d/clat/plan"
	"tnat64d/datapath/steer"
	"tnat64d/internal/lab"
)

// network is a lab with a daemon on its laptop.
type network struct {
	*lab.Lab
	t      *testing.T
	path   string // of the daemon's binary
	log    *output
	daemon *lab.Daemon
	before lab.Snapshot // of the laptop without a daemon
}

// limit is how long anything may take: the labs of an emulated machine share one
// processor, on which the kernel checks the BPF programs of each daemon for seconds.
const limit = 3 * time.Minute

func newNetwork(t *testing.T, o lab.Options) *network {
	t.Helper()
	needRoot(t)
	t.Parallel() // a lab spends its first seconds waiting for the kernel's DAD
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l, err := lab.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{Lab: l, t: t, path: daemonPath(t), log: new(output)}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", n.log)
		}
	})
	if n.before, err = l.Laptop.Snapshot(); err != nil {
		t.Fatal(err)
	}
	return n
}

// start starts the daemon and returns when it is ready.
func (n *network) start(config string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), limit)
	defer cancel()
	d, err := n.StartDaemon(ctx, n.path, config, n.log)
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.log)
	}
	n.daemon = d
}

// up waits for a CLAT.
func (n *network) up() lab.CLAT {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), limit)
	defer cancel()
	c, err := n.WaitCLAT(ctx)
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.log)
	}
	return c
}

// stop ends the daemon; the laptop must be as before.
func (n *network) stop() {
	n.t.Helper()
	if err := n.daemon.Stop(); err != nil {
		n.t.Errorf("stop: %v", err)
	}
	n.clean()
}

// clean compares the laptop with how it was, and gives its own addresses the
// time for their DAD.
func (n *network) clean() {
	n.t.Helper()
	var diff []string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		after, err := n.Laptop.Snapshot()
		if err != nil {
			n.t.Fatal(err)
		}
		if diff = n.before.Diff(after); len(diff) == 0 {
			return
		}
	}
	n.t.Errorf("the laptop is not as before:\n%s", strings.Join(diff, "\n"))
}

// eventually waits until ok; what says what did not become true.
func (n *network) eventually(what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("not in time: %s\n%s", what, n.log)
		}
	}
}

func (n *network) said(text string, times int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%d times %q", times, text), func() bool { return strings.Count(n.log.String(), text) >= times })
}

// get fetches the page of the IPv4-only server by its IPv4 literal.
func (n *network) get() error {
	var d net.Dialer
	client := &http.Client{
		Timeout: limit,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = n.Laptop.Do(func() error {
				conn, err = d.DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		}},
	}
	resp, err := client.Get("http://" + lab.ServerIPv4.String() + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.HasPrefix(b, []byte(lab.Greeting)) {
		err = fmt.Errorf("the page is %q", b)
	}
	return err
}

func (n *network) mustGet() {
	n.t.Helper()
	if err := n.get(); err != nil {
		n.t.Errorf("the IPv4-only server cannot be reached: %v\n%s", err, n.log)
	}
}

// observe looks at the laptop as the daemon does.
func (n *network) observe() plan.Observed {
	n.t.Helper()
	var o plan.Observed
	err := n.Laptop.Do(func() error {
		k, err := host.New(steer.NewPrograms().Foreign)
		if err != nil {
			return err
		}
		defer k.Close()
		o, err = k.Observe()
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return o
}

// clatAddrs are the addresses of the uplink that look like the CLAT's.
func (n *network) clatAddrs() []netip.Addr {
	n.t.Helper()
	var as []netip.Addr
	for _, a := range n.observe().Addrs {
		if a.Prefix.Addr().Is6() && a.Prefix.Bits() == 128 && a.Deprecated {
			as = append(as, a.Prefix.Addr())
		}
	}
	return as
}

// uplinkAddr waits for a global IPv6 address of the host on the uplink.
func (n *network) uplinkAddr(which func(plan.Addr) bool) (p netip.Prefix) {
	n.t.Helper()
	n.eventually("an address of the host", func() bool {
		for _, a := range n.observe().Addrs {
			if ip := a.Prefix.Addr(); ip.Is6() && ip.IsGlobalUnicast() && a.Prefix.Bits() == 64 && which(a) {
				p = a.Prefix
				return true
			}
		}
		return false
	})
	return p
}

// defaultRoute returns the IPv4 default route that is ours.
func (n *network) defaultRoute() (plan.Route, bool) {
	n.t.Helper()
	for _, r := range n.observe().Routes {
		if !r.IPv6 && r.Protocol == plan.Protocol {
			return r, true
		}
	}
	return plan.Route{}, false
}

// Everything found by itself, and everything gone afterwards.
func TestLabUpAndDown(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	sysctls := n.sysctls()
	n.start("")
	c := n.up()
	n.mustGet()
	if c.IPv4 != netip.MustParseAddr("192.0.0.1") || !lab.LaptopLink.Contains(c.IPv6) {
		t.Errorf("CLAT %+v", c)
	}
	if diff := diffLines(sysctls, n.sysctls()); diff != "" {
		t.Errorf("sysctls changed while it runs:\n%s", diff)
	}
	n.said(`msg="CLAT is up" iface=wlan0 pref64=64:ff9b::/96 source="ra from fe80::1" ipv4=192.0.0.1`, 1)
	n.stop()
	if diff := diffLines(sysctls, n.sysctls()); diff != "" {
		t.Errorf("sysctls changed:\n%s", diff)
	}
	if !regexp.MustCompile(`msg=stopped packets_4to6=[1-9]\d* bytes_4to6=[1-9]`).MatchString(n.log.String()) {
		t.Errorf("no counters at the end:\n%s", n.log)
	}
	// The same network, the same address; the secret is what remains.
	n.start("")
	if again := n.up(); again.IPv6 != c.IPv6 {
		t.Errorf("back on the network it has %s, not %s", again.IPv6, c.IPv6)
	}
	n.stop()
}

// sysctls reads all of net.ipv4 and net.ipv6 but what belongs to clat0.
func (n *network) sysctls() map[string]string {
	n.t.Helper()
	all := map[string]string{}
	err := n.Laptop.Do(func() error {
		for _, root := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6"} {
			err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() || strings.Contains(path, "/clat0/") || strings.Contains(path, "/neigh/") {
					return nil
				}
				if b, err := os.ReadFile(path); err == nil {
					all[path] = string(b)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(all) < 100 {
		n.t.Fatalf("%d sysctls: %v", len(all), err)
	}
	// Counters that Linux keeps among the settings.
	for _, k := range []string{"/proc/sys/net/ipv4/inet_peer_threshold", "/proc/sys/net/ipv4/tcp_fastopen_key"} {
		delete(all, k)
	}
	return all
}

func diffLines(a, b map[string]string) string {
	var out []string
	for k, v := range a {
		if b[k] != v {
			out = append(out, fmt.Sprintf("%s: %q -> %q", k, v, b[k]))
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, "new: "+k)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// design.md section 5: with everything given nothing is discovered.
func TestLabEverythingGiven(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.Silence(true)
	n.start(`
		[clat]
		enable  = "always"
		uplinks = ["wlan0"]
		pref64  = ["64:ff9b::/96"]
		ipv6    = "2001:db8:1::c1a7"
		ipv4    = "10.64.64.1"
		tun     = "v4"
		metric  = 7
		mtu     = 1400
		queues  = 3
	`)
	c := n.up() // ready means up
	if c.TUN != "v4" || c.IPv4 != netip.MustParseAddr("10.64.64.1") || c.IPv6 != netip.MustParseAddr("2001:db8:1::c1a7") {
		t.Errorf("CLAT %+v", c)
	}
	if r, _ := n.defaultRoute(); r.Metric != 7 || r.MTU != 1400 {
		t.Errorf("route %+v", r)
	}
	n.said("queues=3", 1)
	n.mustGet()
	n.stop()
}

func TestLabFollowsMTU(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	n.up()
	a := n.Advert()
	a.MTU = 1400
	if err := n.SetAdvert(a); err != nil {
		t.Fatal(err)
	}
	n.eventually("route MTU 1380", func() bool { r, _ := n.defaultRoute(); return r.MTU == 1380 })
	n.mustGet()
	if err := n.Laptop.SetMTU(lab.Uplink, 1300); err != nil {
		t.Fatal(err)
	}
	n.eventually("route MTU 1280", func() bool { r, _ := n.defaultRoute(); return r.MTU == 1280 })
	if strings.Contains(n.log.String(), "restored") {
		t.Error("a change of MTU looks like foreign hands to it")
	}
	for _, l := range n.observe().Links {
		if l.Name == "clat0" && l.MTU != 1300 {
			t.Errorf("TUN MTU %d", l.MTU)
		}
	}
	if err := n.daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// Another PREF64: the TUN stays, and so do listening sockets.
func TestLabPREF64Changes(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	first := n.up()
	index := n.tunIndex()
	next := netip.MustParsePrefix("3fff:64::/96")
	if err := n.SetPREF64(next); err != nil {
		t.Fatal(err)
	}
	n.eventually("the server answers through the new PREF64", func() bool { return n.get() == nil })
	n.said("pref64=3fff:64::/96", 1)
	n.mustGet()
	if as := n.clatAddrs(); len(as) != 1 || as[0] != first.IPv6 {
		t.Errorf("CLAT addresses %s, want %s as before", as, first.IPv6)
	}
	if n.tunIndex() != index {
		t.Error("the TUN is another one")
	}
	// No PREF64, no CLAT: its interface waits for another prefix, without route.
	if err := n.WithdrawPREF64(); err != nil {
		t.Fatal(err)
	}
	n.said("keeping the CLAT's interface for a while", 1)
	if err := n.get(); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("without a PREF64: %v", err)
	}
	if n.tunIndex() != index {
		t.Error("the TUN is gone at once, or another one")
	}
	a := n.Advert()
	a.PREF64 = []lab.PREF64{{Prefix: next, Lifetime: time.Minute}}
	if err := n.SetAdvert(a); err != nil {
		t.Fatal(err)
	}
	n.up()
	n.mustGet()
	n.stop()
}

func (n *network) tunIndex() int {
	for _, l := range n.observe().Links {
		if l.Name == "clat0" {
			return l.Index
		}
	}
	return 0
}

// The network is renumbered: the CLAT address stays while the host's own in the old
// prefix is deprecated, beside one in the new prefix, and follows before that ends.
func TestLabRenumbering(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	n.up()
	index := n.tunIndex()
	next := netip.MustParsePrefix("2001:db8:99::/64")
	router, err := n.Router.Netlink.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Router.Netlink.AddrAdd(router, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8:99::1"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}); err != nil {
		t.Fatal(err)
	}
	a := n.Advert()
	a.Preferred = 0 // the old prefix is deprecated
	if err := n.SetAdvert(a); err != nil {
		t.Fatal(err)
	}
	a.Prefix, a.Preferred = next, time.Hour
	if err := n.SetAdvert(a); err != nil {
		t.Fatal(err)
	}
	old := n.uplinkAddr(func(a plan.Addr) bool { return a.Deprecated })
	n.uplinkAddr(func(a plan.Addr) bool { return next.Contains(a.Prefix.Addr()) && !a.Tentative })
	n.eventually("a CLAT address in either prefix", func() bool {
		as := n.clatAddrs()
		return len(as) == 2 && next.Contains(as[0]) != next.Contains(as[1])
	})
	uplink, err := n.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	err = n.Laptop.Netlink.AddrReplace(uplink, &netlink.Addr{
		IPNet: &net.IPNet{IP: old.Addr().AsSlice(), Mask: net.CIDRMask(64, 128)}, ValidLft: 25, Flags: unix.IFA_F_NODAD,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.eventually("a CLAT address in the new prefix and none in the old", func() bool {
		as := n.clatAddrs()
		return len(as) == 1 && next.Contains(as[0])
	})
	// The lab's PLAT knows only the old prefix; its router answers anybody.
	n.eventually("the router answers", n.routerAnswers)
	if n.tunIndex() != index {
		t.Error("the TUN is another one")
	}
	if err := n.daemon.Stop(); err != nil {
		t.Error(err)
	}
	if as := n.clatAddrs(); len(as) > 0 {
		t.Errorf("left behind: %v", as)
	}
}

// routerAnswers sends an IPv4 packet that may go two hops, the CLAT and the
// router, and reports whether the router's ICMP error comes back.
func (n *network) routerAnswers() bool {
	err := n.Laptop.Do(func() error {
		conn, err := net.Dial("udp4", lab.ServerIPv4.String()+":9")
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TTL, 2)
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1)
		})
		conn.Write([]byte("anybody there?"))
		conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err = conn.Read(make([]byte, 1))
		return err
	})
	return errors.Is(err, unix.EHOSTUNREACH)
}

// Another host has the address. Three tries, then a reason.
func TestLabDADConflicts(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	router, err := n.Router.Netlink.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	// One probe in a second is not enough where the machine stands still for that
	// long: the answer comes when the kernel has given up waiting.
	err = n.Laptop.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/"+lab.Uplink+"/dad_transmits", []byte("3"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	upWith := regexp.MustCompile(`msg="CLAT is up".* ipv6=(\S+)`)
	seen := map[netip.Addr]bool{}
	for range 3 {
		n.log = new(output)
		n.start("")
		// One that has just left serves until DAD finds its owner.
		var serves netip.Addr
		n.eventually("a CLAT address that no other host has", func() bool {
			for _, up := range upWith.FindAllStringSubmatch(n.log.String(), -1) {
				serves = netip.MustParseAddr(up[1])
			}
			return serves.IsValid() && !seen[serves]
		})
		n.mustGet()
		n.stop()
		seen[serves] = true
		if err := n.Router.Netlink.AddrAdd(router, &netlink.Addr{IPNet: &net.IPNet{IP: serves.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}); err != nil {
			t.Fatal(err)
		}
	}
	n.log = new(output)
	n.start("")
	n.said("3 addresses in 2001:db8:1::/64 on wlan0 are in use by other hosts", 1)
	if got := strings.Count(n.log.String(), "address is in use by another host"); got != 3 {
		t.Errorf("%d conflicts in the log, want 3:\n%s", got, n.log)
	}
	n.clean()
	n.stop()
}

// After SIGKILL the next start takes away what is left, whatever it then does.
func TestLabSIGKILL(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	n.up()
	n.daemon.Kill()
	if as := n.clatAddrs(); len(as) != 1 {
		t.Fatalf("a killed daemon leaves %v: this test proves nothing", as)
	}
	n.start("[clat]\nenable = \"never\"\n")
	n.said("removed what a killed predecessor left", 1)
	n.clean()
	n.stop()
	// And one that goes on where the other was killed.
	n.start("")
	n.up()
	n.daemon.Kill()
	n.start("")
	n.up()
	n.mustGet()
	n.stop()
}

// Native IPv4 comes and goes.
func TestLabNativeIPv4(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	n.up()
	if err := n.SetNativeIPv4(true); err != nil {
		t.Fatal(err)
	}
	n.said(`reason="native IPv4 on wlan0"`, 1)
	if err := n.SetNativeIPv4(false); err != nil {
		t.Fatal(err)
	}
	n.up()
	n.mustGet()
	if err := n.SetNativeIPv4(true); err != nil {
		t.Fatal(err)
	}
	n.said(`reason="native IPv4 on wlan0"`, 2)
	n.eventually("the address in standby", func() bool { return len(n.clatAddrs()) == 1 })
	if err := n.daemon.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := n.SetNativeIPv4(false); err != nil {
		t.Fatal(err)
	}
	n.clean()
}

// What other programs remove is restored.
func TestLabDriftIsRestored(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	c := n.up()
	uplink, err := n.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Laptop.Netlink.AddrDel(uplink, &netlink.Addr{IPNet: &net.IPNet{IP: c.IPv6.AsSlice(), Mask: net.CIDRMask(128, 128)}}); err != nil {
		t.Fatal(err)
	}
	n.eventually("the address is back", func() bool { return len(n.clatAddrs()) == 1 })
	flush := func() {
		rs, err := n.Laptop.Netlink.RouteList(nil, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			n.Laptop.Netlink.RouteDel(&r)
		}
	}
	flush()
	n.eventually("the route is back", func() bool { _, ok := n.defaultRoute(); return ok })
	n.eventually("the server answers", func() bool { return n.get() == nil })

	tun, err := n.Laptop.Netlink.LinkByName("clat0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Laptop.Netlink.LinkDel(tun); err != nil {
		t.Fatal(err)
	}
	n.eventually("another TUN", func() bool { i := n.tunIndex(); return i != 0 && i != tun.Attrs().Index })
	n.eventually("the server answers", func() bool { return n.get() == nil })
	if got := strings.Count(n.log.String(), "restored what another program removed"); got < 3 {
		t.Errorf("%d lines about it, want 3:\n%s", got, n.log)
	}
	n.stop()
}

// The link goes down and comes back.
func TestLabLinkFlap(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	n.up()
	uplink, err := n.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Laptop.Netlink.LinkSetDown(uplink); err != nil {
		t.Fatal(err)
	}
	n.said(`reason="wlan0 is down"`, 1)
	if err := n.Laptop.Netlink.LinkSetUp(uplink); err != nil {
		t.Fatal(err)
	}
	n.up()
	n.eventually("the server answers", func() bool { return n.get() == nil })
	n.stop()
}

// A router that says its own link is a NAT64 is not believed.
func TestLabHostilePREF64(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	c := n.up()
	a := n.Advert()
	a.PREF64 = []lab.PREF64{
		{Prefix: lab.LaptopLink, Lifetime: time.Minute},
		{Prefix: netip.PrefixFrom(c.IPv6, 96).Masked(), Lifetime: time.Minute},
		{Prefix: netip.MustParsePrefix("fe80::/64"), Lifetime: time.Minute},
		{Prefix: netip.MustParsePrefix("ff02::/96"), Lifetime: time.Minute},
	}
	if err := n.SetAdvert(a); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	n.mustGet()
	if got := strings.Count(n.log.String(), `msg="CLAT is up"`); got != 1 {
		t.Errorf("it moved:\n%s", n.log)
	}
	n.stop()
}

// SIGHUP reads the configuration again; a bad one changes nothing.
func TestLabReload(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.start("")
	n.up()
	file := filepath.Join(n.Dir, "tnat64d.toml")
	reload := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(n.daemon.PID(), unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	reload("[clat]\nmetric = \"low\"\n")
	n.said("rejected the new configuration; keeping the old one", 1)
	n.said("tnat64d.toml:2:10: clat.metric", 1)
	n.mustGet()
	reload("[clat]\nengine = \"user\"\n")
	n.said(`engine="user (as configured)"`, 1)
	n.mustGet()
	reload("[clat]\nengine = \"kernel\"\n")
	n.said("engine=kernel", 2)
	n.mustGet()
	reload("[clat]\nmetric = 5\n[translation]\nicmp-errors-per-second = 3\n")
	n.eventually("the new metric", func() bool { r, ok := n.defaultRoute(); return ok && r.Metric == 5 })
	n.eventually("the server answers", func() bool { return n.get() == nil })
	reload("[clat]\nenable = \"never\"\n")
	n.said(`reason="clat.enable is \"never\""`, 1)
	n.clean()
	n.stop()
}

// TestLabMetrics compares the names, labels and explanations of all metrics
// with a golden file: dashboards and alerts depend on them.
func TestLabMetrics(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	d, err := n.startProcess("[control]\nmetrics = \"127.0.0.1:9646\"\nsocket = \"" + t.TempDir() + "/s\"\n")
	if err != nil {
		t.Fatal(err)
	}
	n.up()
	d.waitLog(t, "CLAT is up")
	n.mustGet()
	var got []string
	scrape := func() error {
		got = nil
		conn, err := net.Dial("tcp", "127.0.0.1:9646")
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /metrics HTTP/1.0\r\n\r\n")
		for s := bufio.NewScanner(conn); s.Scan(); {
			line := s.Text()
			if !strings.Contains(line, "tnat64_") {
				continue
			}
			if strings.HasPrefix(line, `tnat64_packets_translated_total{direction="4to6",engine="kernel",protocol="tcp"} 0`) {
				t.Error("nothing counted")
			}
			if !strings.HasPrefix(line, "#") {
				line, _, _ = strings.Cut(line, "} ")
				line, _, _ = strings.Cut(line, " ")
			}
			got = append(got, line)
		}
		return nil
	}
	// Of a busy machine's daemon a scrape may get the counters only.
	for end := time.Now().Add(patience); ; {
		if err := n.Laptop.Do(scrape); err != nil {
			t.Fatal(err)
		}
		whole := slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "tnat64_uplink_state{") })
		if whole || time.Now().After(end) {
			break
		}
	}
	text := strings.Join(got, "\n") + "\n"
	const golden = "testdata/metrics.golden"
	if os.Getenv("TNAT64_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("the metrics are not those of %s (-want +got):\n%s\nTNAT64_UPDATE_GOLDEN=1 writes it anew", golden, diff)
	}
	d.stop(t)
}

// startProcess starts the daemon without the lab's own [control] table.
func (n *network) startProcess(config string) (p *process, err error) {
	err = n.Laptop.Do(func() error {
		p = startDaemon(n.t, n.path, config, directories(n.t)...)
		return nil
	})
	return p, err
}
