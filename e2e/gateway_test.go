package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// gatewayNet is an IPv6-only network behind tnat64-gateway: clients c1 and c2
// (2001:db8:1::11 and ::12) on the link lan0, the gateway g with 203.0.113.1 and
// .3 on wan0, and beyond it the server s with 203.0.113.2 and 198.51.100.7.
type gatewayNet struct {
	t      *testing.T
	prefix string // of the namespaces
	dir    string
	config string // file

	daemon  *exec.Cmd
	ended   chan struct{}
	log     lockedBuffer
	manager *lab.ServiceManager // nil: none starts the daemon
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// answerer is the server's program: HTTP that tells the client's address and
// takes uploads, and UDP port 9 of 198.51.100.7 that sends everything back.
const answerer = `
import http.server, socket, threading
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = ("you are %s port %d\n" % self.client_address[:2]).encode()
        if self.path == "/large": body = b"x" * 300000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    address_family = FAMILY
    request_queue_size = 512
u = socket.socket(FAMILY, socket.SOCK_DGRAM)
u.bind((ECHO, 9))
def echo():
    while True:
        b, a = u.recvfrom(65536)
        u.sendto(b, a)
threading.Thread(target=echo, daemon=True).start()
S((ANY, PORT), H).serve_forever()
`

var gatewayNets struct {
	sync.Mutex
	n int
}

func newGatewayNet(t *testing.T, config string) *gatewayNet {
	t.Helper()
	needRoot(t)
	for _, p := range []string{"ip", "curl", "ping", "python3"} {
		needProgram(t, p)
	}
	gatewayNets.Lock()
	gatewayNets.n++
	n := &gatewayNet{t: t, prefix: fmt.Sprintf("tg%d-%d-", os.Getpid(), gatewayNets.n), dir: t.TempDir()}
	gatewayNets.Unlock()
	t.Cleanup(func() {
		for _, h := range []string{"c1", "c2", "g", "s"} {
			exec.Command("ip", "netns", "del", n.prefix+h).Run()
		}
	})
	n.host(fmt.Sprintf(`
		for h in c1 c2 g s; do ip netns add %[1]s$h; ip -n %[1]s$h link set lo up; done
		ip link add eth0 netns %[1]ss type veth peer name wan0 netns %[1]sg
		for i in 1 2; do ip link add eth0 netns %[1]sc$i type veth peer name p$i netns %[1]sg; done`, n.prefix))
	n.in("g", `
		sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1
		ip link add lan0 type bridge
		for p in p1 p2; do ip link set $p master lan0 up; done
		ip -6 addr add 2001:db8:1::1/64 dev lan0 nodad; ip -6 addr add fe80::1/64 dev lan0 nodad; ip link set lan0 up
		ip addr add 203.0.113.1/24 dev wan0; ip addr add 203.0.113.3/24 dev wan0; ip link set wan0 up
		ip route add default via 203.0.113.2`)
	n.in("s", `
		ip addr add 203.0.113.2/24 dev eth0; ip addr add 198.51.100.7/32 dev lo; ip link set eth0 up
		ip route add 100.64.0.0/16 via 203.0.113.1`)
	for i := range 2 {
		n.in(fmt.Sprintf("c%d", i+1), fmt.Sprintf(`
			ip -6 addr add 2001:db8:1::1%d/64 dev eth0 nodad; ip link set eth0 up
			ip -6 route add default via fe80::1 dev eth0`, i+1))
	}
	n.serve("s", "AF_INET", 80)
	n.config = filepath.Join(n.dir, "gateway.toml")
	n.write(config)
	n.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("tnat64-gateway's log:\n%s", n.log.String())
		}
	})
	return n
}

// write writes the configuration file.
func (n *gatewayNet) write(nat64 string) {
	n.t.Helper()
	text := "[nat64]\nprefix = \"2001:db8:64::/96\"\ninside = [\"lan0\"]\noutside = [\"wan0\"]\n" + nat64 +
		"\n[control]\nsocket = \"" + n.socket() + "\"\n"
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *gatewayNet) socket() string { return filepath.Join(n.dir, "socket") }

// host runs a script on the test's own host, for which it must succeed.
func (n *gatewayNet) host(script string) {
	n.t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
}

func (n *gatewayNet) command(ctx context.Context, host, script string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", "netns", "exec", n.prefix+host, "sh", "-ec", script)
}

// background runs a script on a host until the test ends, and returns what it prints.
// The script replaces its shell by its last program (exec).
func (n *gatewayNet) background(t *testing.T, host, script string) *lockedBuffer {
	t.Helper()
	var out lockedBuffer
	c := n.command(context.Background(), host, script)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return &out
}

// in runs a script on a host, where it must succeed.
func (n *gatewayNet) in(host, script string) string {
	n.t.Helper()
	out, err := n.try(host, script)
	if err != nil {
		n.t.Fatalf("%s: %s: %v: %s", host, script, err, out)
	}
	return out
}

func (n *gatewayNet) try(host, script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := n.command(ctx, host, script).CombinedOutput()
	return string(out), err
}

// serve starts the answerer on a host.
func (n *gatewayNet) serve(host, family string, port int) {
	n.t.Helper()
	program := strings.NewReplacer("FAMILY", "socket."+family, "ANY", map[string]string{"AF_INET": `"0.0.0.0"`, "AF_INET6": `"::"`}[family],
		"ECHO", map[string]string{"AF_INET": `"198.51.100.7"`, "AF_INET6": `"::"`}[family], "PORT", fmt.Sprint(port)).Replace(answerer)
	file := filepath.Join(n.dir, host+".py")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", n.prefix+host, "python3", file)
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(n.t, soon, func() error {
		_, err := n.try(host, fmt.Sprintf("curl -sg -m 5 http://localhost:%d/ || curl -sg -m 5 'http://[::1]:%d/'", port, port))
		return err
	})
}

// start starts the daemon and waits until it translates.
func (n *gatewayNet) start() {
	n.t.Helper()
	ready := strings.Count(n.log.String(), "NAT64 is up")
	cmd := exec.Command("ip", "netns", "exec", n.prefix+"g", "sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", built(n.t, "tnat64-gateway"), "-config", n.config)
	cmd.Stdout, cmd.Stderr = &n.log, &n.log
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+n.dir, "STATE_DIRECTORY="+n.dir)
	if n.manager != nil {
		files, env := n.manager.Pass()
		cmd.ExtraFiles, cmd.Env = files, append(cmd.Env, env...)
	}
	// A process group that is orphaned while one of its processes is stopped, as
	// TestGatewayOverflow stops this one, gets a SIGHUP from the kernel.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	n.daemon, n.ended = cmd, ended
	n.t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	n.isUp(ready + 1)
}

// isUp waits until the daemon has said so often that it translates.
func (n *gatewayNet) isUp(times int) {
	n.t.Helper()
	eventually(n.t, soon, func() error {
		select {
		case <-n.ended:
			n.t.Fatalf("tnat64-gateway has ended:\n%s", n.log.String())
		default:
		}
		if strings.Count(n.log.String(), "NAT64 is up") < times {
			return fmt.Errorf("it is not up:\n%s", n.log.String())
		}
		return nil
	})
}

// reload has the daemon use another configuration.
func (n *gatewayNet) reload(config string) {
	n.t.Helper()
	ups := strings.Count(n.log.String(), "NAT64 is up")
	n.write(config)
	n.daemon.Process.Signal(syscall.SIGHUP)
	n.isUp(ups + 1)
}

// end ends the daemon by a signal.
func (n *gatewayNet) end(s syscall.Signal) {
	n.t.Helper()
	n.daemon.Process.Signal(s)
	select {
	case <-n.ended:
	case <-time.After(time.Minute):
		n.t.Fatal("tnat64-gateway does not end")
	}
}

func (n *gatewayNet) status() control.Gateway {
	n.t.Helper()
	s, err := control.NewGatewayClient(n.socket()).Status(n.t.Context())
	if err != nil || s.Gateway == nil {
		n.t.Fatalf("status: %+v, %v", s, err)
	}
	return *s.Gateway
}

// dropped returns how many packets were not translated for a reason.
func (n *gatewayNet) dropped(reason string) uint64 {
	n.t.Helper()
	for _, d := range n.status().Drops {
		if d.Reason == reason {
			return d.Packets
		}
	}
	return 0
}

// maps returns the maps in the state file.
func (n *gatewayNet) maps() map[string]string {
	all := map[string]string{}
	b, _ := os.ReadFile(filepath.Join(n.dir, "maps"))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "tnat64-gateway" {
			all[f[1]] = f[0]
		}
	}
	return all
}

// mapOf waits for the map of a host.
func (n *gatewayNet) mapOf(host string) (ipv4 string) {
	n.t.Helper()
	eventually(n.t, soon, func() error {
		if ipv4 = n.maps()[host]; ipv4 == "" {
			return fmt.Errorf("%s has no map in the file: %v", host, n.maps())
		}
		return nil
	})
	return ipv4
}

// to returns the address that stands for an IPv4 address.
func to(ipv4 string) string {
	b := netip.MustParseAddr("2001:db8:64::").As16()
	a := netip.MustParseAddr(ipv4).As4()
	copy(b[12:], a[:])
	return netip.AddrFrom16(b).String()
}

func curl(ipv4, more string) string {
	return fmt.Sprintf("curl -sSg -m 20 %s 'http://[%s]'", more, to(ipv4))
}

// ping6 is a shell command that sends n echo requests, each awaited by a ping of
// its own: see onePing.
func ping6(n int, address string) string {
	return fmt.Sprintf("for i in $(seq %d); do ping -6 -n -c 1 -W 30 %s || exit 1; done", n, address)
}

// fragments sends a UDP datagram of 2,000 bytes as two fragments, the second
// first, and prints how much of it comes back.
const fragments = `python3 - <<'END'
import socket, struct
src, dst = "2001:db8:1::11", "DESTINATION"
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind((src, 5555)); u.settimeout(30)
data = struct.pack("!HHHH", 5555, 9, 2008, 0) + b"f" * 2000
pseudo = socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + struct.pack("!II", len(data), 17)
s = sum(struct.unpack("!%dH" % ((len(pseudo) + len(data)) // 2), pseudo + data))
while s >> 16: s = (s & 0xffff) + (s >> 16)
data = data[:6] + struct.pack("!H", ~s & 0xffff) + data[8:]
def ip(offset, more, part):
    f = struct.pack("!BBHI", 17, 0, offset | more, 77) + part
    return struct.pack("!IHBB", 6 << 28, len(f), 44, 64) + socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + f
r = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
r.sendto(ip(1200, 0, data[1200:]), (dst, 0))
r.sendto(ip(0, 1, data[:1200]), (dst, 0))
print("came back:", len(u.recv(65536)))
END`

// TestGateway is a NAT64 with masquerading, by the programs of its clients.
func TestGateway(t *testing.T) { eachGatewayEngine(t, testGateway) }

// eachGatewayEngine runs a test with either engine of tnat64-gateway.
func eachGatewayEngine(t *testing.T, test func(t *testing.T, config string)) {
	t.Parallel()
	for _, engine := range []string{"kernel", "user"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, fmt.Sprintf("engine = %q\n", engine))
		})
	}
}

func testGateway(t *testing.T, engine string) {
	needProgram(t, "traceroute")
	n := newGatewayNet(t, engine+"deny = [\"203.0.113.2/32\"]\n")
	const server = "198.51.100.7"
	wants(t, n.in("c1", curl(server, "")), "you are 203.0.113.1 port")
	wants(t, n.in("c2", curl(server, "")), "you are 203.0.113.1 port")
	wants(t, n.in("c1", ping6(2, to(server))), " 0% packet loss")
	wants(t, n.in("c1", "ping -6 -n -c 1 -s 4000 -W 30 "+to(server)), " 0% packet loss")
	wants(t, n.in("c1", "traceroute -6 -n -q 1 -w 20,0,0 -m 6 "+to(server)), to(server))
	wants(t, n.in("c1", strings.ReplaceAll(fragments, "DESTINATION", to(server))), "came back: 2000")
	wants(t, n.in("c1", `python3 -c '
import socket
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.settimeout(30)
u.sendto(b"u" * 5000, ("`+to(server)+`", 9)); print("came back:", len(u.recv(65536)))'`), "came back: 5000")

	t.Run("two clients share one port", func(t *testing.T) {
		for _, c := range []string{"c1", "c2"} {
			wants(t, n.in(c, curl(server, "--local-port 4444")), "you are 203.0.113.1 port")
		}
	})
	t.Run("hosts inside reach each other by the pool", func(t *testing.T) {
		n.serve("c2", "AF_INET6", 80)
		wants(t, n.in("c1", curl(n.mapOf("2001:db8:1::12"), "")), "you are "+to(n.mapOf("2001:db8:1::11")))
	})
	t.Run("what nobody reaches", func(t *testing.T) {
		for _, a := range []string{"203.0.113.1", "203.0.113.3", "203.0.113.255", "203.0.113.2", "127.0.0.1", "169.254.169.254", "100.64.0.1", "100.64.200.200"} {
			if out, err := n.try("c1", curl(a, "-m 3")); err == nil {
				t.Errorf("%s answers: %s", a, out)
			}
		}
		for _, r := range []string{"destination-denied", "destination-illegal", "no-map"} {
			if n.dropped(r) == 0 {
				t.Errorf("nothing is counted as %s: %+v", r, n.status().Drops)
			}
		}
		out, _ := n.try("c1", "ping -6 -n -c 1 -W 30 "+to("203.0.113.2"))
		wants(t, out, "Administratively prohibited")
		out, _ = n.try("c1", "ping -6 -n -c 1 -W 30 "+to("100.64.200.200"))
		wants(t, out, "Address unreachable")
	})
	t.Run("who is no client", func(t *testing.T) {
		n.in("c1", "ip -6 addr add 2001:db8:9::1/128 dev eth0 nodad")
		n.in("g", "ip -6 route add 2001:db8:9::1 via 2001:db8:1::11")
		out, _ := n.try("c1", "ping -6 -n -c 1 -W 30 -I 2001:db8:9::1 "+to(server))
		if !strings.Contains(out, "code 5") && !strings.Contains(out, "Source address failed") {
			t.Errorf("the source address is not said to be refused by policy (ICMPv6 type 1 code 5):\n%s", out)
		}
		n.in("c1", "ip -6 addr del 2001:db8:9::1/128 dev eth0")
		if n.dropped("not-a-client") == 0 {
			t.Errorf("nothing is counted as not-a-client: %+v", n.status().Drops)
		}
		// From outside with the source of a client.
		n.in("s", "ip -6 addr add 2001:db8:1::77/128 dev lo nodad; ip -6 route add 2001:db8:64::/96 via $(ip netns exec "+n.prefix+"g ip -6 -o addr show dev wan0 scope link | sed 's/.*inet6 \\([^/]*\\).*/\\1/') dev eth0")
		n.try("s", "ping -6 -n -c 1 -W 2 -I 2001:db8:1::77 "+to(server))
		if n.dropped("not-inside")+n.dropped("spoofed-source") == 0 || n.maps()["2001:db8:1::77"] != "" {
			t.Errorf("IPv6 from outside is let in: %+v, %v", n.status().Drops, n.maps())
		}
	})
	t.Run("path MTU", func(t *testing.T) {
		n.host("head -c 300000 /dev/zero > " + n.dir + "/upload")
		for _, mtu := range []string{"ip link set wan0 mtu 1280", "ip link set wan0 mtu 1500; ip link set lan0 mtu 1280"} {
			n.in("g", mtu)
			if strings.Contains(mtu, "wan0 mtu 1280") {
				n.in("s", "ip link set eth0 mtu 1280")
			} else {
				n.in("s", "ip link set eth0 mtu 1500")
			}
			eventually(t, soon, func() error {
				if s := n.status(); s.MTU4 != 1280 && s.MTU6 != 1280 {
					return fmt.Errorf("the translator's MTUs are %d and %d", s.MTU4, s.MTU6)
				}
				return nil
			})
			n.in("c1", curl(server, "-H 'Expect:' --data-binary @"+n.dir+"/upload"))
			if out := n.in("c1", curl(server, "")[:len(curl(server, ""))-1]+"/large' | wc -c"); strings.TrimSpace(out) != "300000" {
				t.Errorf("%s: %s bytes come back", mtu, out)
			}
		}
	})
	t.Run("killed and started again", func(t *testing.T) {
		was := n.mapOf("2001:db8:1::11")
		restarted := filepath.Join(n.dir, "restarted")
		var talk lockedBuffer
		open := n.command(t.Context(), "c1", `python3 -u -c '
import os, socket, time
s = socket.create_connection(("`+to(server)+`", 80), 60)
f = s.makefile("rb")
def ask():
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    while not f.readline().startswith(b"you are"): pass
ask(); print("first")
while not os.path.exists("`+restarted+`"): time.sleep(0.1)
ask(); print("second")'`)
		open.Stdout, open.Stderr = &talk, &talk
		if err := open.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, soon, func() error {
			if !strings.Contains(talk.String(), "first") {
				return fmt.Errorf("no answer on the connection: %s", talk.String())
			}
			return nil
		})
		n.end(syscall.SIGKILL)
		if out := n.in("g", "ip -o link"); strings.Contains(out, "nat64") {
			t.Errorf("left behind: %s", out)
		}
		if _, err := exec.LookPath("nft"); err == nil {
			if out := n.in("g", "nft list tables"); strings.TrimSpace(out) != "" {
				t.Errorf("left behind: %s", out)
			}
		}
		n.start()
		wants(t, n.in("c1", curl(server, "")), "you are 203.0.113.1 port")
		if is := n.maps()["2001:db8:1::11"]; is != was {
			t.Errorf("the client had %s and has %s", was, is)
		}
		if err := os.WriteFile(restarted, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open.Wait(); err != nil || !strings.Contains(talk.String(), "second") {
			t.Errorf("the connection has not survived: %v: %s", err, talk.String())
		}
	})
	t.Run("reload", func(t *testing.T) {
		n.write("pool = 7\n")
		n.daemon.Process.Signal(syscall.SIGHUP)
		eventually(t, soon, func() error {
			if !strings.Contains(n.log.String(), "keeping the old one") {
				return fmt.Errorf("nothing is said about the file:\n%s", n.log.String())
			}
			return nil
		})
		wants(t, n.in("c1", curl(server, "")), "you are 203.0.113.1 port")
		n.reload(engine + "deny = [\"198.51.100.7/32\"]\n")
		if out, err := n.try("c1", curl(server, "-m 5")); err == nil {
			t.Errorf("the denied server answers: %s", out)
		}
	})
	n.end(syscall.SIGTERM)
	if out := n.in("g", "ip -o link; ip -6 route; ip route"); strings.Contains(out, "nat64") {
		t.Errorf("left behind: %s", out)
	}
}

// TestGatewayPool gives each client a port range of its own, limits it, and leads
// ports and addresses inside.
func TestGatewayPool(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, `
pool = "100.64.0.0/16"
nat44 = "pool"
addresses = ["203.0.113.1", "203.0.113.3"]
ports-per-client = 2000
connections-per-client = 5
maps-per-64 = 3
[[nat64.map]]
ipv4 = "100.64.0.4"
ipv6 = "2001:db8:1::12"
[[nat64.forward]]
outside = "203.0.113.3:8443/tcp"
inside  = "[2001:db8:1::12]:80"
[log]
sessions = true
`)
	const server = "198.51.100.7"
	// The third address that is given is the third client: 100.64.0.4.
	out := n.in("c2", curl(server, ""))
	var port int
	if _, err := fmt.Sscanf(out, "you are 203.0.113.1 port %d", &port); err != nil || port < 1024+2*2000 || port >= 1024+3*2000 {
		t.Errorf("c2 is seen as %q, want ports 5024 to 7023 of 203.0.113.1", out)
	}
	wants(t, n.in("c2", "ping -6 -n -c 1 -W 30 "+to(server)), " 0% packet loss")
	eventually(t, soon, func() error {
		for line := range strings.Lines(n.log.String()) {
			if strings.Contains(line, "session begins") && strings.Contains(line, "protocol=6 client=2001:db8:1::12 inside=100.64.0.4:") &&
				strings.Contains(line, fmt.Sprintf("outside=203.0.113.1:%d remote=198.51.100.7:80", port)) {
				return nil
			}
		}
		return fmt.Errorf("the session is not logged:\n%s", n.log.String())
	})

	n.serve("c2", "AF_INET6", 80)
	wants(t, n.in("s", "curl -sS -m 20 http://203.0.113.3:8443/"), "you are "+to("203.0.113.2"))
	wants(t, n.in("s", "curl -sS -m 20 http://100.64.0.4/"), "you are "+to("203.0.113.2"))

	t.Run("connections of a client are limited", func(t *testing.T) {
		out, _ := n.try("c1", `python3 -c '
import socket, time
n, all = 0, []
for i in range(12):
    s = socket.socket(socket.AF_INET6); s.settimeout(30 if n < 5 else 3)
    try: s.connect(("`+to(server)+`", 80)); n += 1; all.append(s)
    except OSError: pass
print("connected:", n)'`)
		wants(t, out, "connected: 5\n")
		if n.dropped("too-many-connections") == 0 {
			t.Errorf("nothing is counted as too-many-connections: %+v", n.status().Drops)
		}
	})
	t.Run("shared ports", func(t *testing.T) {
		n.reload("nat44 = \"pool\"\naddresses = [\"203.0.113.3\"]\nports-per-client = 0\nmaps-per-64 = 3\n")
		wants(t, n.in("c2", curl(server, "")), "you are 203.0.113.3 port")
	})
	t.Run("routed pool", func(t *testing.T) {
		n.reload("nat44 = \"none\"\nmaps-per-64 = 3\n")
		wants(t, n.in("c2", curl(server, "")), "you are 100.64.")
	})
	t.Run("maps of a network are limited", func(t *testing.T) {
		for i := range 4 {
			n.in("c1", fmt.Sprintf("ip -6 addr add 2001:db8:1::a%d/128 dev eth0 nodad", i))
			n.try("c1", fmt.Sprintf("ping -6 -n -c 1 -W 30 -I 2001:db8:1::a%d %s", i, to(server)))
		}
		if s := n.status(); s.Maps.Dynamic != 3 || n.dropped("too-many-maps") == 0 {
			t.Errorf("%+v, drops %+v", s.Maps, s.Drops)
		}
		out, _ := n.try("c1", "ping -6 -n -c 1 -W 30 -I 2001:db8:1::a3 "+to(server))
		wants(t, out, "Address unreachable")
	})
}

// TestGatewayCrowd has 50 clients make 100 connections each and exhausts a small
// pool.
func TestGatewayCrowd(t *testing.T) {
	t.Parallel()
	n := newGatewayNet(t, "pool = \"100.64.0.0/26\"\n")
	const server = "198.51.100.7"
	out := n.in("c1", `
for i in $(seq 100 199); do echo addr add 2001:db8:1::$i/128 dev eth0 nodad; done | ip -6 -batch -
python3 - <<'END'
import collections, socket, concurrent.futures
errors = collections.Counter()
def talk(i, connections):
    answered, failed = 0, 0
    while answered < connections and failed < 3: # else it has no address
        s = socket.socket(socket.AF_INET6); s.settimeout(30)
        try:
            s.bind(("2001:db8:1::%d" % i, 0)); s.connect(("`+to(server)+`", 80))
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if b"you are" in s.makefile("rb").read(): answered, failed = answered + 1, 0
            else: failed += 1
        except OSError as e: failed += 1; errors[repr(e)] += 1
        s.close()
    return answered
with concurrent.futures.ThreadPoolExecutor(25) as p: first = list(p.map(lambda i: talk(i, 100), range(100, 150)))
with concurrent.futures.ThreadPoolExecutor(25) as p: rest = list(p.map(lambda i: talk(i, 10), range(150, 199)))
print("first:", sum(first), "rest:", sum(1 for n in rest if n == 10), errors)
END`)
	t.Log(out)
	// 64 addresses, of which 61 are given.
	wants(t, out, "first: 5000 rest: 11")
	if s := n.status(); s.Maps.Dynamic != 61 || s.Maps.Size != 61 || n.dropped("pool-exhausted") == 0 {
		t.Errorf("%+v, drops %+v", s.Maps, s.Drops)
	}
}
