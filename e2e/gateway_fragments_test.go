package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// sentTwice sends datagrams of 3,000 bytes in three fragments, of which one comes twice
// in a row, and prints how many.
const sentTwice = `python3 - <<'END'
import socket, struct
src, dst = socket.inet_pton(socket.AF_INET6, "2001:db8:1::11"), socket.inet_pton(socket.AF_INET6, %q)
def total(b):
    s = sum(struct.unpack("!%%dH" %% (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff or 0xffff
out = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
for n in range(24):
    udp = struct.pack("!HHHH", 5000, 9000, 3008, 0) + bytes([n]) * 3000
    udp = udp[:6] + struct.pack("!H", total(src + dst + struct.pack("!II", len(udp), 17) + udp)) + udp[8:]
    parts = [(at, udp[at:at + 1200]) for at in range(0, len(udp), 1200)]
    parts.insert(n %% 3 + 1, parts[n %% 3])
    for at, part in parts:
        fragment = struct.pack("!BBHI", 17, 0, at | (at + len(part) < len(udp)), n + 1) + part
        out.sendto(struct.pack("!IHBB", 6 << 28, len(fragment), 44, 64) + src + dst + fragment, (%[1]q, 0))
END`

// Datagrams of which the network delivers a fragment twice arrive.
func TestGatewayFragmentTwice(t *testing.T) { eachGatewayEngine(t, testGatewayFragmentTwice) }

func testGatewayFragmentTwice(t *testing.T, engine string) {
	n := newGatewayNet(t, engine)
	got := n.background(t, "s", `exec python3 -u -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9000))
print("listening")
while True:
    d = s.recv(65535)
    print("%d bytes" % len(d) if d == d[:1] * 3000 else "other bytes")'`)
	printed := func(what string, times int) {
		t.Helper()
		eventually(t, soon, func() error {
			if is := strings.Count(got.String(), what); is != times {
				return fmt.Errorf("%q is there %d times, want %d:\n%s", what, is, times, got.String())
			}
			return nil
		})
	}
	printed("listening", 1)
	n.in("c1", fmt.Sprintf(sentTwice, to("198.51.100.7")))
	printed("3000 bytes", 24)
	if strings.Contains(got.String(), "other") {
		t.Error("a datagram has other bytes than were sent")
	}
}
