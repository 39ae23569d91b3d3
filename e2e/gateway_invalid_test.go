package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// serveBeyond accepts one connection, and sends to it, with the numbers that a segment
// of the client had, one beyond every window.
const serveBeyond = `
import socket, struct, time
def total(b):
    s = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP); raw.bind(("198.51.100.7", 0)); raw.settimeout(30)
l = socket.create_server(("198.51.100.7", 4449))
print("listening", flush=True)
c, a = l.accept()
c.settimeout(10)
while True:
    p = raw.recv(65536)
    t = p[(p[0] & 15) * 4:]
    if struct.unpack("!HH", t[:4]) == (a[1], 4449) and t.endswith(b"hello"): break
seq, ack = struct.unpack("!II", t[4:12])
t = struct.pack("!HHIIBBHHH", 4449, a[1], (ack + 50000000) & 0xffffffff, seq + 5 & 0xffffffff, 0x50, 0x10, 1000, 0, 0) + b"beyond"
pseudo = socket.inet_aton("198.51.100.7") + socket.inet_aton(a[0]) + struct.pack("!HH", 6, len(t))
raw.sendto(t[:16] + struct.pack("!H", total(pseudo + t)) + t[18:], (a[0], 0))
time.sleep(1)
try:
    c.sendall(b"more")
    print("connection goes on:", c.recv(100), c.recv(100), flush=True)
except OSError as e: print("connection ends:", e, flush=True)
`

// TestGatewayInvalidSegment sends to a client's connection what connection tracking
// takes for invalid and so does not translate: the gateway's own TCP gets it, and must
// not reset the connection.
func TestGatewayInvalidSegment(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "")
	said := n.background(t, "s", "exec python3 -u - <<'END'\n"+serveBeyond+"END")
	says := func(what string) {
		t.Helper()
		eventually(t, soon, func() error {
			if !strings.Contains(said.String(), what) {
				return fmt.Errorf("%q is missing: %s", what, said.String())
			}
			return nil
		})
	}
	says("listening")
	out, err := n.try("c1", `python3 -c '
import socket
s = socket.create_connection(("`+to("198.51.100.7")+`", 4449), 30)
s.sendall(b"hello")
print(s.recv(100))
s.sendall(b"thanks")'`)
	if err != nil || !strings.Contains(out, "more") {
		t.Errorf("the client: %v, %s", err, out)
	}
	says("connection ")
	if !strings.Contains(said.String(), "connection goes on") {
		t.Error(said.String())
	}
}
