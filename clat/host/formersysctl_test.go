package host

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/plan"
)

// A former version was killed while the kernel forwarded for it: this start
// restores the sysctls, unless another program has changed them since, and
// removes the rule, the routes and the proxy neighbour.
func TestCleanUpOfFormerVersion(t *testing.T) {
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0.7", "lan0")
	addVeth(t, k, "br0", "br1")
	set := func(link, key string, value int) {
		t.Helper()
		must(t, os.WriteFile(sysctlPath("ipv6", link, key), []byte(strconv.Itoa(value)), 0))
	}
	get := func(link, key string) string {
		t.Helper()
		b, err := os.ReadFile(sysctlPath("ipv6", link, key))
		must(t, err)
		return strings.TrimSpace(string(b))
	}
	set("br0", "forwarding", 1)
	set("wlan0.7", "accept_ra", 2)
	set("all", "forwarding", 1)
	set("all", "proxy_ndp", 0) // changed to 1 once, and back by another program
	must(t, k.AddCLATAddr(l.Attrs().Index, clatAddr, false))
	waitAddr(t, k, l.Attrs().Index, clatAddr, func(a plan.Addr) bool { return !a.Tentative })
	must(t, k.kernel.handle.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: unix.AF_INET6, Flags: netlink.NTF_PROXY, IP: clatAddr.AsSlice()}))
	must(t, k.kernel.handle.RouteAdd(&netlink.Route{
		LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		Table: plan.Protocol, Priority: plan.Protocol, Protocol: plan.Protocol,
	}))
	rule := netlink.NewRule()
	rule.Family, rule.Protocol, rule.Priority, rule.Table, rule.IifName = unix.AF_INET6, plan.Protocol, plan.Protocol, plan.Protocol, "clat0"
	must(t, k.kernel.handle.RuleAdd(rule))

	path := filepath.Join(t.TempDir(), "journal")
	must(t, os.WriteFile(path, []byte(`add wlan0.7 `+clatAddr.String()+`
set wlan0.7 accept_ra 1 2
set br0 forwarding 1 0
set gone0 accept_ra 1 2
set all forwarding 0 1
set all proxy_ndp 0 1
`), 0o600))
	j, err := clat.OpenJournal(path)
	must(t, err)
	t.Cleanup(func() { j.Close() })
	removed, restored, err := clat.CleanUp(k, j)
	must(t, err)
	if len(removed) != 1 || len(restored) != 3 || len(j.Changes()) != 0 || len(j.Entries()) != 0 {
		t.Errorf("removed %v, restored %v, still in the journal: %v %v", removed, restored, j.Changes(), j.Entries())
	}
	for _, c := range []struct{ link, key, want string }{
		{"all", "forwarding", "0"}, {"wlan0.7", "accept_ra", "1"}, {"all", "proxy_ndp", "0"}, {"br0", "forwarding", "1"},
	} {
		if got := get(c.link, c.key); got != c.want {
			t.Errorf("%s.%s is %s, want %s", c.link, c.key, got, c.want)
		}
	}
	if p, err := k.kernel.handle.NeighProxyList(0, unix.AF_INET6); err != nil || len(p) != 0 {
		t.Errorf("proxy neighbours left: %v %v", p, err)
	}
	if rules, err := k.kernel.handle.RuleList(unix.AF_INET6); err != nil || len(rules) != 2 {
		t.Errorf("rules left: %v %v", rules, err)
	}
	if o := observe(t, k); slices.ContainsFunc(o.Routes, func(r plan.Route) bool { return r.Protocol == plan.Protocol }) {
		t.Errorf("routes left: %v", o.Routes)
	}
}
