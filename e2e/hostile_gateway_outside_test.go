package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// watchSources prints the IPv4 source addresses of the pool that arrive at the
// server while a command runs.
const watchSources = `
import select, socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
s.bind(("eth0", 0x0800))
print("listening", flush=True)
while True:
    p, a = s.recvfrom(65536)
    if a[2] == socket.PACKET_HOST and p[12:14] == bytes([100, 64]): print("leaked", socket.inet_ntoa(p[12:16]), "protocol", p[9], flush=True)
    if b"the end of it" in p: print("end", flush=True); break
`

// A neighbour on the outside link that routes the pool to the gateway reaches no
// client but by a static map or a forwarded port, and nothing leaves with an
// address of the pool.
func TestHostileGatewayOutside(t *testing.T) {
	t.Parallel()
	const conf = `
maps-per-64 = 3
[[nat64.map]]
ipv4 = "100.64.0.9"
ipv6 = "2001:db8:1::12"
[[nat64.forward]]
outside = "203.0.113.3:8443/tcp"
inside  = "[2001:db8:1::12]:80"
`
	n := newGatewayNet(t, conf)
	const server = "198.51.100.7"
	wants(t, n.in("c1", curl(server, "")), "you are 203.0.113.1 port")
	client := n.mapOf("2001:db8:1::11")
	n.serve("c1", "AF_INET6", 80)
	n.serve("c2", "AF_INET6", 80)

	t.Run("dynamic map is not reached", func(t *testing.T) {
		if out, err := n.try("s", "curl -sS -m 3 http://"+client+"/"); err == nil {
			t.Errorf("the client answers: %s", out)
		}
		if out, err := n.try("s", "ping -n -c 1 -W 2 "+client); err == nil {
			t.Errorf("the client answers: %s", out)
		}
		// In the middle of a connection that there is not: connection tracking
		// would take it up.
		n.in("s", raw4("198.51.100.7", client, `tcp(80, 4444, 0x18)`))
		if n.dropped("unsolicited") < 3 {
			t.Errorf("unsolicited packets are not counted: %+v", n.status().Drops)
		}
		// What connection tracking assigns to no connection: resets, and ICMP errors
		// about packets that nobody sent. What the client's kernel receives counts.
		unsolicited := n.dropped("unsolicited")
		before := n.in("c1", icmp6Received)
		n.in("s", raw4("198.51.100.7", client, `tcp(80, 4444, 4)`)+"\n"+raw4("198.51.100.7", client, `tcp(80, 4444, 3)`)+"\n"+
			errors4("198.51.100.7", client))
		eventually(t, soon, func() error {
			if d := n.dropped("unsolicited") - unsolicited; d != 2+4 {
				return fmt.Errorf("%d packets are counted as unsolicited, want 6: %+v", d, n.status().Drops)
			}
			return nil
		})
		if after := n.in("c1", icmp6Received); after != before {
			t.Errorf("the client receives ICMPv6 errors: %s before, then %s", before, after)
		}
	})
	t.Run("static map and port forward are reached", func(t *testing.T) {
		wants(t, n.in("s", "curl -sS -m 20 http://100.64.0.9/"), "you are "+to("203.0.113.2"))
		wants(t, n.in("s", "curl -sS -m 20 http://203.0.113.3:8443/"), "you are "+to("203.0.113.2"))
	})
	t.Run("port forward is reached from inside, and no other port", func(t *testing.T) {
		n.background(t, "g", "exec python3 -m http.server 8444")
		eventually(t, soon, func() error {
			_, err := n.try("g", "curl -sS -m 5 -o /dev/null http://203.0.113.3:8444/")
			return err
		})
		forwarded := strings.Replace(curl("203.0.113.3", ""), "]", "]:8443", 1)
		wants(t, n.in("c1", forwarded), "you are "+to("203.0.113.3"))
		wants(t, n.in("c2", forwarded), "you are "+to("203.0.113.3")) // its own forward
		refused := n.dropped("to-gateway")
		for _, address := range []string{"203.0.113.3", "203.0.113.1"} {
			if out, err := n.try("c1", "curl -sSg -m 5 'http://["+to(address)+"]:8444/'"); err == nil {
				t.Errorf("a client reaches a port of the gateway: %s", out)
			}
		}
		if n.dropped("to-gateway") == refused {
			t.Errorf("nothing is counted as to-gateway: %+v", n.status().Drops)
		}
	})
	t.Run("source of the pool is not taken from outside", func(t *testing.T) {
		n.in("s", raw4("100.64.0.77", "203.0.113.3", `tcp(4445, 8443, 2)`)+"\n"+raw4("100.64.0.77", "100.64.0.9", `tcp(4445, 80, 2)`))
		if n.dropped("forged-pool-source") != 2 {
			t.Errorf("forged sources are not counted: %+v", n.status().Drops)
		}
	})
	t.Run("invalid packet does not leave untranslated", func(t *testing.T) {
		seen := n.background(t, "s", "exec python3 -u - <<'END'\n"+watchSources+"END")
		says := func(what string) {
			t.Helper()
			eventually(t, soon, func() error {
				if !strings.Contains(seen.String(), what) {
					return fmt.Errorf("%q is not seen: %s", what, seen.String())
				}
				return nil
			})
		}
		says("listening")
		// A reset and impossible flags belong to no connection; an ICMPv6 error
		// about what nobody sent neither.
		n.in("c1", raw6("2001:db8:1::11", to(server), `tcp(4446, 80, 4)`, 6)+"\n"+
			raw6("2001:db8:1::11", to(server), `tcp(4446, 80, 3)`, 6)+"\n"+
			raw6("2001:db8:1::11", to(server), `bytes([1, 4, 0, 0, 0, 0, 0, 0]) + head("`+to(server)+`", "2001:db8:1::11", 6, tcp(80, 4447, 2))`, 58))
		n.in("c1", `python3 -c '
import socket
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"the end of it", ("`+to(server)+`", 9))'`)
		says("end")
		if strings.Contains(seen.String(), "leaked") {
			t.Errorf("addresses of the pool leave:\n%s", seen.String())
		}
		if n.dropped("untranslated-source") < 2 {
			t.Errorf("invalid packets are not counted: %+v", n.status().Drops)
		}
	})
	t.Run("routed pool is reached", func(t *testing.T) {
		n.reload("nat44 = \"none\"\nmaps-per-64 = 3\n")
		wants(t, n.in("s", "curl -sS -m 20 http://"+client+"/"), "you are "+to("203.0.113.2"))
		out, _ := n.try("s", "ping -n -c 1 -W 30 100.64.200.200")
		wants(t, out, "Destination Host Unreachable")
	})
}

// rawPackets are functions of Python: tcp makes a segment without checksum, head
// an IPv6 packet, ip4 and ip6 send one.
const rawPackets = `
import socket, struct
def tcp(a, b, flags): return struct.pack("!HHIIBBHHH", a, b, 1000, 2000, 0x50, flags, 1000, 0, 0)
def total(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
def summed(pseudo, protocol, data):
    at = {6: 16, 58: 2}[protocol]
    return data[:at] + struct.pack("!H", total(pseudo + data)) + data[at + 2:]
def head(src, dst, protocol, data):
    src, dst = socket.inet_pton(socket.AF_INET6, src), socket.inet_pton(socket.AF_INET6, dst)
    return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + src + dst + summed(src + dst + struct.pack("!II", len(data), protocol), protocol, data)
def ip6(src, dst, data, protocol):
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    s.sendto(head(src, dst, protocol, data), (dst, 0))
def ip4(src, dst, data):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!HH", 6, len(data))
    s.sendto(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, 6, 0) + pseudo[:8] + summed(pseudo, 6, data), (dst, 0))
`

// icmp6Received is a command that prints how many ICMPv6 errors a host has received.
const icmp6Received = `grep -E '^Icmp6In(DestUnreachs|PktTooBigs|TimeExcds|ParmProblems) ' /proc/net/snmp6`

// errors4 sends four ICMP errors about packets that dst has not sent.
func errors4(src, dst string) string {
	return fmt.Sprintf(`python3 - <<'END'
import socket, struct
def total(b):
    t = sum(struct.unpack("!%%dH" %% (len(b) // 2), b))
    while t >> 16: t = (t & 0xffff) + (t >> 16)
    return ~t & 0xffff
def ip(src, dst, protocol, data):
    h = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, protocol, 0) + socket.inet_aton(src) + socket.inet_aton(dst)
    return h[:10] + struct.pack("!H", total(h)) + h[12:] + data
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
quoted = ip(%[2]q, "198.51.100.9", 6, struct.pack("!HHI", 4444, 80, 1))
for kind, code, rest in (3, 1, 0), (3, 4, 500), (11, 0, 0), (12, 0, 0):
    m = struct.pack("!BBHI", kind, code, 0, rest) + quoted
    s.sendto(ip(%[1]q, %[2]q, 1, m[:2] + struct.pack("!H", total(m)) + m[4:]), (%[2]q, 0))
END`, src, dst)
}

// raw4 and raw6 send one packet.
func raw4(src, dst, payload string) string {
	return fmt.Sprintf("python3 - <<'END'\n%sip4(%q, %q, %s)\nEND", rawPackets, src, dst, payload)
}

func raw6(src, dst, payload string, protocol int) string {
	return fmt.Sprintf("python3 - <<'END'\n%sip6(%q, %q, %s, %d)\nEND", rawPackets, src, dst, payload, protocol)
}

// A host behind one inside interface that makes up addresses of another gets no
// maps for them.
func TestHostileGatewaySpoofing(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "")
	n.in("g", `
		ip link set p2 nomaster
		ip -6 addr add 2001:db8:2::1/64 dev p2 nodad; ip -6 addr add fe80::1/64 dev p2 nodad; ip link set p2 up`)
	n.in("c2", `
		ip -6 addr flush dev eth0 scope global; ip -6 addr add 2001:db8:2::12/64 dev eth0 nodad; ip -6 route replace default via fe80::1 dev eth0
		for i in 11 $(seq 100 130); do echo addr add 2001:db8:1::$i/128 dev lo nodad; done | ip -6 -batch -`)
	text := "[nat64]\nprefix = \"2001:db8:64::/96\"\ninside = [\"lan0\", \"p2\"]\noutside = [\"wan0\"]\nclients = [\"2001:db8::/32\"]\n" +
		"deny = [\"203.0.113.77/32\"]\n[control]\nsocket = \"" + n.socket() + "\"\n"
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.daemon.Process.Signal(syscall.SIGHUP)
	n.isUp(2)
	const server = "198.51.100.7"
	wants(t, n.in("c2", curl(server, "")), "you are 203.0.113.1 port")
	wants(t, n.in("c1", curl(server, "")), "you are 203.0.113.1 port")
	n.in("c2", `python3 -c '
import socket
for i in [11, *range(100, 131)]: # 11 is c1, whose packets have just passed
    u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("2001:db8:1::%d" % i, 0)); u.sendto(b"x", ("`+to(server)+`", 9))'`)
	eventually(t, soon, func() error {
		if d := n.dropped("spoofed-source"); d < 32 {
			return fmt.Errorf("%d packets are counted as spoofed-source: %+v", d, n.status().Drops)
		}
		return nil
	})
	if s := n.status(); s.Maps.Dynamic != 2 {
		t.Errorf("%d hosts have a map, want the 2 that exist", s.Maps.Dynamic)
	}
}
