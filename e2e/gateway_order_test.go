package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// orderedEcho returns datagrams without DF and prints those that overtook others.
const orderedEcho = `exec python3 -c '
import socket, struct
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.setsockopt(socket.SOL_SOCKET, 33, 32 << 20) # SO_RCVBUFFORCE
u.setsockopt(0, 10, 0) # IP_PMTUDISC_DONT
u.bind(("198.51.100.7", 10))
last = -1
while True:
    b, a = u.recvfrom(65536)
    n, = struct.unpack_from("!I", b)
    if 0 < n < last: print("out of order:", n, "after", last, flush=True) # 0: the next client
    last = n
    u.sendto(b, a)'`

// orderedClient sends numbered datagrams of the given sizes in bursts that no queue
// on the way is too short for, and prints what came back.
const orderedClient = `python3 -c '
import socket, struct, time
sizes = [SIZES]
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)
u.settimeout(20)
u.connect(("SERVER", 10))
last, overtaken, n = -1, 0, 0
for burst in range(40):
    for i in range(32):
        u.send(struct.pack("!I", n) + bytes(sizes[n % len(sizes)])); n += 1
    for i in range(32):
        try: m, = struct.unpack_from("!I", u.recv(65536))
        except TimeoutError: break
        if m < last:
            overtaken += 1
            if overtaken < 10: print("out of order:", m, "after", last)
        last = m
print("sent", n, "last", last, "overtaken", overtaken)'`

// Datagrams of a flow arrive in the order in which they were sent, whichever
// engine of the gateway translates them, and so do the answers (RFC 7915 sections
// 4 and 5).
func TestGatewayFlowOrder(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "engine = \"kernel\"\n")
	// Veth pairs receive on the processor of the sender, who may move: on one
	// processor they keep the order as cables do.
	for _, l := range [][2]string{{"c1", "eth0"}, {"g", "p1"}, {"g", "wan0"}, {"s", "eth0"}} {
		n.in(l[0], "echo 1 > /sys/class/net/"+l[1]+"/queues/rx-0/rps_cpus")
	}
	said := n.background(t, "s", orderedEcho)
	eventually(t, soon, func() error {
		if out := n.in("s", "ss -Hlun sport = 10"); out == "" {
			return fmt.Errorf("the server does not listen")
		}
		return nil
	})
	n.in("c1", "ping -6 -n -c 1 -W 10 "+to("198.51.100.7")) // the first packet makes the map
	for _, sizes := range []string{
		"1300, 10",
		"3000, 10, 20",
		"4000, 10, 1300, 10, 1464, 1400, 1, 2, 3",
		"1400, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
	} {
		kernelBefore, userBefore := n.translated("udp")
		out := n.in("c1", strings.NewReplacer("SIZES", sizes, "SERVER", to("198.51.100.7")).Replace(orderedClient))
		kernel, user := n.translated("udp")
		t.Logf("%s: %s%d packets by the kernel engine, %d by the user engine", sizes, out, kernel-kernelBefore, user-userBefore)
		if !strings.Contains(out, "sent 1280 last 1279 overtaken 0") {
			t.Errorf("%s: %s", sizes, out)
		}
		if kernel == kernelBefore || strings.Contains(sizes, "000") && user == userBefore {
			t.Errorf("%s: %d packets by the kernel engine and %d by the user engine: the test tests little", sizes, kernel-kernelBefore, user-userBefore)
		}
	}
	if s := said.String(); s != "" {
		t.Errorf("the server says:\n%s", s)
	}
}
