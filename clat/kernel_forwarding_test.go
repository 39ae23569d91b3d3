package clat

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/tun"
)

func observeForwarding(t *testing.T, k *Kernel, own ...netip.Addr) Observed {
	t.Helper()
	o := observe(t, k)
	o.Memory.Own = own
	must(t, k.ObserveForwarding(&o))
	return o
}

func groups(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/igmp6")
	must(t, err)
	return string(b)
}

// The address stays the kernel's own for everything but delivery.
func TestKernelDivert(t *testing.T) {
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0", "lan0")
	index := l.Attrs().Index
	addAddr(t, k, l, "2001:db8:1::10/64", unix.IFA_F_NODAD)
	must(t, k.handle.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, LinkIndex: index, Gw: net.ParseIP("2001:db8:1::1"),
	}))
	must(t, k.AddCLATAddr(index, clatAddr))
	waitAddr(t, k, index, clatAddr, func(a Addr) bool { return !a.Tentative })
	before := groups(t)
	d, err := tun.Open("clat0", 1)
	must(t, err)
	defer d.Close()
	must(t, k.SetTUN(TUNLink{Index: d.Index, Alias: aliasPrefix + "wlan0", MTU: 1500, IPv4: netip.MustParseAddr("192.0.0.1")}))

	address := Diversion{Prefix: netip.PrefixFrom(clatAddr, 128), TUN: d.Index, Uplink: index, Source: netip.MustParseAddr("2001:db8:1::10")}
	eam := Diversion{Prefix: netip.MustParsePrefix("2001:db8:cccc::/124"), TUN: d.Index}
	leads := func(a string) int {
		rs, err := k.handle.RouteGet(net.ParseIP(a))
		must(t, err)
		return rs[0].LinkIndex
	}
	if o := observeForwarding(t, k, clatAddr); len(o.Forwarding.Diverted) != 0 {
		t.Errorf("diverted before: %v", o.Forwarding.Diverted)
	}
	for range 2 { // twice is once
		must(t, k.Divert(address))
		must(t, k.Divert(eam))
		o := observeForwarding(t, k, clatAddr)
		if len(o.Forwarding.Diverted) != 2 || !slices.Contains(o.Forwarding.Diverted, address) || !slices.Contains(o.Forwarding.Diverted, eam) {
			t.Errorf("diverted: %v", o.Forwarding.Diverted)
		}
	}
	old := address
	address.Source = netip.MustParseAddr("2001:db8:1::11")
	addAddr(t, k, l, "2001:db8:1::11/64", unix.IFA_F_NODAD)
	must(t, k.Divert(address))
	if o := observeForwarding(t, k, clatAddr); slices.Contains(o.Forwarding.Diverted, old) || !slices.Contains(o.Forwarding.Diverted, address) {
		t.Errorf("after a change of source: %v", o.Forwarding.Diverted)
	}
	if leads(clatAddr.String()) != d.Index || leads("2001:db8:cccc::3") != d.Index {
		t.Error("packets do not go into the TUN")
	}
	if via, err := k.Leads(d.Index, clatAddr, netip.MustParseAddr("64:ff9b::1")); err != nil || via != index {
		t.Errorf("what comes from the TUN leads to %d, %v", via, err)
	}
	if _, ok := observe(t, k).addr(index, clatAddr); !ok {
		t.Error("the address is gone")
	}
	if !strings.Contains(groups(t), "ff0200000000000000000001ff00c1a7") {
		t.Errorf("not in the solicited-node group:\n%s", groups(t))
	}

	// The kernel delivers the address again when the link comes back; other
	// hands remove the entry.
	must(t, k.handle.RouteAdd(&netlink.Route{LinkIndex: index, Dst: ipNet(clatAddr), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}))
	if o := observeForwarding(t, k, clatAddr); slices.Contains(o.Forwarding.Diverted, address) {
		t.Error("delivered locally, and believed to be diverted")
	}
	must(t, k.Divert(address))
	must(t, k.delProxy(index, clatAddr))
	if o := observeForwarding(t, k, clatAddr); slices.Contains(o.Forwarding.Diverted, address) {
		t.Error("no proxy entry, and believed to be diverted")
	}
	must(t, k.Divert(address))

	for range 2 {
		must(t, k.Undivert(address))
		must(t, k.Undivert(eam))
	}
	must(t, k.DelCLATAddr(index, clatAddr))
	if p, err := k.handle.NeighProxyList(0, unix.AF_INET6); err != nil || len(p) != 0 {
		t.Errorf("proxy entries left: %v %v", p, err)
	}
	if got := strings.Replace(before, "ff0200000000000000000001ff00c1a7", "", 1); strings.Contains(groups(t), "ff00c1a7") || got == before {
		t.Errorf("still in the group:\n%s", groups(t))
	}
	if leads(clatAddr.String()) != index {
		t.Error("the way into the TUN is still there")
	}
}

// The rule and its route lead what comes from the TUN by the uplink, and are
// found again after a kill.
func TestKernelWay(t *testing.T) {
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0", "lan0")
	other, _ := addVeth(t, k, "eth0", "eth1")
	index := l.Attrs().Index
	zero6 := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	must(t, k.handle.RouteAdd(&netlink.Route{Dst: zero6, LinkIndex: other.Attrs().Index, Priority: 1}))
	// As a VPN does: a rule before the main table.
	must(t, k.handle.RouteAdd(&netlink.Route{Dst: zero6, LinkIndex: other.Attrs().Index, Table: 51820}))
	vpn := netlink.NewRule()
	vpn.Family, vpn.Priority, vpn.Table = unix.AF_INET6, 100, 51820
	must(t, k.handle.RuleAdd(vpn))
	d, err := tun.Open("clat0", 1)
	must(t, err)
	defer d.Close()
	must(t, k.SetTUN(TUNLink{Index: d.Index, Alias: aliasPrefix + "wlan0", MTU: 1500, IPv4: netip.MustParseAddr("192.0.0.1")}))
	must(t, k.Divert(Diversion{Prefix: netip.PrefixFrom(clatAddr, 128), TUN: d.Index}))
	if rs, err := k.handle.RouteGet(net.IP(clatAddr.AsSlice())); err != nil || rs[0].LinkIndex != d.Index {
		t.Errorf("a VPN comes before the way into the TUN: %v %v", rs, err)
	}
	leads := func() int {
		t.Helper()
		link, err := k.Leads(d.Index, clatAddr, netip.MustParseAddr("64:ff9b::1"))
		must(t, err)
		return link
	}
	if leads() != other.Attrs().Index {
		t.Error("this test proves nothing")
	}
	way := Route{IPv6: true, Link: index, Gateway: netip.MustParseAddr("fe80::1"), Metric: TableForwarding, Table: TableForwarding, Protocol: Protocol}
	next := way
	next.Gateway = netip.MustParseAddr("fe80::2")
	for _, r := range []Route{way, next, next} {
		must(t, k.AddRoute(r))
		must(t, k.AddRule("clat0"))
	}
	o := observeForwarding(t, k)
	if !o.Forwarding.Rule || !slices.Contains(o.Routes, next) || slices.Contains(o.Routes, way) {
		t.Errorf("rule %v, routes %+v", o.Forwarding.Rule, o.Routes)
	}
	if leads() != index {
		t.Error("the rule does not lead to the uplink")
	}
	if o.hasIPv6Default(index) {
		t.Error("our own route makes an uplink")
	}
	d.Close() // as a kill does; rules stay
	_, _, err = CleanUp(k, nil)
	must(t, err)
	if o := observeForwarding(t, k); o.Forwarding.Rule || slices.Contains(o.Routes, next) {
		t.Errorf("left behind: rule %v, routes %+v", o.Forwarding.Rule, o.Routes)
	}
	rules, err := k.handle.RuleList(unix.AF_INET6)
	must(t, err)
	if len(rules) != 3 {
		t.Errorf("rules %v", rules)
	}
	must(t, k.DelRule("clat0"))
	must(t, k.DelRoute(next))
}

// Both ways to forward, set and restored as after a kill; the names of links
// may have dots.
func TestKernelForwardingRestored(t *testing.T) {
	for name, withForce := range map[string]bool{"force_forwarding": true, "all.forwarding": false} {
		t.Run(name, func(t *testing.T) {
			k := enterNetns(t)
			l, _ := addVeth(t, k, "wlan0.7", "lan0")
			addVeth(t, k, "br0", "br1")
			must(t, k.SetSysctl(Sysctl{"br0", ipForwarding}, 1))
			must(t, k.SetSysctl(Sysctl{"wlan0.7", acceptRA}, 1))
			must(t, k.AddCLATAddr(l.Attrs().Index, clatAddr))
			waitAddr(t, k, l.Attrs().Index, clatAddr, func(a Addr) bool { return !a.Tentative })

			o := observeForwarding(t, k)
			before := o.Forwarding.Sysctls
			if _, ok := before[Sysctl{newLinks, forceForwarding}]; withForce && !ok {
				t.Skip("needs Linux 6.17: force_forwarding")
			}
			if !withForce {
				for s := range before {
					if s.Key == forceForwarding {
						delete(before, s)
					}
				}
			}
			uplink, _ := o.linkByName("wlan0.7")
			path := filepath.Join(t.TempDir(), "journal")
			j, err := OpenJournal(path)
			must(t, err)
			must(t, j.Add("wlan0.7", clatAddr))
			for _, s := range o.forwarding(uplink, "clat0").Settings {
				if s.Link == "clat0" {
					continue
				}
				must(t, j.Set(s.Change))
				if !s.Implied {
					must(t, k.SetSysctl(s.Sysctl, s.Is))
				}
			}
			must(t, k.handle.LinkSetUp(byName(t, k, "lo"))) // in the place of the TUN
			must(t, k.Divert(Diversion{Prefix: netip.PrefixFrom(clatAddr, 128), TUN: 1, Uplink: l.Attrs().Index}))
			during := observeForwarding(t, k).Forwarding.Sysctls
			if withForce && during[Sysctl{"wlan0.7", forceForwarding}] != 1 || !withForce && (during[Sysctl{allLinks, ipForwarding}] != 1 || during[Sysctl{"wlan0.7", acceptRA}] != 2) {
				t.Errorf("sysctls %v", during)
			}
			// Other hands.
			must(t, k.SetSysctl(Sysctl{allLinks, proxyNDP}, 0))

			j.f.Close() // as a kill does
			j, err = OpenJournal(path)
			must(t, err)
			removed, restored, err := CleanUp(k, j)
			must(t, err)
			if len(removed) != 1 || len(restored) == 0 || len(j.Changes()) != 0 || len(j.Entries()) != 0 {
				t.Errorf("removed %v, restored %v, still in the journal: %v %v", removed, restored, j.Changes(), j.Entries())
			}
			must(t, j.Close())
			after := observeForwarding(t, k).Forwarding.Sysctls
			for s, v := range before {
				if after[s] != v {
					t.Errorf("%s: %d before, %d after", s, v, after[s])
				}
			}
			if p, err := k.handle.NeighProxyList(0, unix.AF_INET6); err != nil || len(p) != 0 {
				t.Errorf("proxy entries left: %v %v", p, err)
			}
		})
	}
}

func TestKernelSysctlGone(t *testing.T) {
	k := enterNetns(t)
	s := Sysctl{"gone0", acceptRA}
	if _, err := k.Sysctl(s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if err := k.SetSysctl(s, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write: %v", err)
	}
}

// Forwarding is not in what links, addresses or routes report.
func TestWatchReportsForwarding(t *testing.T) {
	k := enterNetns(t)
	calls := make(chan struct{}, 100)
	must(t, Watch(t.Context(), func() { calls <- struct{}{} }))
	must(t, k.SetSysctl(Sysctl{newLinks, ipForwarding}, 1))
	select {
	case <-calls:
	case <-time.After(5 * time.Second):
		t.Error("a change of forwarding was not reported")
	}
}
