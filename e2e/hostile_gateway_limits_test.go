package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// flows opens UDP flows on a client, one datagram each, from every source to ports
// of the server, and returns how many are tracked then that were not before.
func (n *gatewayNet) flows(client string, sources []string, firstPort, each int) int {
	n.t.Helper()
	tracked := func() int {
		n.t.Helper()
		c := n.status().Conntrack
		if c == nil {
			n.t.Skip("the kernel does not say how many connections it tracks")
		}
		return c.Entries
	}
	before := tracked()
	n.in(client, fmt.Sprintf(`python3 - <<'END'
import socket
for source in %q.split():
    for port in range(%d, %d):
        for again in range(3):
            s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((source, 4000))
            s.sendto(b"x", (%q, port))
            s.close()
END`, strings.Join(sources, " "), firstPort, firstPort+each, to("198.51.100.7")))
	return tracked() - before
}

// The hosts of a /64 are limited together, however many addresses one of them
// invents, and those of another /64 are not.
func TestHostileGatewayNetwork(t *testing.T) {
	t.Parallel()
	const clients = "clients = [\"2001:db8::/32\"]\n"
	n := newGatewayNet(t, "connections-per-client = 5\nconnections-per-64 = 12\n"+clients)
	var invented []string
	for i := range 6 {
		a := fmt.Sprintf("2001:db8:1::a%d", i)
		n.in("c1", "ip -6 addr add "+a+"/128 dev eth0 nodad; ping -6 -n -c 1 -W 30 -I "+a+" "+to("198.51.100.7"))
		invented = append(invented, a)
	}
	n.in("g", "ip -6 addr add 2001:db8:2::1/64 dev lan0 nodad")
	n.in("c2", "ip -6 addr add 2001:db8:2::12/64 dev eth0 nodad; ping -6 -n -c 1 -W 30 -I 2001:db8:2::12 "+to("198.51.100.7"))
	wantsFlows := func(what string, got, least, most int) {
		t.Helper()
		if got < least || got > most {
			t.Errorf("%s: %d flows are tracked, want %d to %d", what, got, least, most)
		}
	}
	// The pings above count until they time out, and so does everything that is
	// compared: the least is less than the limit.
	wantsFlows("invented addresses", n.flows("c1", invented, 2000, 8), 6, 12)
	if n.dropped("too-many-connections-of-64") == 0 || n.dropped("too-many-connections") == 0 {
		t.Errorf("refused flows are not counted: %+v", n.status().Drops)
	}
	wantsFlows("another network", n.flows("c2", []string{"2001:db8:2::12"}, 2000, 8), 4, 5)

	// A restart counts anew, of the same hosts.
	n.end(syscall.SIGTERM)
	n.start()
	wantsFlows("after a restart", n.flows("c1", invented, 3000, 8), 6, 12)
	if n.dropped("too-many-connections-of-64") == 0 {
		t.Errorf("refused flows are not counted: %+v", n.status().Drops)
	}
	n.reload("connections-per-client = 5\nconnections-per-64 = 0\n" + clients)
	wantsFlows("no limit", n.flows("c1", invented, 4000, 8), 20, 30)
}

// A host that closes its connections at once cannot fill connection tracking, in which
// they stay: the kernel's count of connections leaves them out.
func TestHostileGatewayClosed(t *testing.T) {
	t.Parallel()
	const limit = 40
	n := newGatewayNet(t, fmt.Sprintf("connections-per-client = 20\nconnections-per-64 = %d\nclients = [\"2001:db8::/32\"]\n", limit))
	n.in("g", "ip -6 addr add 2001:db8:2::1/64 dev lan0 nodad")
	n.in("c2", "ip -6 addr add 2001:db8:2::12/64 dev eth0 nodad")
	n.in("c1", curl("198.51.100.7", ""))
	script := `python3 -c '
import http.client
for i in range(130):
    c = http.client.HTTPConnection("[` + to("198.51.100.7") + `]", timeout=0.2) # few are told that they are refused
    try:
        c.request("GET", "/"); c.getresponse().read()
    except OSError: pass
    c.close()'`
	n.in("c1", script)
	// A slow machine gets one more every few seconds.
	if c := n.status().Conntrack; c == nil || c.Entries > 3*limit {
		t.Errorf("connection tracking after 130 closed connections of a network that may have %d: %+v", limit, c)
	} else if c.Entries < limit {
		t.Errorf("%d connections are tracked, fewer than the limit of %d", c.Entries, limit)
	}
	if n.dropped("too-many-connections-of-64") == 0 {
		t.Errorf("refused connections are not counted: %+v", n.status().Drops)
	}
	n.in("c2", curl("198.51.100.7", "--interface 2001:db8:2::12"))
}

// A limit that is counted in groups is not exceeded, and nearly reached. Only the
// first packet of a flow counts.
func TestGatewayLargeLimit(t *testing.T) {
	t.Parallel()
	const limit = 600
	n := newGatewayNet(t, fmt.Sprintf("connections-per-client = %d\n", limit))
	n.in("c1", "ping -6 -n -c 1 -W 30 "+to("198.51.100.7"))
	if flows := n.flows("c1", []string{"2001:db8:1::11"}, 1000, 700); flows > limit || flows < limit*8/10 {
		t.Errorf("%d flows are tracked, want nearly %d", flows, limit)
	}
	if n.dropped("too-many-connections") == 0 {
		t.Errorf("refused flows are not counted: %+v", n.status().Drops)
	}
}
