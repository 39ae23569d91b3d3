package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tnat64d/siit"
)

// TestGatewayHairpin sends all kinds of packets from one host inside to the mapped
// address of another, with prefixes of every length (RFC 6052 section 2.2).
func TestGatewayHairpin(t *testing.T) { eachGatewayEngine(t, testGatewayHairpin) }

// echo53 answers datagrams to UDP port 9 and packets of protocol 253.
const echo53 = `
import socket, threading
def answer(s):
    while True:
        b, a = s.recvfrom(65536)
        s.sendto(b, a)
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::", 9))
r = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 253)
def raw():
    while True:
        b, a = r.recvfrom(65536)
        if b == b"ask": r.sendto(b"answer", a)
threading.Thread(target=raw, daemon=True).start()
answer(u)`

// protocol253 asks by a protocol without ports.
const protocol253 = `python3 - <<'END'
import socket
r = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 253); r.settimeout(1)
for i in range(30):
    r.sendto(b"ask", ("DESTINATION", 0))
    try: print("came back:", r.recv(100)); break
    except TimeoutError: pass
END`

// closedPort reports what a connected socket hears of a port where nobody listens.
const closedPort = `python3 - <<'END'
import socket
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.connect(("DESTINATION", 7)); u.settimeout(1)
for i in range(30):
    try: u.send(b"x" * 1300); u.recv(9)
    except ConnectionRefusedError: print("refused"); break
    except TimeoutError: pass
END`

func testGatewayHairpin(t *testing.T, engine string) {
	needProgram(t, "traceroute")
	n := newGatewayNet(t, engine)
	n.in("g", "sysctl -qw net.ipv4.conf.all.rp_filter=2")
	n.background(t, "c2", "exec python3 -c '"+echo53+"'")
	n.in("c2", ping6(1, to("198.51.100.7")))
	mapped := n.mapOf("2001:db8:1::12")
	// The hosts' own addresses are in 2001:db8::/32.
	for i, prefix := range []string{"2001:db9::/32", "2001:db8:6400::/40", "2001:db8:64::/48", "2001:db8:64:ab00::/56", "2001:db8:64:abcd::/64", "2001:db8:64::/96"} {
		p, err := siit.NewPrefix(netip.MustParsePrefix(prefix))
		if err != nil {
			t.Fatal(err)
		}
		n.write(engine)
		text, err := os.ReadFile(n.config)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte("2001:db8:64::/96"), []byte(prefix), 1)
		if err := os.WriteFile(n.config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		n.daemon.Process.Signal(syscall.SIGHUP)
		n.isUp(2 + i)
		t.Run(prefix, func(t *testing.T) {
			n.t = t
			at := func(ipv4 string) string { return p.Embed(netip.MustParseAddr(ipv4)).String() }
			to := at(mapped)
			other := func(script string) string { return strings.ReplaceAll(script, "DESTINATION", to) }
			wants(t, n.in("c1", ping6(1, to)), " 0% packet loss")
			wants(t, n.in("c1", "ping -6 -n -c 1 -s 4000 -W 30 "+to), " 0% packet loss")
			wants(t, n.in("c1", other(fragments)), "came back: 2000")
			wants(t, n.in("c1", other(closedPort)), "refused")
			wants(t, n.in("c1", other(protocol253)), "answer")
			// The kernel forwards both families between the translations. What has no
			// IPv4 address is 192.0.0.8 to the other host.
			hops := []string{"2001:db8:1::1", at("100.64.0.1"), at("203.0.113.1"), at("100.64.0.1"), at("192.0.0.8"), to}
			eventually(t, soon, func() error {
				var got []string
				out := n.in("c1", "traceroute -6 -n -q 1 -w 2,0,0 -N 1 -m 6 "+to)
				for line := range strings.Lines(out) {
					if f := strings.Fields(line); len(f) == 4 && f[3] == "ms" {
						got = append(got, f[1])
					}
				}
				if !slices.Equal(got, hops) {
					return fmt.Errorf("the hops are not %s:\n%s", hops, out)
				}
				return nil
			})
		})
		n.t = t
	}
}

// Errors of routers inside that have no IPv4 address reach the IPv4 network, Packet Too
// Big among them: connections from outside stall without.
func TestGatewayErrorsOfRoutersInside(t *testing.T) { eachGatewayEngine(t, testErrorsOfRoutersInside) }

func testErrorsOfRoutersInside(t *testing.T, engine string) {
	needProgram(t, "traceroute")
	n := newGatewayNet(t, engine+`clients = ["2001:db8:5::/64"]
[[nat64.map]]
ipv4 = "100.64.0.9"
ipv6 = "2001:db8:5::9"
`)
	n.in("g", "sysctl -qw net.ipv4.conf.all.rp_filter=2; ip -6 route add 2001:db8:5::/64 via 2001:db8:1::11")
	// c1 is a router whose way on is narrow.
	n.host(fmt.Sprintf("ip -n %[1]sc1 link add in0 mtu 1280 type veth peer name eth1 netns %[1]sc2", n.prefix))
	n.in("c1", "sysctl -qw net.ipv6.conf.all.forwarding=1; ip -6 addr add 2001:db8:5::1/64 dev in0 nodad; ip link set in0 up; ip -6 route replace default via fe80::1 dev eth0")
	n.in("c2", "ip link set eth0 down; ip link set eth1 up mtu 1500; ip -6 addr add 2001:db8:5::9/64 dev eth1 nodad; ip -6 route replace default via 2001:db8:5::1")
	n.serve("c2", "AF_INET6", 80)
	eventually(t, soon, func() error {
		out := n.in("s", "traceroute -n -q 1 -w 2,0,0 -N 1 -m 6 100.64.0.9")
		if strings.Contains(out, "*") || strings.Count(out, " ms") < 4 {
			return fmt.Errorf("routers on the way to the host inside do not answer:\n%s", out)
		}
		return nil
	})
	n.host("head -c 300000 /dev/zero > " + n.dir + "/upload")
	n.in("s", "curl -sS -m 30 -H 'Expect:' --data-binary @"+n.dir+"/upload http://100.64.0.9/")
}
