package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// The shim tests run `tnat64 COMMAND` as an ordinary user on an IPv6-only
// laptop without tnat64d: real programs, which must behave as on a host with
// IPv4, and a C program for the system calls that none of them makes.

var _ = addAct("shim-go", func(args []string) (string, error) {
	c, err := net.Dial("tcp4", args[0])
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	page, err := io.ReadAll(c)
	return fmt.Sprintf("%s peer %s", page, c.RemoteAddr()), err
})

// shimWorld is a lab whose laptop has no tnat64d.
type shimWorld struct {
	*lab.Lab
	t     *testing.T
	flags []string // of tnat64
	env   []string
}

const shimTimeout = 90 * time.Second

func newShimWorld(t *testing.T, o lab.Options, flags ...string) *shimWorld {
	t.Helper()
	needRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	l, err := lab.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	if err := l.Laptop.Sysctl("net.ipv4.ping_group_range", "0 2147483647"); err != nil {
		t.Fatal(err)
	}
	silent := l.ISP.Command(t.Context(), "ip", "neigh", "replace", deadIPv4, "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "eth1")
	if out, err := silent.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if flags == nil {
		flags = []string{"-pref64", l.PREF64().String()}
	}
	return &shimWorld{Lab: l, t: t, flags: flags}
}

// user prepares a command of an ordinary user.
func (w *shimWorld) user(ctx context.Context, args ...string) *lab.Cmd {
	cmd := w.Laptop.Command(ctx, args[0], args[1:]...)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	cmd.Dir = "/"
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "HOME=/nonexistent", "XDG_CONFIG_HOME="), w.env...)
	return cmd
}

// shim prepares `tnat64 FLAGS args...` for an ordinary user.
func (w *shimWorld) shim(ctx context.Context, args ...string) *lab.Cmd {
	w.t.Helper()
	return w.user(ctx, append(append([]string{built(w.t, "tnat64")}, w.flags...), args...)...)
}

// try runs a command by the shim and returns what it printed and its exit status.
func (w *shimWorld) try(t *testing.T, args ...string) (string, int) {
	t.Helper()
	built(t, "tnat64") // building takes longer than the command may
	ctx, cancel := context.WithTimeout(t.Context(), shimTimeout)
	defer cancel()
	out, err := w.shim(ctx, args...).CombinedOutput()
	status := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		status = exit.ExitCode()
	}
	return string(out), status
}

// run is try for what must succeed.
func (w *shimWorld) run(t *testing.T, args ...string) string {
	t.Helper()
	out, status := w.try(t, args...)
	if status != 0 {
		t.Fatalf("%q: exit status %d\n%s", args, status, out)
	}
	return out
}

// callsProgram is the built testdata/shim/calls.c, linked statically.
var callsProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaries.dir, "calls")
	out, err := exec.Command("gcc", "-O1", "-w", "-static", "-pthread", "-o", path, "testdata/shim/calls.c").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return path, err
})

func calls(t *testing.T) string {
	t.Helper()
	needProgram(t, "gcc")
	path, err := callsProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// onServer runs a program of the server until the test ends.
func (w *shimWorld) onServer(t *testing.T, args ...string) {
	t.Helper()
	cmd := w.Server.Command(context.Background(), args[0], args[1:]...)
	// A process group of its own: "git daemon" runs the server as its child.
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
}

// programs are what must work, each with what it must print.
var shimPrograms = []struct {
	name    string
	needs   string
	command func(w *shimWorld, t *testing.T) []string
	wants   []string
}{
	{"curl", "curl", runs("curl", "-sS", "--noproxy", "*", "-m", "20", "http://"+server+"/"), []string{lab.Greeting}},
	{"curl by name with AI_ADDRCONFIG", "curl", runs("curl", "-sS", "--noproxy", "*", "-m", "20", "--resolve", "v4.example:80:"+server, "http://v4.example/"), []string{lab.Greeting}},
	{"wget", "wget", runs("wget", "--no-proxy", "-T", "20", "-t", "1", "-qO-", "http://"+server+"/"), []string{lab.Greeting}},
	{"ssh", "/usr/sbin/sshd", sshCommand, []string{"over ssh as root from ", "to " + server + " 2222"}},
	{"git clone", "git", func(w *shimWorld, t *testing.T) []string {
		dir := forEverybody(t)
		return []string{"sh", "-c", "cd " + dir + " && git clone -q git://" + server + ":9418/repo && git -C repo log --format=%s"}
	}, []string{"the commit"}},
	{"python3 requests", "/usr/bin/python3", func(w *shimWorld, t *testing.T) []string {
		if err := exec.Command("/usr/bin/python3", "-c", "import requests").Run(); err != nil {
			t.Skip("needs the package python3-requests")
		}
		return []string{"/usr/bin/python3", "-c", "import requests\ns=requests.Session();s.trust_env=False;print(s.get('http://" + server + "/',timeout=20).text)"}
	}, []string{lab.Greeting}},
	{"python3 http.server", "python3", python(`
import http.server,threading,urllib.request
h=http.server.ThreadingHTTPServer(('0.0.0.0',0),http.server.BaseHTTPRequestHandler)
http.server.BaseHTTPRequestHandler.do_GET=lambda s:(s.send_response(200),s.end_headers(),s.wfile.write(b'served to '+s.client_address[0].encode()))
http.server.BaseHTTPRequestHandler.log_message=lambda *a:0
threading.Thread(target=h.serve_forever,daemon=True).start()
o=urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(o.open('http://127.0.0.1:%d/'%h.server_port,timeout=20).read(),o.open('http://'+S+'/',timeout=20).read())`), []string{"served to 127.0.0.1", lab.Greeting}},
	{"python3 socket", "python3", python(`
s=socket.create_connection((S,7),20);s.sendall(b'hello');print(s.recv(9),s.getpeername(),s.getsockname()[0],s.family)
print(socket.getaddrinfo(S,80,0,1,0,socket.AI_ADDRCONFIG)[0][4])`), []string{"b'hello' ('198.51.100.7', 7)", "2\n", "('198.51.100.7', 80)"}},
	{"python3 asyncio", "python3", python(`
import asyncio
async def main():
    r,w=await asyncio.open_connection(S,80);w.write(b'GET / HTTP/1.0\r\n\r\n');print(await r.read())
    class P(asyncio.DatagramProtocol):
        def connection_made(self,t): t.sendto(b'ping',(S,7))
        def datagram_received(self,d,a): print(d,a);f.set_result(1)
    f=asyncio.get_running_loop().create_future()
    await asyncio.get_running_loop().create_datagram_endpoint(P,local_addr=('0.0.0.0',0))
    await asyncio.wait_for(f,20)
asyncio.run(main())`), []string{lab.Greeting, "b'ping' ('198.51.100.7', 7)"}},
	{"python3 UDP, two servers on one socket", "python3", python(`
s=socket.socket(2,2);s.settimeout(20)
s.sendto(b'a',(S,7));print(s.recvfrom(9));s.sendto(b'b',(S,1007));print(s.recvfrom(9),s.getsockname()[1]>0)
s.connect((S,7));s.send(b'c');print(s.recvfrom(9),s.getpeername())`), []string{"(b'a', ('198.51.100.7', 7))", "(b'b', ('198.51.100.7', 1007)) True", "(b'c', ('198.51.100.7', 7)) ('198.51.100.7', 7)"}},
	{"python3 UDP, many datagrams in one call", "python3", python(`
s=socket.socket(2,2);s.setsockopt(17,104,1);data=b''.join(bytes([i])*1000 for i in range(12))+b'end'
for tries in range(30):
    s.settimeout(1)
    s.sendmsg([data],[(17,103,b'\xe8\3')],0,(S,7))
    got,sizes={},set()
    try:
        while len(got)<13:
            d,c,_,a=s.recvmsg(65535,99);sizes.add(a)
            for i in range(0,len(d),1000): got[d[i]]=d[i:i+1000]
    except TimeoutError: continue
    print(b''.join(got[i] for i in range(12))+got[101]==data,sizes);break`), []string{"True {('198.51.100.7', 7)}"}},
	{"static Go program", "", func(w *shimWorld, t *testing.T) []string {
		return []string{actorPath(t), actCommand, "shim-go", server + ":80"}
	}, []string{lab.Greeting, "peer 198.51.100.7:80"}},
	{"static 32-bit Go program", "", func(w *shimWorld, t *testing.T) []string { return []string{static386(t), server} },
		[]string{lab.Greeting, "peer 198.51.100.7:80", "datagram from 198.51.100.7:7"}},
	{"node", "node", runs("node", "-e", `require('http').get('http://198.51.100.7/',r=>r.on('data',d=>process.stdout.write(d)));
const u=require('dgram').createSocket('udp4');u.on('message',(m,r)=>{console.log(m.toString(),r.address,r.port);u.close()});u.send('hi',7,'198.51.100.7')`),
		[]string{lab.Greeting, "hi 198.51.100.7 7"}},
	{"java", "java", func(w *shimWorld, t *testing.T) []string {
		path, err := filepath.Abs("testdata/shim/Fetch.java")
		if err != nil {
			t.Fatal(err)
		}
		return []string{"java", "-Xshare:auto", readable(t, path), server}
	}, []string{lab.Greeting, "datagram from /198.51.100.7:7"}},
	{"dig over UDP", "dig", runs("dig", "+short", "+tries=2", "+time=10", "@"+server, "server.example", "A"), []string{server}},
	{"dig over TCP", "dig", runs("dig", "+tcp", "+short", "+tries=1", "+time=20", "@"+server, "server.example", "A"), []string{server}},
	{"ping", "ping", runs("ping", "-n", "-c", "2", "-i", "0.2", "-w", "30", server), []string{"from 198.51.100.7", "2 received"}},
	{"traceroute", "traceroute", runs("traceroute", "-n", "-q", "1", "-w", "20,0,0", "-m", "6", server), []string{"192.0.0.8", "198.51.100.7"}},
	{"iperf3 TCP", "iperf3", runs("iperf3", "-c", server, "-t", "1"), []string{"iperf Done"}},
	{"iperf3 TCP down, four streams", "iperf3", runs("iperf3", "-c", server, "-t", "1", "-R", "-P", "4"), []string{"iperf Done"}},
	{"iperf3 UDP", "iperf3", runs("iperf3", "-c", server, "-u", "-b", "5M", "-t", "1"), []string{"iperf Done"}},
	{"iperf3 UDP down", "iperf3", runs("iperf3", "-c", server, "-u", "-b", "5M", "-t", "1", "-R"), []string{"iperf Done"}},
	{"shell with jobs", "", runs("sh", "-c", "for i in 1 2 3 4; do curl -sS --noproxy '*' -m 20 http://198.51.100.7/ & done; wait; echo all"), []string{"all"}},
	{"make -j", "make", runs("sh", "-c", "printf 'all: 1 2 3 4 5 6\\n1 2 3 4 5 6:\\n\\t@curl -sS --noproxy \"*\" -m 20 http://198.51.100.7/ >/dev/null && echo done $@\\n' | make -j 4 -f -"), []string{"done 1", "done 6"}},
	{"sockets passed to another process", "python3", python(`
import array,os
a,b=socket.socketpair()
def passed(s):
    if os.fork()==0:
        a.sendmsg([b'x'],[(1,1,array.array('i',[s.fileno()]))]);os._exit(0)
    return socket.socket(fileno=array.array('i',b.recvmsg(9,99)[1][0][2])[0])
s=passed(socket.socket());s.connect((S,7));s.sendall(b'one');print(s.recv(9),s.getpeername(),s.family)
t=passed(s);t.sendall(b'two');print(t.recv(9),t.getpeername())`), []string{"b'one' ('198.51.100.7', 7) 2", "b'two' ('198.51.100.7', 7)"}},
	{"names after a failed connection, and another one", "python3", python(`
s=socket.socket()
for f in lambda: s.connect((S,9)), s.getpeername:
    try: f()
    except OSError as e: print(e.errno)
s.connect((S,7));print(s.getpeername())`), []string{"111\n107\n('198.51.100.7', 7)"}},
	{"TCP to 127.0.0.1", "python3", python(`
l=socket.create_server(('127.0.0.1',0));c=socket.create_connection(l.getsockname());a,p=l.accept()
print(c.getpeername()[0],p[0],c.getsockname()==p)`), []string{"127.0.0.1 127.0.0.1 True"}},
	{"UDP to 127.0.0.1", "python3", python(`
l=socket.socket(2,2);l.bind(('127.0.0.1',0));c=socket.socket(2,2);c.settimeout(20);c.sendto(b'x',l.getsockname())
d,a=l.recvfrom(9);l.sendto(b'y',a);print(c.recvfrom(9)==(b'y',l.getsockname()))`), []string{"True"}},
	{"multicast", "python3", python(`
r=socket.socket(2,2);r.setsockopt(1,2,1);r.bind(('',5555));r.setsockopt(0,35,socket.inet_aton('239.1.2.3')+socket.inet_aton('127.0.0.1'));r.settimeout(20)
s=socket.socket(2,2);s.setsockopt(0,32,socket.inet_aton('127.0.0.1'));s.sendto(b'all',('239.1.2.3',5555));print(r.recv(9))`), []string{"b'all'"}},
	{"SO_DOMAIN and options of a socket that listens", "python3", python(`
s=socket.socket();s.setsockopt(1,2,1);s.setsockopt(6,4,44);print(s.getsockopt(1,39),s.getsockname());s.bind(('0.0.0.0',0));s.listen()
print(s.getsockopt(1,39),s.getsockopt(1,2),s.getsockopt(6,4),s.getsockname()[0])
p=socket.socket();p.listen();print(p.getsockname()[0])`), []string{"2 ('0.0.0.0', 0)", "2 1 44 0.0.0.0", "\n0.0.0.0\n"}},
}

// forEverybody makes a directory in which everybody may write.
func forEverybody(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(binaries.dir, "open")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sshCommand runs sshd on the server, and a command on it.
func sshCommand(w *shimWorld, t *testing.T) []string {
	dir := forEverybody(t)
	script := fmt.Sprintf(`set -e
mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f %[1]s/host
ssh-keygen -q -t ed25519 -N '' -f %[1]s/user
chown %[2]d %[1]s/user
cp %[1]s/user.pub %[1]s/authorized
(printf '[%[3]s]:2222 '; cat %[1]s/host.pub) >%[1]s/known; chmod 644 %[1]s/known`, dir, nobody, server)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.onServer(t, "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", "2222", "-h", dir+"/host", "-o", "StrictModes=no", "-o", "UsePAM=no",
		"-o", "PermitRootLogin=yes", "-o", "AuthorizedKeysFile="+dir+"/authorized", "-o", "ListenAddress="+server, "-o", "PidFile=none")
	return []string{"sh", "-c", fmt.Sprintf(`for i in $(seq 100); do
  ssh -F none -i %[1]s/user -o BatchMode=yes -o UserKnownHostsFile=%[1]s/known -o ConnectTimeout=20 -p 2222 root@%[2]s 'echo over ssh as $(id -un) from ${SSH_CONNECTION%%%% *} >&2; echo to ${SSH_CONNECTION#* * }' 2>&1 && exit
  sleep 0.2
done; exit 1`, dir, server)}
}

func runs(args ...string) func(*shimWorld, *testing.T) []string {
	return func(*shimWorld, *testing.T) []string { return args }
}

func python(code string) func(*shimWorld, *testing.T) []string {
	return runs("python3", "-c", "import socket\nS='"+server+"'\n"+strings.TrimPrefix(code, "\n"))
}

// readable returns a copy of a file that everybody may read.
func readable(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(binaries.dir, filepath.Base(path))
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}

// static386 builds a program that calls the kernel as 32-bit programs do.
func static386(t *testing.T) string {
	t.Helper()
	// An ELF file that ends at once shows whether the kernel runs such programs:
	// mov $1, %eax; xor %ebx, %ebx; int $0x80.
	probe := filepath.Join(binaries.dir, "probe386")
	elf := []byte("\x7fELF\x01\x01\x01" + strings.Repeat("\x00", 9) +
		"\x02\x00\x03\x00\x01\x00\x00\x00\x54\x80\x04\x08\x34\x00\x00\x00" + strings.Repeat("\x00", 8) +
		"\x34\x00\x20\x00\x01\x00\x00\x00\x00\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x80\x04\x08\x00\x80\x04\x08\x5d\x00\x00\x00\x5d\x00\x00\x00\x05\x00\x00\x00\x00\x10\x00\x00" +
		"\xb8\x01\x00\x00\x00\x31\xdb\xcd\x80")
	if err := os.WriteFile(probe, elf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(probe).Run(); err != nil {
		t.Skipf("the kernel runs no 32-bit programs: %v", err)
	}
	path := filepath.Join(binaries.dir, "static386")
	cmd := exec.Command(goProgram, "build", "-o", path, "./testdata/shim/static386")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=386")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestShimPrograms runs everyday programs.
func TestShimPrograms(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	repo := t.TempDir()
	for _, args := range [][]string{
		{"git", "init", "-q", repo + "/repo"},
		{"git", "-C", repo + "/repo", "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "--allow-empty", "-m", "the commit"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Logf("%q: %v %s", args, err, out)
		}
	}
	if _, err := exec.LookPath("git"); err == nil {
		w.onServer(t, "git", "daemon", "--reuseaddr", "--export-all", "--base-path="+repo, "--listen="+server, repo)
	}
	if _, err := exec.LookPath("iperf3"); err == nil {
		w.onServer(t, "iperf3", "-s", "-B", server)
	}
	for _, p := range shimPrograms {
		t.Run(p.name, func(t *testing.T) {
			if p.needs != "" {
				if _, err := exec.LookPath(p.needs); err != nil {
					t.Skipf("needs the program %q", p.needs)
				}
			}
			args := p.command(w, t)
			wants(t, w.run(t, args...), p.wants...)
		})
	}
}

// TestShimCalls makes the system calls that programs have trouble with.
func TestShimCalls(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	for _, h := range []*lab.Host{w.Laptop, w.Server} {
		if err := h.Sysctl("net.ipv4.tcp_fastopen", "3"); err != nil {
			t.Fatal(err)
		}
	}
	c := calls(t)
	for _, name := range []string{"names", "epoll", "nonblocking", "dup", "options", "bound-port", "fast-open", "mmsg", "mapped", "io_uring", "device", "storm", "wild", "forks", "others", "landlock"} {
		t.Run(name, func(t *testing.T) { wants(t, w.run(t, c, name, server), name+" right") })
	}
	t.Run("musl", func(t *testing.T) {
		needProgram(t, "musl-gcc")
		for _, link := range []string{"-static", "-dynamic"} {
			path := filepath.Join(binaries.dir, "calls"+link)
			if out, err := exec.Command("musl-gcc", "-O1", "-w", link, "-o", path, "testdata/shim/calls.c").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, name := range []string{"names", "nonblocking", "epoll", "mmsg"} {
				wants(t, w.run(t, path, name, server), name+" right")
			}
		}
	})
	t.Run("private network beyond NAT64", func(t *testing.T) {
		const private = "10.9.9.9"
		for _, c := range []struct {
			host *lab.Host
			args []string
		}{{w.Server, []string{"ip", "addr", "add", private + "/32", "dev", "lo"}}, {w.ISP, []string{"ip", "route", "add", private + "/32", "via", server}}} {
			if out, err := c.host.Command(t.Context(), c.args[0], c.args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		w.onServer(t, "python3", "-c", "import socket\nl=socket.create_server(('"+private+"',4711))\nwhile 1: l.accept()[0].sendall(b'private')")
		wants(t, w.run(t, "python3", "-c", `import socket,time
for i in range(100):
    try: s=socket.create_connection(('`+private+`',4711),20);break
    except ConnectionRefusedError: time.sleep(.1)
print(s.recv(99),s.getpeername())`), "b'private' ('"+private+"', 4711)")
	})
	for _, name := range []string{"refused", "udp-refused"} {
		t.Run(name, func(t *testing.T) { wants(t, w.run(t, c, name, server, "9"), name+" right") })
	}
	t.Run("closed", func(t *testing.T) {
		wants(t, w.run(t, c, "closed", server), "closed right", "does not let its memory be read (PR_SET_DUMPABLE)")
	})
	t.Run("setuid", func(t *testing.T) {
		path := filepath.Join(binaries.dir, "setuid")
		b, err := os.ReadFile(c)
		if err == nil {
			err = os.WriteFile(path, b, 0o755)
		}
		if err == nil {
			err = os.Chmod(path, 0o755|os.ModeSetuid)
		}
		if err != nil {
			t.Fatal(err)
		}
		wants(t, w.run(t, path, "names", server), "names right", "is a setuid program: it runs as yourself")
	})
	t.Run("slow", func(t *testing.T) {
		wants(t, w.run(t, "env", "DEAD="+deadIPv4, c, "slow", server), "slow right")
	})
	for _, name := range []string{"timed-out", "interrupted"} { // nobody answers there
		t.Run(name, func(t *testing.T) { wants(t, w.run(t, c, name, deadIPv4, "9"), name+" right") })
	}
}

// deadIPv4 is an address of the server's network that nobody has, and about
// which no router says so.
const deadIPv4 = "198.51.100.99"

// TestShimConnections makes ten thousand connections.
func TestShimConnections(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	n := "many"
	if testing.Short() {
		t.Skip("takes long")
	}
	wants(t, w.run(t, calls(t), n, server, "80"), "many right")
}

// TestShimEnd looks at how commands end, and what outlives them.
func TestShimEnd(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	for _, c := range []struct {
		args   []string
		status int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143},
		{[]string{"no-such-program"}, 127},
		{[]string{"/no/such/program"}, 127},
		{[]string{"/etc/passwd"}, 126},
		{[]string{"-no-such-flag"}, 125},
		{nil, 125},
	} {
		if out, status := w.try(t, c.args...); status != c.status {
			t.Errorf("%q: exit status %d, want %d\n%s", c.args, status, c.status, out)
		}
	}
	t.Run("daemon", func(t *testing.T) {
		dir, err := os.MkdirTemp(binaries.dir, "daemon")
		if err == nil {
			err = os.Chmod(dir, 0o777)
		}
		if err != nil {
			t.Fatal(err)
		}
		witness := filepath.Join(dir, "witness")
		w.run(t, "env", "WITNESS="+witness, calls(t), "daemon", server)
		eventually(t, shimTimeout, func() error {
			_, err := os.ReadFile(witness)
			return err
		})
	})
	t.Run("a signal to tnat64 reaches the command", func(t *testing.T) {
		cmd := w.shim(t.Context(), "sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 6)
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatal(err)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		rest, _ := io.ReadAll(out)
		err = cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 || string(rest) != "caught\n" {
			t.Errorf("%v, %q", err, rest)
		}
	})
	t.Run("descriptors are inherited and not kept", func(t *testing.T) {
		// The reader sees the end of the pipe though the supervisor lives on.
		out := w.run(t, "sh", "-c", "(sleep 20 </dev/null >/dev/null 2>&1 3>&- 4>&- &) ; echo end")
		wants(t, out, "end")
	})
}

// TestShimLeavesNoProcess runs commands, one of which is killed, and waits for
// the supervisors to go.
func TestShimLeavesNoProcess(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	for range 20 {
		w.run(t, calls(t), "epoll", server)
	}
	cmd := w.shim(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	cmd.Process.Kill()
	cmd.Wait()
	var own unix.Stat_t
	if err := w.Laptop.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &own) }); err != nil {
		t.Fatal(err)
	}
	eventually(t, shimTimeout, func() error {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, path := range lines {
			b, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(b), "tnat64-shim") && !strings.Contains(string(b), "sleep\x001000") {
				continue
			}
			var st unix.Stat_t
			if unix.Stat(filepath.Join(filepath.Dir(path), "ns/net"), &st) == nil && st.Ino == own.Ino {
				return fmt.Errorf("%s still runs: %q", path, b)
			}
		}
		return nil
	})
}

// TestShimPrefix looks at where the prefix comes from.
func TestShimPrefix(t *testing.T) {
	t.Parallel()
	t.Run("router advertisement", func(t *testing.T) {
		t.Parallel()
		w := newShimWorld(t, lab.Options{}, "-v")
		setResolvConf(t, w, "nameserver ::1\n")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { // routers cannot be asked without privilege
			for ctx.Err() == nil {
				w.Advertiser.SetAdvert(w.Advertiser.Advert())
				time.Sleep(500 * time.Millisecond)
			}
		}()
		out := w.run(t, "curl", "-sS", "--noproxy", "*", "-m", "20", "http://"+server+"/")
		wants(t, out, "by router advertisement", lab.Greeting)
	})
	t.Run("DNS", func(t *testing.T) {
		t.Parallel()
		w := newShimWorld(t, lab.Options{DNS: &lab.DNS{}, NoPREF64: true}, "-v")
		setResolvConf(t, w, "nameserver "+lab.RouterIPv6.String()+"\n")
		out := w.run(t, "curl", "-sS", "--noproxy", "*", "-m", "20", "http://"+server+"/")
		wants(t, out, "by DNS (ipv4only.arpa)", lab.Greeting)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		w := newShimWorld(t, lab.Options{NoPREF64: true}, "-v")
		setResolvConf(t, w, "nameserver ::1\n")
		out, status := w.try(t, "true")
		wants(t, out, "no PREF64 found", "hint: ")
		if status != 125 {
			t.Errorf("exit status %d", status)
		}
	})
}

func setResolvConf(t *testing.T, w *shimWorld, text string) {
	t.Helper()
	if err := w.SetResolvConf(w.Laptop, text); err != nil {
		t.Fatal(err)
	}
}

// TestShimPolicy looks at what is not translated.
func TestShimPolicy(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	config := filepath.Join(binaries.dir, "policy.toml")
	text := fmt.Sprintf(`[shim]
local = ["10.1.0.0/16"]
[[shim.route]]
network = "0.0.0.0/0"
pref64 = "none"
[[shim.route]]
network = "198.51.100.0/24"
pref64 = %q
`, w.PREF64())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.flags = []string{"-config", config}
	t.Run("a network with a prefix", func(t *testing.T) {
		wants(t, w.run(t, "curl", "-sS", "--noproxy", "*", "-m", "20", "http://"+server+"/"), lab.Greeting)
	})
	connect := func(to string) []string {
		return []string{"python3", "-c", "import socket\ntry: socket.create_connection(('" + to + "',9),20)\nexcept OSError as e: print(e)"}
	}
	t.Run("a network without", func(t *testing.T) {
		wants(t, w.run(t, connect("192.0.2.200")...), "Network is unreachable", "tnat64: cannot reach 192.0.2.200: no PREF64 covers it")
	})
	t.Run("datagrams to a network without", func(t *testing.T) {
		wants(t, w.run(t, "python3", "-c", "import socket\ns=socket.socket(2,2)\ntry: s.connect(('192.0.2.201',9))\nexcept OSError as e: print(e)"),
			"Network is unreachable", "192.0.2.201")
	})
	t.Run("local", func(t *testing.T) {
		wants(t, w.run(t, connect("10.1.2.3")...), "Network is unreachable")
	})
	t.Run("local with a route", func(t *testing.T) {
		add := w.Laptop.Command(t.Context(), "ip", "addr", "add", "10.1.2.3/32", "dev", "lo")
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		wants(t, w.run(t, "python3", "-c", `import socket
l=socket.create_server(('10.1.2.3',0));c=socket.create_connection(l.getsockname());print(c.getpeername()[0])
u=socket.socket(2,2);u.bind(('10.1.2.3',0));s=socket.socket(2,2);s.sendto(b'x',u.getsockname());print(u.recvfrom(9)[0])`), "10.1.2.3", "b'x'")
	})
	t.Run("explain", func(t *testing.T) {
		wants(t, w.run(t, "-explain", server), server+": through NAT64, as "+lab.Synthesize(w.PREF64(), lab.ServerIPv4).String(), "by [[shim.route]] for 198.51.100.0/24", "method     sockets and a hidden network namespace")
		wants(t, w.run(t, "-explain", "192.0.2.200"), "unreachable", "none, by [[shim.route]] for 0.0.0.0/0")
		wants(t, w.run(t, "-explain", "10.1.9.9"), "over native IPv4", "lists its network under local")
		wants(t, w.run(t, "-explain", "127.0.0.1"), "loopback")
	})
}

// TestShimFallback looks at when IPv4 is used where both could be.
func TestShimFallback(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{NativeIPv4: true})
	native := "you are " + lab.NativeLaptop.String()
	ask := []string{"curl", "-sS", "--noproxy", "*", "-m", "40", "http://" + server + "/"}
	with := func(fallback string) *shimWorld {
		own := *w
		own.flags = append([]string{"-v", "-config", shimConfig(t, "[shim]\nfallback = \""+fallback+"\"\n")}, w.flags...)
		return &own
	}
	wants(t, with("first").run(t, ask...), native, "method: sockets")
	if out := with("never").run(t, ask...); !strings.Contains(out, lab.Greeting) || strings.Contains(out, native) {
		t.Errorf("fallback = never uses IPv4: %s", out)
	}
	twice := "import socket,time\nfor _ in 1,2:\n t=time.time();s=socket.socket();s.connect(('" + server + "',80));s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n');print(s.recv(999),'quick' if time.time()-t<2 else 'slow')"
	t.Run("first, and IPv4 does not answer", func(t *testing.T) {
		// Nobody on the link is that router; the kernel says so after 3 seconds.
		onLaptop(t, w, "ip", "route", "add", server+"/32", "via", "192.0.2.199", "dev", "wlan0", "onlink")
		defer onLaptop(t, w, "ip", "route", "del", server+"/32")
		out := with("first").run(t, "python3", "-c", twice)
		wants(t, out, "IPv4 does not reach "+server+": using NAT64 for the next 10 minutes", lab.Greeting)
		if !strings.Contains(out, "quick") {
			t.Errorf("it is not remembered: %s", out)
		}
	})
	t.Run("IPv6 goes and IPv4 comes", func(t *testing.T) {
		if err := w.SetNativeIPv4(false); err != nil {
			t.Fatal(err)
		}
		dir := forEverybody(t)
		cmd := with("auto").shim(t.Context(), "python3", "-c", `import socket,time,os
def ask():
    s=socket.create_connection(('`+server+`',80),40);s.sendall(b'GET / HTTP/1.0\r\n\r\n');return s.recv(999).decode()
open('`+dir+`/first','w').write(ask())
while not os.path.exists('`+dir+`/go'): time.sleep(.05)
for i in range(100):
    try: got=ask()
    except OSError as e: got=str(e)
    if '`+native+`' in got: break
    time.sleep(.2)
print('second',got)`)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, shimTimeout, func() error {
			b, err := os.ReadFile(dir + "/first")
			if err == nil && !strings.Contains(string(b), lab.Greeting) {
				err = fmt.Errorf("%q", b)
			}
			return err
		})
		if err := w.SetNativeIPv4(true); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/go", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		wants(t, out.String(), "second HTTP", native)
	})
}

// onLaptop runs a command of the laptop's administrator.
func onLaptop(t *testing.T, w *shimWorld, args ...string) {
	t.Helper()
	if out, err := w.Laptop.Command(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// stages returns the process numbers of the shim's own processes in the laptop's
// network namespace, by their names.
func (w *shimWorld) stages(t *testing.T) map[string][]int {
	t.Helper()
	var own unix.Stat_t
	if err := w.Laptop.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &own) }); err != nil {
		t.Fatal(err)
	}
	found := map[string][]int{}
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		b, err := os.ReadFile(path)
		args := strings.Split(string(b), "\x00")
		var st unix.Stat_t
		if err != nil || len(args) < 2 || args[0] != "tnat64-shim" || unix.Stat(filepath.Dir(path)+"/ns/net", &st) != nil || st.Ino != own.Ino {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			found[args[1]] = append(found[args[1]], pid)
		}
	}
	return found
}

// TestShimMemory looks at what supervisor and relay have needed after work.
func TestShimMemory(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	script := "for i in 1 2 3; do " + calls(t) + " forks " + server + "; " + calls(t) + " mmsg " + server + "; " + calls(t) + " wild " + server + "; done; echo worked; exec sleep 1000"
	cmd := w.shim(t.Context(), "sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for s := bufio.NewScanner(out); s.Scan() && s.Text() != "worked"; {
	}
	const most = 20000 // kB
	for name, pids := range w.stages(t) {
		for _, pid := range pids {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(b), "VmHWM:")
			kb := 0
			fmt.Sscan(rest, &kb)
			t.Logf("%s: %d kB at its peak", name, kb)
			if kb == 0 || kb > most {
				t.Errorf("%s needs %d kB, more than %d", name, kb, most)
			}
		}
	}
	if n := len(w.stages(t)); n != 2 {
		t.Errorf("%d kinds of processes", n)
	}
}

// TestShimIsTransparentWithIPv4 runs commands as they are where IPv4 has a route.
func TestShimIsTransparentWithIPv4(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{NativeIPv4: true}, "-v")
	out := w.run(t, "sh", "-c", "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; curl -sS --noproxy '*' -m 20 http://"+server+"/")
	wants(t, out, "IPv4 has a default route", "you are "+lab.NativeLaptop.String(), "NoNewPrivs:\t0", "Seccomp:\t0")
}

var _ = addAct("shim-refused", actShimRefused)

// actShimRefused runs a command under a seccomp filter that refuses what some
// containers and kernels do. The first argument lists it.
func actShimRefused(args []string) (string, error) {
	refused := map[string][]bpf.Instruction{
		"userns": { // unshare and clone with CLONE_NEWUSER, as Docker's profile
			bpf.LoadAbsolute{Off: 0, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_UNSHARE, SkipTrue: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLONE, SkipTrue: 4},
			bpf.LoadAbsolute{Off: 16, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_NEWUSER, SkipTrue: 1},
			bpf.Jump{Skip: 1},
			bpf.RetConstant{Val: 0x50000 | uint32(unix.EPERM)},
		},
		"pidfd_getfd":      refuseCall(unix.SYS_PIDFD_GETFD, unix.EPERM),
		"process_vm_readv": refuseCall(unix.SYS_PROCESS_VM_READV, unix.EPERM),
		"seccomp":          refuseCall(unix.SYS_SECCOMP, unix.EINVAL),
		"kcmp":             refuseCall(unix.SYS_KCMP, unix.EPERM),
	}
	var program []bpf.Instruction
	for _, name := range strings.Split(args[0], ",") {
		program = append(program, refused[name]...)
	}
	raw, err := bpf.Assemble(append(program, bpf.RetConstant{Val: 0x7fff0000}))
	if err != nil {
		return "", err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return "", err
	}
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, 1, 0, uintptr(unsafe.Pointer(&p))); e != 0 {
		return "", e
	}
	return "", unix.Exec(args[1], args[1:], os.Environ())
}

func refuseCall(nr uint32, e unix.Errno) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: 1},
		bpf.RetConstant{Val: 0x50000 | uint32(e)},
	}
}

// TestShimMethods takes parts of the kernel away, one after the other.
func TestShimMethods(t *testing.T) {
	t.Parallel()
	w := newShimWorld(t, lab.Options{})
	script := "curl -sS --noproxy '*' -m 20 http://" + server + "/; dig +short +tries=2 +time=10 @" + server + " server.example A; " +
		calls(t) + " udp-refused " + server + " 9; " + calls(t) + " refused " + server + " 9; " + calls(t) + " mmsg " + server + "; " +
		calls(t) + " storm " + server + "; " + calls(t) + " timed-out " + deadIPv4 + " 9"
	works := []string{lab.Greeting, server, "udp-refused right", "\nrefused right", "mmsg right", "storm right", "timed-out right"}
	for _, c := range []struct {
		refused, config string
		method, because string
	}{
		{"", "", "method: sockets and a hidden network namespace", ""},
		{"userns", "", "method: sockets, datagrams one by one", "no hidden network namespace: user namespace: operation not permitted"},
		{"pidfd_getfd", "", "method: a network namespace for the whole program", "pidfd_getfd is refused"},
		{"kcmp", "", "method: sockets and a hidden network namespace", ""},
		{"process_vm_readv", "", "method: a network namespace for the whole program", "process_vm_readv is refused"},
		{"seccomp", "", "method: a network namespace for the whole program", "no seccomp user notification"},
		{"", `method = "namespace"`, "method: a network namespace for the whole program", ""},
		{"", `method = "sockets"`, "method: sockets and a hidden network namespace", ""},
	} {
		t.Run(c.refused+c.config, func(t *testing.T) {
			args := append([]string{built(t, "tnat64"), "-v"}, w.flags...)
			if c.config != "" {
				args = append(args, "-config", shimConfig(t, "[shim]\n"+c.config+"\n"))
			}
			out := w.refusing(t, c.refused, append(args, "sh", "-c", script)...)
			wants(t, out, append(works, c.method, c.because)...)
		})
	}
	t.Run("ping and getaddrinfo without namespaces", func(t *testing.T) {
		for _, c := range []struct {
			program string
			args    []string
			wants   []string
		}{
			{"ping", []string{"ping", "-n", "-c", "1", "-w", "30", server}, []string{"64 bytes from 198.51.100.7: icmp_seq=1", "1 received"}},
			{"ping", []string{"ping", "-n", "-c", "1", "-w", "30", "127.0.0.1"}, []string{"64 bytes from 127.0.0.1", "1 received"}},
			{"python3", []string{"python3", "-c", "import socket,errno\nfor i in 1,2: print(socket.getaddrinfo('" + server + "',80,0,1,0,socket.AI_ADDRCONFIG)[0][4])\n" +
				"s=socket.socket(2,2);s.setsockopt(0,11,1);s.connect(('" + server + "',7));s.send(b'x');print(s.recvfrom(9))\n" +
				"try: s.recvmsg(9,99,socket.MSG_ERRQUEUE)\nexcept OSError as e: print('queue',errno.errorcode[e.errno])"},
				[]string{"('198.51.100.7', 80)\n('198.51.100.7', 80)", "(b'x', ('198.51.100.7', 7))", "queue EAGAIN"}},
		} {
			if _, err := exec.LookPath(c.program); err != nil {
				t.Skipf("needs the program %q", c.program)
			}
			wants(t, w.refusing(t, "userns", append(append([]string{built(t, "tnat64"), "-v"}, w.flags...), c.args...)...), append(c.wants, "datagrams one by one")...)
		}
	})
	t.Run("nothing is left, as with Docker's default profile", func(t *testing.T) {
		args := append([]string{built(t, "tnat64"), "-v"}, w.flags...)
		out := w.refusing(t, "userns,pidfd_getfd,kcmp", append(args, "true")...)
		wants(t, out, "tnat64: sockets cannot be replaced: pidfd_getfd is refused", "user namespace: operation not permitted", "hint: ")
		wants(t, w.refusing(t, "userns,pidfd_getfd", "sh", "-c", strings.Join(args, " ")+" true; echo status $?"), "status 125")
	})
	t.Run("nested", func(t *testing.T) {
		inner := built(t, "tnat64") + " -v " + strings.Join(w.flags, " ") + " -config " + shimConfig(t, "[shim]\nfallback = \"never\"\n") + " sh -c '" + strings.ReplaceAll(script, "'", `'\''`) + "'"
		wants(t, w.run(t, "sh", "-c", inner), append(works, "another supervisor already handles this process", "method: a network namespace")...)
	})
}

// shimConfig writes a configuration that everybody may read.
func shimConfig(t *testing.T, text string) string {
	t.Helper()
	f, err := os.CreateTemp(binaries.dir, "shim*.toml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Chmod(0o644); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// refusing runs a command where something is refused and returns its output,
// whatever its exit status.
func (w *shimWorld) refusing(t *testing.T, refused string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), shimTimeout)
	defer cancel()
	if refused != "" {
		args = append([]string{actorPath(t), actCommand, "shim-refused", refused}, args...)
		args[4], _ = exec.LookPath(args[4])
	}
	out, err := w.user(ctx, args...).CombinedOutput()
	if err != nil {
		t.Log(err)
	}
	return string(out)
}
