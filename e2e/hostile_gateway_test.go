package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
)

// gatewayQueries returns how many DNS queries had an outcome.
func (n *gatewayNet) queries(outcome string) uint64 {
	n.t.Helper()
	s := n.status()
	if s.DNS64 == nil {
		n.t.Fatal("status has no DNS64")
	}
	for _, q := range s.DNS64.Queries {
		if q.Outcome == outcome {
			return q.Queries
		}
	}
	return 0
}

// memory returns the daemon's resident memory in bytes.
func (n *gatewayNet) memory() int {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.daemon.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		n.t.Fatal(err)
	}
	return kib << 10
}

// A host that is no client gets nothing from DNS64, and one client that floods
// it does not keep others from their answers.
func TestHostileDNS64(t *testing.T) {
	t.Parallel()
	needProgram(t, "dig")
	n := newGatewayNet(t, "[dns64]\nlisten = [\"[2001:db8:1::1]:53\", \"203.0.113.1:53\"]\nupstream = [\"203.0.113.2:5399\"]\n")
	ask := func(at string) string { return "dig +short +tries=3 +time=10 @" + at + " AAAA ipv4only.arpa" }
	wants(t, n.in("c1", ask("2001:db8:1::1")), "2001:db8:64::c000:aa")
	for _, way := range []string{"+notcp", "+tcp"} {
		if out, err := n.try("s", "dig +short +tries=1 +time=1 "+way+" @203.0.113.1 AAAA ipv4only.arpa"); err == nil {
			t.Errorf("the server outside is answered (%s): %s", way, out)
		}
	}
	if n.queries("not-a-client") == 0 {
		t.Error("queries of others are not counted")
	}
	// Names that nobody answers, as fast as one client can.
	n.in("c1", `python3 -c '
import socket, struct
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for i in range(20000):
    name = b"n%d" % i
    try:
        u.sendto(struct.pack("!HHHHHH", i & 0xffff, 0x100, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\7example\0" + struct.pack("!HH", 28, 1), ("2001:db8:1::1", 53))
    except OSError: pass'`)
	wants(t, n.in("c2", ask("2001:db8:1::1")), "2001:db8:64::c000:aa")
	eventually(t, soon, func() error {
		if n.queries("rate-limited") == 0 {
			return fmt.Errorf("the flood is not limited: %+v", n.status().DNS64)
		}
		return nil
	})
	// Datagrams that are no queries, and TCP connections that say nothing.
	n.in("c1", `python3 -c '
import os, socket
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for i in range(2000): u.sendto(os.urandom(i % 600), ("2001:db8:1::1", 53))
c = []
for i in range(100):
    s = socket.socket(socket.AF_INET6); s.settimeout(30); s.connect(("2001:db8:1::1", 53)); c.append(s)'`)
	wants(t, n.in("c2", ask("2001:db8:1::1")), "2001:db8:64::c000:aa")
	wants(t, n.in("c2", ask("2001:db8:1::1")+" +tcp"), "2001:db8:64::c000:aa")
	if n.queries("too-many-connections") == 0 {
		t.Errorf("connections are not limited: %+v", n.status().DNS64)
	}
	if m := n.memory(); m > 100<<20 {
		t.Errorf("%d MiB of memory", m>>20)
	}
}

// A neighbour that forges router advertisements and solicitations neither
// silences the gateway nor fills its log.
func TestHostileRouterBesideGateway(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "[advertise]\ninterfaces = [\"lan0\"]\n")
	advertised := func() control.Advertising {
		a := n.status().Advertise
		if len(a) != 1 {
			t.Fatalf("advertise in status: %+v", a)
		}
		return a[0]
	}
	// Advertisements from a tentative address would have no link-local source.
	eventually(t, soon, func() error {
		if a, own := advertised(), n.in("c1", "ip -6 -o addr show dev eth0 scope link -tentative"); a.Sent == 0 || own == "" {
			return fmt.Errorf("the network is not ready: %+v, %q", a, own)
		}
		return nil
	})
	eventually(t, 2*time.Minute, func() error {
		n.in("c1", forgeRouter(5000))
		if a := advertised(); a.Disagreements < 100 || a.Solicitations < 100 {
			return fmt.Errorf("what the neighbour sent is not counted: %+v", a)
		}
		return nil
	})
	sent := advertised().Sent
	if lines := strings.Count(n.log.String(), "another router advertises something else"); lines == 0 || lines > 30 {
		t.Errorf("%d lines in the log", lines)
	}
	eventually(t, soon, func() error {
		n.in("c1", forgeRouter(10))
		if now := advertised().Sent; now <= sent {
			return fmt.Errorf("it has sent %d advertisements, and no more", now)
		}
		return nil
	})
	if sent > 60 {
		t.Errorf("%d advertisements were sent", sent)
	}
}

// forgeRouter returns a script that sends n each of forged advertisements,
// solicitations and malformed advertisements.
func forgeRouter(n int) string {
	return fmt.Sprintf(`python3 -c '
import os, socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
s.setsockopt(41, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(41, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
for i in range(%d):
    mtu = struct.pack("!BBHI", 5, 1, 0, 1280 + i %% 200)
    s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, i %% 256, 0xc0, 0, 0, 0) + mtu, ("ff02::1", 0))
    s.sendto(struct.pack("!BBHI", 133, 0, 0, 0), ("ff02::2", 0))
    s.sendto(bytes([134, 0, 0, 0]) + os.urandom(i %% 200), ("ff02::1", 0))'`, n)
}
