package plat

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/needs"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enterNetns puts the test into a network namespace of its own, with the links wan0,
// wan1 (203.0.113.1, 192.0.2.1) and nat64.
func enterNetns(t *testing.T) (h *netlink.Handle) {
	t.Helper()
	needs.Netns(t)
	ip(t, `link set lo up; link add wan0 type veth peer name wan1; link set wan0 up; link set wan1 up; tuntap add nat64 mode tun; link set nat64 up;
		addr add 203.0.113.1/24 dev wan0; addr add 192.0.2.1/24 dev wan1`)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// ip runs commands of ip(8) in the test's namespace, separated by semicolons.
func ip(t *testing.T, commands string) {
	t.Helper()
	c := exec.Command("ip", "-batch", "-")
	c.Stdin = strings.NewReader(strings.ReplaceAll(commands, ";", "\n") + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", commands, err, out)
	}
}

// TestDefaultOutside finds the interfaces towards IPv4 with the kernel reporting next
// hops of nexthop objects, and without.
func TestDefaultOutside(t *testing.T) {
	for _, c := range []struct{ name, commands, want string }{
		{"no route", "", ""},
		{"default route", "route add default via 203.0.113.2", "wan0"},
		{"best metric", "route add default via 203.0.113.2 metric 7; route add default via 192.0.2.2 metric 3", "wan1"},
		{"multipath", "route add default nexthop via 203.0.113.2 nexthop via 192.0.2.2", "wan0 wan1"},
		{"unreachable", "route add unreachable default", ""},
		{"our own TUN", "route add default dev nat64", ""},
		{"nexthop object", "nexthop add id 1 via 203.0.113.2 dev wan0; route add default nhid 1", "wan0"},
		{
			"group of nexthop objects",
			"nexthop add id 1 via 203.0.113.2 dev wan0; nexthop add id 2 via 192.0.2.2 dev wan1; nexthop add id 3 group 1/2; route add default nhid 3",
			"wan0 wan1",
		},
		{
			"nexthop object with the best metric",
			"nexthop add id 1 via 203.0.113.2 dev wan0; route add default nhid 1 metric 1; route add default via 192.0.2.2 metric 5",
			"wan0",
		},
		{"blackhole nexthop object", "nexthop add id 1 blackhole; route add default nhid 1", ""},
		{"another table", "route add default via 192.0.2.2 table 100; rule add lookup 100", "wan1"},
		{"halves", "route add default via 203.0.113.2; route add 0.0.0.0/1 via 192.0.2.2; route add 128.0.0.0/1 via 192.0.2.2", "wan0 wan1"},
	} {
		for _, mode := range []string{"1", "0"} {
			t.Run(c.name+"/nexthop_compat_mode "+mode, func(t *testing.T) {
				t.Parallel()
				h := enterNetns(t)
				if err := os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(mode), 0); err != nil {
					t.Fatal(err)
				}
				ip(t, c.commands)
				o, err := observe(h, Config{TUN: "nat64"})
				if err != nil || !slices.Equal(o.outside, strings.Fields(c.want)) {
					t.Errorf("%q, %v, want %q", o.outside, err, c.want)
				}
			})
		}
	}
}

// TestSubscribeHost reports what changes the interfaces towards IPv4.
func TestSubscribeHost(t *testing.T) {
	enterNetns(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	ip(t, "nexthop add id 1 via 203.0.113.2 dev wan0; route add default nhid 1")
	done := make(chan struct{})
	defer close(done)
	events, err := subscribeHost(done)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		"nexthop replace id 1 via 192.0.2.2 dev wan1", "rule add lookup 100", "route add 0.0.0.0/1 via 192.0.2.2 table 100", "addr add 192.0.2.3/24 dev wan1",
		"link set wan1 mtu 1400",
	} {
		for quiet := false; !quiet; { // what was before has been reported
			select {
			case <-events:
			case <-time.After(200 * time.Millisecond):
				quiet = true
			}
		}
		ip(t, command)
		select {
		case _, ok := <-events:
			if !ok {
				t.Fatalf("ip %s: the subscription has ended", command)
			}
		case <-time.After(time.Minute):
			t.Errorf("ip %s: no event", command)
		}
	}
}
