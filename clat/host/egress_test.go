package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tnat64d/clat"
	"tnat64d/clat/plan"
)

// ip runs commands of iproute2 in the network namespace of the test's thread.
func ip(t *testing.T, commands string) {
	t.Helper()
	for _, line := range strings.Split(commands, ";") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", line, err, out)
		}
	}
}

// TestNativeIPv4 asks a real kernel.
func TestNativeIPv4(t *testing.T) {
	for _, c := range []struct {
		name   string
		setUp  string
		native bool
	}{
		{"no route", "addr add 192.0.2.2/24 dev eth0", false},
		{"by a gateway", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1", true},
		{"a metric worse than another link's", "addr add 192.0.2.2/24 dev eth0; addr add 10.7.0.2/24 dev eth1; route add default via 10.7.0.1; route add default via 192.0.2.1 metric 50000", true},
		{"on another link", "addr add 192.0.2.2/24 dev eth0; addr add 10.7.0.2/24 dev eth1; route add default via 10.7.0.1", false},
		{"IPv4LL", "addr add 169.254.7.7/16 dev eth0; route add default dev eth0 scope link src 169.254.7.7 metric 1001002", false},
		{"IPv4LL before a global address", "addr add 169.254.7.7/16 dev eth0; addr add 192.0.2.2/24 dev eth0; route add default dev eth0 scope link src 169.254.7.7 metric 10; route add default via 192.0.2.1 metric 600", false},
		{"IPv4LL behind a global address", "addr add 169.254.7.7/16 dev eth0; addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 metric 600; route add default dev eth0 scope link src 169.254.7.7 metric 1001002", true},
		{"no address", "route add default dev eth0 scope link", false},
		{"an address of another link", "addr add 172.17.0.1/16 dev eth1; route add default dev eth0 scope link", false},
		{"an address on lo and an IPv6 next hop", "addr add 203.0.113.5/32 dev lo; -4 route add 0.0.0.0/0 via inet6 fe80::1 dev eth0", true},
		{"an address of another link that the route names", "addr add 203.0.113.5/32 dev eth1; -4 route add 0.0.0.0/0 via inet6 fe80::1 dev eth0 src 203.0.113.5", true},
		{"point to point", "addr add 10.64.64.64 peer 10.64.64.65 dev eth0; route add default dev eth0", true},
		{"two halves", "addr add 192.0.2.2/24 dev eth0; route add 0.0.0.0/1 via 192.0.2.1; route add 128.0.0.0/1 via 192.0.2.1", true},
		{"one half", "addr add 192.0.2.2/24 dev eth0; route add 0.0.0.0/1 via 192.0.2.1", false},
		{"private networks alone", "addr add 192.0.2.2/24 dev eth0; route add 10.0.0.0/8 via 192.0.2.1; route add 172.16.0.0/12 via 192.0.2.1", false},
		{"blackhole", "addr add 192.0.2.2/24 dev eth0; route add blackhole default", false},
		{"unreachable before a gateway", "addr add 192.0.2.2/24 dev eth0; route add unreachable default metric 5; route add default via 192.0.2.1 metric 600", false},
		{"prohibit behind a gateway", "addr add 192.0.2.2/24 dev eth0; route add prohibit default metric 700; route add default via 192.0.2.1 metric 600", true},
		{"multipath", "addr add 192.0.2.2/24 dev eth0; addr add 10.7.0.2/24 dev eth1; route add default nexthop via 10.7.0.1 nexthop via 192.0.2.1", true},
		{"a table by a rule for the source", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 table 100; rule add from 192.0.2.2 lookup 100", true},
		{"a table by a rule for a mark", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 table 100; rule add fwmark 7 lookup 100", true},
		{"a table by a rule for a user", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 table 100; rule add uidrange 500-600 lookup 100", true},
		{"a table by a rule for a port", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 table 100; rule add ipproto 6 dport 443 lookup 100", true},
		{"a table that no rule leads to", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 table 100", false},
		{"a rule for another network", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 table 100; rule add to 10.0.0.0/8 lookup 100", false},
		{"a rule that forbids before main", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1; rule add pref 100 unreachable", false},
		{"a VPN beside it, as wg-quick does", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1; addr add 10.8.0.2/24 dev eth1; route add default dev eth1 table 51820; rule add not fwmark 51820 lookup 51820; rule add table main suppress_prefixlength 0", true},
		{"a VPN's halves on another link", "addr add 10.8.0.2/24 dev eth1; addr add 192.0.2.2/24 dev eth0; route add 0.0.0.0/1 dev eth1; route add 128.0.0.0/1 dev eth1", false},
		{"no carrier", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1; link set to-eth0 down", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRealBench(t)
			b.uplink("eth0", "2001:db8:1::", 100)
			addVeth(t, b.k, "eth1", "to-eth1")
			ip(t, c.setUp)
			waitForCarrier(t, b.k, "eth0", "to-eth0")
			o := observe(t, b.k)
			l, _ := o.LinkByName("eth0")
			if got := o.NativeIPv4(l.Index); got != c.native {
				t.Errorf("native IPv4 is %t; routes %+v, answers %+v", got, o.Routes, o.Egress4)
			}
		})
	}
}

// waitForCarrier waits until the kernel has told a link that its peer is up or
// down, which it does a little later (linkwatch).
func waitForCarrier(t *testing.T, k *Host, name, peer string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		l, err := k.kernel.handle.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := k.kernel.handle.LinkByName(peer)
		if err != nil {
			t.Fatal(err)
		}
		up := p.Attrs().Flags&net.FlagUp != 0
		if a := l.Attrs(); (a.OperState == netlink.OperUp) == up {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%s is %s while %s is up: %t", name, a.OperState, peer, up)
		}
	}
}

// TestNativeIPv4InVRF has the uplink in a VRF, the table of which is found by
// the interface.
func TestNativeIPv4InVRF(t *testing.T) {
	b := newRealBench(t)
	if err := exec.Command("ip", "link", "add", "red", "type", "vrf", "table", "77").Run(); err != nil {
		if os.Getenv("TNAT64_REQUIRE_PRIVILEGED") != "" {
			t.Log("this kernel has no VRF: ", err)
		}
		t.Skip("needs a kernel with VRF: ", err)
	}
	b.uplink("eth0", "2001:db8:1::", 100)
	ip(t, `link set red up; link set eth0 master red; addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1 table 77;
		-6 addr add 2001:db8:1::10/64 dev eth0 nodad; -6 route add default via 2001:db8:1::1 dev eth0 table 77`)
	o := observe(t, b.k)
	l, _ := o.LinkByName("eth0")
	if !o.NativeIPv4(l.Index) || !o.HasIPv6Default(l.Index) {
		t.Errorf("native IPv4 %t, IPv6 %t; routes %+v, answers %+v", o.NativeIPv4(l.Index), o.HasIPv6Default(l.Index), o.Routes, o.Egress4)
	}
}

// TestIPv6DefaultRoute is about what makes a link an uplink.
func TestIPv6DefaultRoute(t *testing.T) {
	for _, c := range []struct {
		name, setUp string
		uplink      bool
	}{
		{"none", "", false},
		{"in main", "-6 route add default via 2001:db8:1::1", true},
		{"all global addresses", "-6 route add 2000::/3 via 2001:db8:1::1", true},
		{"in halves", "-6 route add ::/1 via 2001:db8:1::1; -6 route add 8000::/1 via 2001:db8:1::1", true},
		{"a part", "-6 route add 2000::/4 via 2001:db8:1::1", false},
		{"by a rule for the source", "-6 route add default via 2001:db8:1::1 table 100; -6 rule add from 2001:db8:1::/64 lookup 100", true},
		{"in a table before main", "-6 route add default via 2001:db8:1::1 table 100; -6 rule add pref 100 lookup 100", true},
		{"in a table that no rule leads to", "-6 route add default via 2001:db8:1::1 table 100", false},
		{"no carrier", "-6 route add default via 2001:db8:1::1; link set to-eth0 down", false},
		{"unreachable", "-6 route add unreachable default", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRealBench(t)
			addVeth(t, b.k, "eth0", "to-eth0")
			ip(t, "-6 addr add 2001:db8:1::10/64 dev eth0 nodad;"+c.setUp)
			waitForCarrier(t, b.k, "eth0", "to-eth0")
			o := observe(t, b.k)
			if got := len(plan.Make(o, b.conf).Uplinks) == 1; got != c.uplink {
				t.Errorf("uplink %t; routes %+v", got, o.Routes)
			}
		})
	}
}

// TestOnLinkNetworks finds networks that are reached without a router.
func TestOnLinkNetworks(t *testing.T) {
	b := newRealBench(t)
	b.uplink("eth0", "2001:db8:1::", 100)
	ip(t, "addr add 192.0.2.2/24 dev eth0; addr add 10.1.1.1 peer 10.1.1.2/32 dev eth0; route add 192.0.0.4/31 dev eth0; route add 10.99.0.0/16 dev eth0; route add 10.98.0.0/16 dev eth0 table 100;"+
		"route add 128.0.0.0/1 dev eth0; route add 192.0.0.0/24 via 192.0.2.1; route add 10.97.0.0/16 via 192.0.2.1; route add unreachable 10.96.0.0/16; route add default via 192.0.2.1")
	var got []string
	for _, n := range observe(t, b.k).OnLink4 {
		got = append(got, n.Prefix.String())
	}
	slices.Sort(got)
	if want := []string{"10.1.1.2/32", "10.98.0.0/16", "10.99.0.0/16", "192.0.0.4/31", "192.0.2.0/24"}; !slices.Equal(got, want) {
		t.Errorf("networks are %v, want %v", got, want)
	}
}

// TestRoutedNetworks finds private networks behind routers.
func TestRoutedNetworks(t *testing.T) {
	b := newRealBench(t)
	b.uplink("eth0", "2001:db8:1::", 100)
	addVeth(t, b.k, "eth1", "to-eth1")
	ip(t, "addr add 192.0.2.2/24 dev eth0; addr add 192.168.1.2/24 dev eth1; route add 10.5.0.0/16 via 192.168.1.1; route add 172.20.1.1 via 192.0.2.1; -4 route add 100.64.1.0/24 via inet6 fe80::1 dev eth1;"+
		"route add 10.6.0.0/16 nexthop via 192.168.1.1 nexthop via 192.0.2.1; nexthop add id 7 via 192.168.1.1 dev eth1; route add 10.7.0.0/16 nhid 7;"+
		"route add 203.0.113.0/24 via 192.168.1.1; route add 10.0.0.0/7 via 192.168.1.1; route add 128.0.0.0/1 via 192.168.1.1; route add default via 192.168.1.1;"+
		"route add 10.8.0.0/16 via 192.168.1.1 table 100; route add unreachable 10.9.0.0/16; route add 10.10.0.0/16 dev eth1; route add 10.11.0.0/16 via 192.168.1.1 proto 64")
	for _, compat := range []string{"1", "0"} {
		must(t, os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(compat), 0))
		o := observe(t, b.k)
		var got []string
		for _, n := range o.Routed4 {
			got = append(got, n.Prefix.String()+" "+o.LinkName(n.Link))
		}
		slices.Sort(got)
		want := []string{"10.5.0.0/16 eth1", "10.6.0.0/16 eth0", "10.6.0.0/16 eth1", "10.7.0.0/16 eth1", "100.64.1.0/24 eth1", "172.20.1.1/32 eth0"}
		if !slices.Equal(got, want) {
			t.Errorf("compatibility %s: networks are %v, want %v", compat, got, want)
		}
	}
}

// TestAddLargest bounds the networks and keeps the larger ones.
func TestAddLargest(t *testing.T) {
	var ns []plan.OnLink
	for i := range 2 * maxOnLink {
		for _, bits := range []int{32, 8 + i%17} {
			ns = addLargest(ns, plan.OnLink{Link: 1, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), bits)})
		}
	}
	if len(ns) != maxOnLink {
		t.Errorf("%d networks", len(ns))
	}
	for _, n := range ns {
		if n.Prefix.Bits() > 16 {
			t.Fatalf("%s is there", n.Prefix)
		}
	}
}

// TestDefaultTables asks a real kernel in which tables ordinary packets find their
// default route.
func TestDefaultTables(t *testing.T) {
	const useless = "addr add 169.254.7.7/16 dev eth0; route add default dev eth0 scope link src 169.254.7.7 table 1234"
	const halves = "route add 0.0.0.0/1 dev eth1 table 1234; route add 128.0.0.0/1 dev eth1 table 1234"
	rule := func(setUp string) (priority int) {
		_, after, _ := strings.Cut(setUp, "rule add pref ")
		fmt.Sscan(after, &priority)
		return priority
	}
	for _, c := range []struct {
		name, setUp string
		want        []int
	}{
		{"main alone", "addr add 192.0.2.2/24 dev eth0; route add default via 192.0.2.1", nil},
		{"before main", useless + "; rule add pref 1000 lookup 1234", []int{1234}},
		{"behind main", useless + "; rule add pref 40000 lookup 1234", []int{1234}},
		{"behind a default route of main", useless + "; rule add pref 40000 lookup 1234; route add default dev eth1 scope link", []int{plan.TableMain}},
		{"no rule", useless, nil},
		{"for a source", useless + "; rule add from 169.254.7.7 lookup 1234", nil},
		{"for a mark", useless + "; rule add fwmark 7 lookup 1234", nil},
		{"suppressed", useless + "; rule add pref 1000 lookup 1234 suppress_prefixlength 0", nil},
		{"halves before main", halves + "; rule add pref 1000 lookup 1234", []int{1234}},
		{"halves that are not suppressed", halves + "; rule add pref 1000 lookup 1234 suppress_prefixlength 0", []int{1234}},
		{"a part before main", "route add 16.0.0.0/4 dev eth1 table 1234; rule add pref 1000 lookup 1234", []int{1234}},
		{"a network before main", "route add 16.0.0.0/8 dev eth1 table 1234; rule add pref 1000 lookup 1234", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRealBench(t)
			b.uplink("eth0", "2001:db8:1::", 100)
			addVeth(t, b.k, "eth1", "to-eth1")
			ip(t, c.setUp)
			o := observe(t, b.k)
			var got []int
			for _, table := range o.DefaultTables4 {
				got = append(got, table.Table)
				if want := rule(c.setUp); table.Table == 1234 && table.Rule != want {
					t.Errorf("rule %d leads to table %d, want %d", table.Rule, table.Table, want)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("tables %v, want %v; routes %+v", got, c.want, o.Routes)
			}
		})
	}
}

// TestUselessParts has parts of a default route by which nothing is reached: where
// ordinary packets would take them they take ours. Parts that are of use stay.
func TestUselessParts(t *testing.T) {
	const (
		first, second = "44.61.157.33", "217.119.206.54"
		linkLocal     = "addr add 169.254.7.7/16 dev eth0; "
	)
	for _, c := range []struct {
		name, setUp string
		ours        map[string]bool // whether packets leave by the CLAT
	}{
		{"none", "", map[string]bool{first: true, second: true}},
		{"halves from a link-local address", linkLocal + "route add 0.0.0.0/1 dev eth0 src 169.254.7.7; route add 128.0.0.0/1 dev eth0 src 169.254.7.7 metric 9", map[string]bool{first: true, second: true}},
		{"halves without an address", "route add 0.0.0.0/1 dev eth1; route add 128.0.0.0/1 dev eth1", map[string]bool{first: true, second: true}},
		{"halves without a carrier", "addr add 192.0.2.2/24 dev eth1; route add 0.0.0.0/1 via 192.0.2.1; route add 128.0.0.0/1 via 192.0.2.1; link set to-eth1 down", map[string]bool{first: true, second: true}},
		{"quarters", "route add 0.0.0.0/2 dev eth1; route add 64.0.0.0/2 dev eth1; route add 128.0.0.0/2 dev eth1; route add 192.0.0.0/2 dev eth1", map[string]bool{first: true, "99.203.118.71": true, "151.199.83.205": true, second: true}},
		{"a part in which no usual probe is", "route add 16.0.0.0/4 dev eth1", map[string]bool{"17.1.1.1": true, first: true}},
		{"halves in a table before main", "route add 0.0.0.0/1 dev eth1 table 1234; route add 128.0.0.0/1 dev eth1 table 1234; rule add pref 1000 lookup 1234", map[string]bool{first: true, second: true}},
		{"a half and a whole in a table before main", "route add 0.0.0.0/1 dev eth1 table 1234; route add default dev eth1 table 1234 metric 5; rule add pref 1000 lookup 1234", map[string]bool{first: true, second: true}},
		{"halves of use on another link", "addr add 192.0.2.2/24 dev eth1; route add 0.0.0.0/1 via 192.0.2.1; route add 128.0.0.0/1 via 192.0.2.1", map[string]bool{first: false, second: false}},
		{"halves of use in a table before main", "addr add 192.0.2.2/24 dev eth1; route add 0.0.0.0/1 via 192.0.2.1 table 1234; route add 128.0.0.0/1 via 192.0.2.1 table 1234; rule add pref 1000 lookup 1234", map[string]bool{first: false, second: false}},
		{"one half of use", "addr add 192.0.2.2/24 dev eth1; route add 0.0.0.0/1 via 192.0.2.1; route add 128.0.0.0/1 dev eth0", map[string]bool{first: false, second: true}},
		{"halves of a tunnel", "addr add 10.9.0.2/24 dev eth1; tuntap add dev tunnel mode tun; link set tunnel up; addr add 10.8.0.2/32 dev tunnel; route add 0.0.0.0/1 dev tunnel; route add 128.0.0.0/1 dev tunnel", map[string]bool{first: false, second: false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRealBench(t)
			b.uplink("eth0", "2001:db8:1::", 100)
			addVeth(t, b.k, "eth1", "to-eth1")
			b.until(clat.Up)
			ip(t, c.setUp)
			if strings.Contains(c.setUp, "down") {
				waitForCarrier(t, b.k, "eth1", "to-eth1")
			}
			b.until(clat.Up)
			tun := byName(t, b.k, "clat0").Attrs().Index
			wantOurs := func() {
				t.Helper()
				for a, want := range c.ours {
					r, ok := b.k.getRoute(netip.MustParseAddr(a), 0, flow{}, 0)
					if got := ok && r.link == tun; got != want {
						t.Errorf("packets to %s leave by %+v, %t; routes %+v", a, r, ok, b.o.Routes)
					}
				}
			}
			wantOurs()
			b.until(clat.Up)
			if b.pass(); !slices.Equal(b.o.Routes, observe(t, b.k).Routes) {
				t.Errorf("the routes keep changing: %+v", b.o.Routes)
			}
			wantOurs()
			must(t, b.rec.Down())
			for _, r := range observe(t, b.k).Routes {
				if r.Protocol == plan.Protocol {
					t.Errorf("left behind: %+v", r)
				}
			}
		})
	}
}

// TestNativeIPv4BehindMain has native IPv4 of another link in a table to which a rule
// leads after main: it goes before the CLAT, which does not hide it either when it
// comes later, and takes over when it goes.
func TestNativeIPv4BehindMain(t *testing.T) {
	const address = "addr add 192.0.2.2/24 dev eth1; "
	for _, c := range []struct {
		name, setUp, remove string
		native              bool
	}{
		{"table default", address + "route add default via 192.0.2.1 table default", "route del default table default", true},
		{"a rule behind main", address + "route add default via 192.0.2.1 table 1234; rule add pref 40000 lookup 1234", "rule del pref 40000", true},
		{"a worse metric than ours", address + "route add default via 192.0.2.1 table default metric 5000", "link set eth1 down", true},
		{"halves", address + "route add 0.0.0.0/1 via 192.0.2.1 table default; route add 128.0.0.0/1 via 192.0.2.1 table default", "addr del 192.0.2.2/24 dev eth1", true},
		{"no carrier", address + "route add default via 192.0.2.1 table default; link set to-eth1 down", "", false},
		{"no address", "route add default dev eth1 table default", "", false},
		{"no rule for every program", address + "route add default via 192.0.2.1 table 1234; rule add pref 40000 from 192.0.2.2 lookup 1234", "", false},
		{"behind a useless route of main", address + "route add default via 192.0.2.1 table default; addr add 169.254.7.7/16 dev eth0; route add default dev eth0 scope link src 169.254.7.7", "", false},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first %t", c.name, first), func(t *testing.T) {
				b := newRealBench(t)
				b.uplink("eth0", "2001:db8:1::", 100)
				addVeth(t, b.k, "eth1", "to-eth1")
				waitForCarrier(t, b.k, "eth1", "to-eth1")
				if first {
					ip(t, c.setUp)
				}
				b.until(clat.Up)
				if !first {
					ip(t, c.setUp)
				}
				if strings.Contains(c.setUp, "down") {
					waitForCarrier(t, b.k, "eth1", "to-eth1")
				}
				tun := byName(t, b.k, "clat0").Attrs().Index
				wantOurs := func(want bool) {
					t.Helper()
					b.until(clat.Up)
					b.until(clat.Up)
					for _, to := range plan.GlobalIPv4 {
						r, ok := b.k.getRoute(to, 0, flow{}, 0)
						if got := ok && r.link == tun; !ok || got != want {
							t.Errorf("packets to %s leave by %+v, %t; routes %+v, tables %+v", to, r, ok, b.o.Routes, b.o.DefaultTables4)
						}
					}
					if r, ok := b.k.getRoute(plan.GlobalIPv4[0], 0, flow{source: netip.MustParseAddr("192.0.0.1")}, 0); !ok || r.link != tun {
						t.Errorf("packets from the CLAT's address leave by %+v, %t", r, ok)
					}
					if b.pass(); !slices.Equal(b.o.Routes, observe(t, b.k).Routes) {
						t.Errorf("the routes keep changing: %+v", b.o.Routes)
					}
				}
				wantOurs(!c.native)
				if c.remove != "" {
					ip(t, c.remove)
					wantOurs(true)
				}
				must(t, b.rec.Down())
				for _, r := range observe(t, b.k).Routes {
					if r.Protocol == plan.Protocol {
						t.Errorf("left behind: %+v", r)
					}
				}
			})
		}
	}
}

// TestPrependedRoute has another program's default route with metric 0.
func TestPrependedRoute(t *testing.T) {
	b := newRealBench(t)
	b.uplink("eth0", "2001:db8:1::", 100)
	ip(t, "addr add 169.254.7.7/16 dev eth0; route add default dev eth0 scope link src 169.254.7.7")
	_, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
	r := plan.Route{Link: l.Index, Source: l.IPv4, MTU: 1480, Table: plan.TableMain, Protocol: plan.Protocol}
	for range 2 {
		must(t, b.k.AddRoute(r))
	}
	got, ok := b.k.getRoute(plan.GlobalIPv4[0], 0, flow{}, 0)
	if !ok || got.link != l.Index || got.source != l.IPv4 {
		t.Errorf("packets leave by %+v, %t", got, ok)
	}
}
