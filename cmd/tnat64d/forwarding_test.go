package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/internal/lab"
)

// These tests run the daemon with CAP_NET_ADMIN and CAP_NET_RAW alone: the
// kernel refuses it BPF, and forwards.

// forwarding is how a kernel forwards, and what that changes on the laptop.
type forwarding struct {
	name    string
	hide    bool              // force_forwarding, as before Linux 6.17
	changed map[string]string // sysctls while it runs
}

var forwardings = []forwarding{
	{"force_forwarding", false, map[string]string{
		"conf/wlan0/force_forwarding": "1", "conf/all/proxy_ndp": "1",
	}},
	{"all.forwarding", true, map[string]string{
		"conf/all/forwarding": "1", "conf/all/proxy_ndp": "1", "conf/wlan0/accept_ra": "2",
		"conf/default/forwarding": "1", "conf/wlan0/forwarding": "1", "conf/lo/forwarding": "1",
	}},
}

func eachForwarding(t *testing.T, test func(t *testing.T, n *network, f forwarding)) {
	for _, f := range forwardings {
		t.Run(f.name, func(t *testing.T) {
			n := newNetwork(t, lab.Options{})
			n.path = withoutBPF(t, n.path, f.hide)
			test(t, n, f)
		})
	}
}

// withoutBPF returns a program that is the daemon with fewer rights. A file
// that hides another one is seen by it alone.
func withoutBPF(t *testing.T, path string, hideForce bool) string {
	t.Helper()
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("needs setpriv: ", err)
	}
	script := "exec setpriv --bounding-set=-all,+net_admin,+net_raw " + path + ` "$@"`
	if hideForce {
		script = "exec unshare --mount sh -c '" +
			"mount --bind /dev/null /proc/sys/net/ipv6/conf/default/force_forwarding; " + script + `' sh "$@"`
	} else if _, err := os.Stat("/proc/sys/net/ipv6/conf/default/force_forwarding"); err != nil {
		t.Skip("needs Linux 6.17: ", err)
	}
	file := filepath.Join(t.TempDir(), "tnat64d")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// changes compares the sysctls with what they were.
func (n *network) changes(before map[string]string) map[string]string {
	n.t.Helper()
	diff := map[string]string{}
	for k, v := range n.sysctls() {
		if before[k] != v {
			diff[strings.TrimPrefix(k, "/proc/sys/net/ipv6/")] = strings.TrimSpace(v)
		}
	}
	return diff
}

func (n *network) restored(before map[string]string) {
	n.t.Helper()
	if diff := n.changes(before); len(diff) > 0 {
		n.t.Errorf("sysctls are not as before: %v", diff)
	}
}

func TestLabForwarding(t *testing.T) {
	eachForwarding(t, func(t *testing.T, n *network, f forwarding) {
		before := n.sysctls()
		n.start("")
		c := n.up()
		n.mustGet()
		if got := n.changes(before); fmt.Sprint(got) != fmt.Sprint(f.changed) {
			t.Errorf("changed sysctls: %v\n want %v", got, f.changed)
		}
		n.said(`msg="BPF is refused: falling back to kernel forwarding" iface=wlan0 reason="load the BPF programs: not permitted`, 1)
		n.said(`engine="user (BPF is refused)"`, 1)
		n.said(`steering="none (kernel forwarding)"`, 1)
		if got := strings.Count(n.log.String(), "level=WARN"); got != 1 {
			t.Errorf("%d warnings, want one that lists everything:\n%s", got, n.log)
		}
		n.probed(c.IPv6)

		// Router advertisements are still heard.
		a := n.Advert()
		a.MTU = 1400
		if err := n.SetAdvert(a); err != nil {
			t.Fatal(err)
		}
		n.eventually("route MTU 1380", func() bool { r, _ := n.defaultRoute(); return r.MTU == 1380 })
		n.mustGet()
		expires := n.routeExpires()
		a.RouterLifetime = 2 * time.Hour
		if err := n.SetAdvert(a); err != nil {
			t.Fatal(err)
		}
		n.eventually("the default route is renewed", func() bool { return n.routeExpires() > expires })

		// Another PREF64, another address; the way into the TUN follows.
		next := netip.MustParsePrefix("3fff:64::/96")
		if err := n.SetPREF64(next); err != nil {
			t.Fatal(err)
		}
		n.said("pref64=3fff:64::/96", 1)
		n.eventually("the server answers through the new PREF64", func() bool { return n.get() == nil })
		n.eventually("one CLAT address, a new one", func() bool {
			as := n.clatAddrs()
			return len(as) == 1 && as[0] != c.IPv6
		})
		n.probed(n.clatAddrs()[0])
		if err := n.daemon.Stop(); err != nil {
			t.Error(err)
		}
		// The RA's MTU and lifetime stay; nothing else.
		n.eventually("no CLAT address", func() bool { return len(n.clatAddrs()) == 0 })
		if got := n.changes(before); len(got) > 1 || len(got) == 1 && got["conf/wlan0/mtu"] != "1400" {
			t.Errorf("sysctls are not as before: %v", got)
		}
		n.noTraces()
	})
}

// probed checks that the kernel still answers for the CLAT address, also
// solicitations that come by unicast, and from that address.
func (n *network) probed(a netip.Addr) {
	n.t.Helper()
	lan, err := n.Router.Netlink.LinkByName("lan0")
	if err != nil {
		n.t.Fatal(err)
	}
	state := func() int {
		ns, err := n.Router.Netlink.NeighList(lan.Attrs().Index, netlink.FAMILY_V6)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, e := range ns {
			if e.IP.Equal(net.IP(a.AsSlice())) {
				// The kernel's own probes, by unicast.
				e.State = netlink.NUD_PROBE
				if err := n.Router.Netlink.NeighSet(&e); err != nil {
					n.t.Fatal(err)
				}
				time.Sleep(200 * time.Millisecond)
				break
			}
		}
		ns, _ = n.Router.Netlink.NeighList(lan.Attrs().Index, netlink.FAMILY_V6)
		for _, e := range ns {
			if e.IP.Equal(net.IP(a.AsSlice())) {
				return e.State
			}
		}
		return 0
	}
	if got := state(); got != netlink.NUD_REACHABLE {
		n.t.Errorf("the router's neighbour entry of %s is in state %#x after a probe", a, got)
	}
}

// routeExpires is the lifetime of the laptop's IPv6 default route, in seconds.
func (n *network) routeExpires() int {
	n.t.Helper()
	out, err := n.Laptop.Command(n.t.Context(), "ip", "-6", "route", "show", "default").CombinedOutput()
	if err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
	var seconds int
	f := strings.Fields(string(out))
	if i := slices.Index(f, "expires"); i >= 0 {
		fmt.Sscanf(f[i+1], "%dsec", &seconds)
	}
	return seconds
}

// noTraces checks what a snapshot cannot after the router has said new things.
func (n *network) noTraces() {
	n.t.Helper()
	after, err := n.Laptop.Snapshot()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, line := range after {
		if strings.Contains(line, "clat0") || strings.HasPrefix(line, "proxy ") || strings.Contains(line, fmt.Sprintf("protocol %d ", clat.Protocol)) {
			n.t.Errorf("left behind: %s", line)
		}
	}
}

func TestLabForwardingStops(t *testing.T) {
	eachForwarding(t, func(t *testing.T, n *network, f forwarding) {
		before := n.sysctls()
		n.start("")
		n.up()
		n.mustGet()
		n.stop()
		n.restored(before)
	})
}

// After SIGKILL the next start restores, whatever it then does.
func TestLabForwardingSIGKILL(t *testing.T) {
	eachForwarding(t, func(t *testing.T, n *network, f forwarding) {
		before := n.sysctls()
		n.start("")
		n.up()
		n.daemon.Kill()
		if got := n.changes(before); fmt.Sprint(got) != fmt.Sprint(f.changed) {
			t.Fatalf("a killed daemon leaves %v: this test proves nothing", got)
		}
		n.start("[clat]\nenable = \"never\"\n")
		n.said("restored what a killed predecessor had changed", 1)
		n.clean()
		n.restored(before)
		n.stop()
		// And one that goes on where the other was killed.
		n.start("")
		n.up()
		n.daemon.Kill()
		n.start("")
		n.up()
		n.mustGet()
		n.stop()
		n.restored(before)
	})
}

// An interface that appears, a TUN that disappears, a link that goes down and
// comes back, sysctls that others change.
func TestLabForwardingDisturbed(t *testing.T) {
	eachForwarding(t, func(t *testing.T, n *network, f forwarding) {
		before := n.sysctls()
		n.start("")
		n.up()
		set := func(link, key, value string) {
			t.Helper()
			if err := n.Laptop.Sysctl("net.ipv6.conf."+link+"."+key, value); err != nil {
				t.Fatal(err)
			}
		}
		get := func(link, key string) string {
			return strings.TrimSpace(n.sysctls()["/proc/sys/net/ipv6/conf/"+link+"/"+key])
		}

		usb := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "usb0"}, PeerName: "usb1"}
		if err := n.Laptop.Netlink.LinkAdd(usb); err != nil {
			t.Fatal(err)
		}
		if f.hide {
			n.eventually("the new link hears router advertisements", func() bool { return get("usb0", "accept_ra") == "2" })
			// Another program insists on 0: that is not ours to undo.
			set("usb1", "accept_ra", "0")
		}
		// This clears force_forwarding everywhere, and we must notice.
		set("all", "forwarding", map[bool]string{true: "0", false: "1"}[f.hide])
		set("all", "forwarding", "0")
		n.eventually("it forwards again", func() bool { return n.get() == nil })

		tun, err := n.Laptop.Netlink.LinkByName("clat0")
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Laptop.Netlink.LinkDel(tun); err != nil {
			t.Fatal(err)
		}
		n.eventually("another TUN", func() bool { i := n.tunIndex(); return i != 0 && i != tun.Attrs().Index })
		n.eventually("the server answers", func() bool { return n.get() == nil })

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
		if err := n.daemon.Stop(); err != nil {
			t.Error(err)
		}
		if f.hide && (get("usb0", "accept_ra") != "1" || get("usb1", "accept_ra") != "0") {
			t.Errorf("accept_ra of the new links is %s and %s", get("usb0", "accept_ra"), get("usb1", "accept_ra"))
		}
		if err := n.Laptop.Netlink.LinkDel(usb); err != nil {
			t.Fatal(err)
		}
		n.clean()
		n.restored(before)
	})
}

// Another link, or a VPN, has the better IPv6 default route. The CLAT's packets
// do not go there.
func TestLabForwardingBesideVPN(t *testing.T) {
	for name, table := range map[string]int{"second link": clat.TableMain, "VPN": 51820} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, lab.Options{})
			n.path = withoutBPF(t, n.path, true)
			h := n.Laptop.Netlink
			other := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vpn0"}, PeerName: "vpn1"}
			if err := h.LinkAdd(other); err != nil {
				t.Fatal(err)
			}
			set := []func() error{
				func() error { return h.LinkSetUp(other) },
				func() error { l, err := h.LinkByName("vpn1"); return errors.Join(err, h.LinkSetUp(l)) },
				func() error {
					return h.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, LinkIndex: other.Attrs().Index, Table: table, Priority: 1})
				},
			}
			if table != clat.TableMain {
				rule := netlink.NewRule()
				rule.Family, rule.Priority, rule.Table = netlink.FAMILY_V6, 100, table
				set = append(set, func() error { return h.RuleAdd(rule) })
			}
			for _, f := range set {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second) // IPv6 on the new link settles
			var err error
			if n.before, err = n.Laptop.Snapshot(); err != nil {
				t.Fatal(err)
			}
			n.start("[clat]\nuplinks = [\"wlan0\"]\n")
			n.up()
			n.mustGet()
			n.said("rule for clat0 to table 64, default route by wlan0 there", 1)
			n.daemon.Kill()
			n.start("[clat]\nenable = \"never\"\n")
			n.clean()
			n.stop()
			n.start("[clat]\nuplinks = [\"wlan0\"]\n")
			n.up()
			n.mustGet()
			n.stop()
			if strings.Contains(n.log.String(), "lead to the PLAT by another link") {
				t.Errorf("a warning without need:\n%s", n.log)
			}
		})
	}
}

// The configuration decides at run time, too.
func TestLabForwardingReload(t *testing.T) {
	n := newNetwork(t, lab.Options{})
	n.path = withoutBPF(t, n.path, true)
	before := n.sysctls()
	n.start("")
	n.up()
	file := filepath.Join(n.Dir, "tnat64d.toml")
	reload := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(n.daemon.PID(), unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	reload("[clat]\nengine = \"kernel\"\n")
	n.said("the new configuration is refused; the old one stays in force", 1)
	n.mustGet()
	reload("[clat]\nenable = \"never\"\n")
	n.said(`reason="clat.enable is \"never\""`, 1)
	n.clean()
	n.restored(before)
	reload("[clat]\nengine = \"user\"\n")
	n.up()
	n.eventually("the server answers", func() bool { return n.get() == nil })
	n.stop()
	n.restored(before)
}
