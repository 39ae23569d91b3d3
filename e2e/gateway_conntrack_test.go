package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// connections returns the IPv4 connections that the gateway tracks.
func (n *gatewayNet) connections() []*netlink.ConntrackFlow {
	n.t.Helper()
	ns, err := netns.GetFromName(n.prefix + "g")
	if err != nil {
		n.t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_NETFILTER)
	if err != nil {
		n.t.Fatal(err)
	}
	defer h.Close()
	all, err := h.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		n.t.Fatal(err)
	}
	return all
}

// Connections through the gateway have the timeouts of RFC 6146 section 4,
// whichever side has begun them.
func TestGatewayTimeouts(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, `
[[nat64.map]]
ipv4 = "100.64.0.9"
ipv6 = "2001:db8:1::12"
[[nat64.forward]]
outside = "203.0.113.3:8443/tcp"
inside  = "[2001:db8:1::12]:80"
`)
	n.serve("c2", "AF_INET6", 80)
	talk := func() {
		n.in("c1", curl("198.51.100.7", "")+"; ping -6 -n -c 1 -W 20 "+to("198.51.100.7"))
		n.in("s", "curl -sS -m 20 http://203.0.113.3:8443/; curl -sS -m 20 http://100.64.0.9/; ping -n -c 1 -W 20 100.64.0.9")
		n.in("s", `python3 -c '
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.sendto(b"x", ("100.64.0.9", 7777))'`)
	}
	// The kernel's own timeouts of connections that have ended, of echo and of
	// datagrams without answer are 120, 30 and 30 s.
	for _, c := range []struct {
		what        string
		protocol    uint8
		destination string
		port        uint16
		above, most uint32
	}{
		{"connection from inside", unix.IPPROTO_TCP, "198.51.100.7", 80, 120, 240},
		{"connection to a port forward", unix.IPPROTO_TCP, "203.0.113.3", 8443, 120, 240},
		{"connection to a static map", unix.IPPROTO_TCP, "100.64.0.9", 80, 120, 240},
		{"datagram to a static map", unix.IPPROTO_UDP, "100.64.0.9", 7777, 30, 120},
		{"echo from inside", unix.IPPROTO_ICMP, "198.51.100.7", 0, 30, 60},
		{"echo to a static map", unix.IPPROTO_ICMP, "100.64.0.9", 0, 30, 60},
	} {
		eventually(t, soon, func() error {
			talk()
			for _, f := range n.connections() {
				if f.Forward.Protocol == c.protocol && f.Forward.DstIP.String() == c.destination && f.Forward.DstPort == c.port && f.TimeOut > c.above && f.TimeOut <= c.most {
					return nil
				}
			}
			return fmt.Errorf("%s: no timeout between %d and %d s: %v", c.what, c.above, c.most, n.connections())
		})
	}
	if c := n.status().Conntrack; c == nil || c.Entries == 0 || c.Max < c.Entries {
		t.Errorf("connection tracking by the status: %+v", c)
	}
}

// A host that gets the address of another one gets none of its connections, be
// the address taken back or given away by another configuration.
func TestGatewayReusedAddress(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "pool = \"100.64.0.0/30\"\nmap-idle = \"3s\"\n") // one address
	const server = "198.51.100.7"
	of := func(port uint16) int {
		found := 0
		for _, f := range n.connections() {
			if f.Forward.SrcPort == port {
				found++
			}
		}
		return found
	}
	open := func(host, port string) {
		t.Helper()
		talk := n.background(t, host, `exec python3 -u -c '
import socket, time
s = socket.socket(socket.AF_INET6); s.bind(("::", `+port+`)); s.settimeout(30); s.connect(("`+to(server)+`", 80)); print("connected")
time.sleep(300)'`)
		eventually(t, soon, func() error {
			if talk.String() != "connected\n" {
				return fmt.Errorf("no connection: %s", talk.String())
			}
			return nil
		})
	}
	open("c1", "7001")
	if of(7001) != 1 {
		t.Fatalf("the connection is not tracked: %v", n.connections())
	}
	eventually(t, soon, func() error {
		if got := n.status().Maps.Dynamic; got != 0 {
			return fmt.Errorf("%d maps are left", got)
		}
		if of(7001) != 0 {
			return fmt.Errorf("the connection is still tracked")
		}
		return nil
	})
	n.reload("pool = \"100.64.0.0/30\"\n")
	open("c2", "7002")
	n.mapOf("2001:db8:1::12")
	n.daemon.Process.Signal(syscall.SIGHUP)
	n.isUp(3)
	if of(7002) != 1 {
		t.Error("the connection has not survived a reload")
	}
	n.end(syscall.SIGKILL)
	n.start()
	if of(7002) != 1 {
		t.Error("the connection has not survived a SIGKILL")
	}
	n.end(syscall.SIGKILL)
	if err := os.Remove(filepath.Join(n.dir, "maps")); err != nil {
		t.Fatal(err)
	}
	n.start()
	if of(7002) != 0 {
		t.Error("a connection of an address that is free is still tracked")
	}
}

// Connections of a pool that a reload has replaced end: nothing translates their
// answers, which would leave by the default route.
func TestGatewayPoolReplaced(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "pool = \"100.64.0.0/24\"\n")
	n.in("c1", curl("198.51.100.7", ""))
	was := n.mapOf("2001:db8:1::11")
	of := func(a string) (all int) {
		for _, f := range n.connections() {
			if f.Forward.SrcIP.String() == a {
				all++
			}
		}
		return all
	}
	if of(was) == 0 {
		t.Fatalf("no connection of %s: %v", was, n.connections())
	}
	n.reload("pool = \"100.65.0.0/24\"\n")
	if of(was) != 0 {
		t.Errorf("connections of %s, which is in no pool: %v", was, n.connections())
	}
	n.in("c1", curl("198.51.100.7", ""))
	is := was
	eventually(t, soon, func() error { // the file is written once in a second
		if is = n.mapOf("2001:db8:1::11"); is == was {
			return fmt.Errorf("it still has %s", is)
		}
		return nil
	})
	n.reload("pool = \"100.65.0.0/24\"\nmap-idle = \"3h\"\n")
	if of(is) == 0 {
		t.Errorf("no connection of %s has survived a reload with the same pool: %v", is, n.connections())
	}
}
