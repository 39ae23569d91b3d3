package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// coverage is a program that was run, unmodified, on the laptop of a whole
// 464XLAT network with a PLAT and an IPv4-only server.
type coverage struct {
	Program    string `json:"program"`
	Contestant string `json:"contestant"`
	Works      bool   `json:"works"`
	Says       string `json:"says"` // the last line of it, or why it could not be tried
	Tried      bool   `json:"tried"`
}

// probes are the built programs of programs/probe.c, by how they are linked.
type probes struct {
	dynamic, static string
	setuid          string
	noSetuid        error // why there is no setuid program
}

func buildProbes(ctx context.Context, dir string) (p probes, err error) {
	if p.dynamic, err = compile(ctx, dir, "probe.c", "probe"); err != nil {
		return p, err
	}
	if p.static, err = compile(ctx, dir, "probe.c", "probe-static", "-static"); err != nil {
		return p, err
	}
	if p.setuid, err = compile(ctx, dir, "probe.c", "probe-setuid"); err != nil {
		return p, err
	}
	if err := os.Chmod(p.setuid, 0o755|os.ModeSetuid); err != nil {
		return p, err
	}
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
		p.noSetuid = fmt.Errorf("%s is mounted nosuid", dir)
	}
	return p, nil
}

// caller runs programs on the laptop of a stage, as a user of the contestant
// types them.
type caller struct {
	*stage
	probes probes
	limit  time.Duration // for a program to end
}

// target is the IPv4-only server.
var target = lab.ServerIPv4.String()

// errNotTried wraps why a program cannot be run on this machine.
var errNotTried = errors.New("not tried")

// covered are the rows of the coverage table. Each returns what the program
// said, and an error if it does not work.
var covered = []struct {
	name string
	run  func(context.Context, caller) (string, error)
}{
	{"C program, linked dynamically (TCP)", func(ctx context.Context, c caller) (string, error) {
		return c.command(ctx, c.probes.dynamic, "tcp", target, "80")
	}},
	{"the same, connecting without blocking", func(ctx context.Context, c caller) (string, error) {
		return c.command(ctx, c.probes.dynamic, "nonblocking", target, "80")
	}},
	{"curl", func(ctx context.Context, c caller) (string, error) {
		return c.installed(ctx, "curl", "-sS", "--noproxy", "*", "-m", "3", "http://"+target+"/")
	}},
	{"wget", func(ctx context.Context, c caller) (string, error) {
		return c.installed(ctx, "wget", "--no-proxy", "-T", "3", "-t", "1", "-qO-", "http://"+target+"/")
	}},
	{"git ls-remote", func(ctx context.Context, c caller) (string, error) { return c.git(ctx) }},
	{"ssh, until it is connected", func(ctx context.Context, c caller) (string, error) {
		// Nobody speaks ssh there; the log says how far it got.
		if _, err := exec.LookPath("ssh"); err != nil {
			return "", fmt.Errorf("%w: %w", errNotTried, err)
		}
		return c.command(ctx, "sh", "-c", "timeout 4 ssh -v -F none -o BatchMode=yes -o ConnectTimeout=3 -p 80 "+target+" true 2>&1 | grep 'Connection established'")
	}},
	{"python3, TCP and UDP", func(ctx context.Context, c caller) (string, error) {
		return c.installed(ctx, "python3", "-c", "import socket\ns=socket.create_connection(('"+target+"',80),3);s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n');s.recv(99)\n"+
			"u=socket.socket(2,2);u.settimeout(3);u.sendto(b'x',('"+target+"',7));print('ok', u.recvfrom(9)[1])")
	}},
	{"node, TCP and UDP", func(ctx context.Context, c caller) (string, error) {
		return c.installed(ctx, "node", "-e", "const t=setTimeout(()=>process.exit(1),5000);require('http').get('http://"+target+"/',r=>{r.resume();r.on('end',()=>{"+
			"const u=require('dgram').createSocket('udp4');u.on('message',(m,a)=>{console.log('ok',a.address);u.close();clearTimeout(t)});u.send('x',7,'"+target+"')})})")
	}},
	{"Java, TCP", func(ctx context.Context, c caller) (string, error) { return c.java(ctx) }},
	{"a program that prints getpeername", func(ctx context.Context, c caller) (string, error) {
		return c.command(ctx, c.probes.dynamic, "peer", target, "80")
	}},
	{"C program, linked statically", func(ctx context.Context, c caller) (string, error) {
		return c.command(ctx, c.probes.static, "tcp", target, "80")
	}},
	{"Go program", func(ctx context.Context, c caller) (string, error) {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("%w: %w", errNotTried, err)
		}
		return c.command(ctx, self, goProgram, "http://"+target+"/")
	}},
	{"setuid program, run by an ordinary user", func(ctx context.Context, c caller) (string, error) {
		if c.probes.noSetuid != nil {
			return "", fmt.Errorf("%w: %w", errNotTried, c.probes.noSetuid)
		}
		says, err := c.as(ctx, &syscall.Credential{Uid: 65534, Gid: 65534}, c.probes.setuid, "tcp", target, "80")
		if err == nil && !strings.HasPrefix(says, "ok, uid 0:") {
			err = errors.New("it did not become root")
			says = "it runs, but did not become root (no_new_privs): " + says
		}
		return says, err
	}},
	{"program that connects by io_uring", func(ctx context.Context, c caller) (string, error) {
		says, err := c.command(ctx, c.probes.dynamic, "uring", target, "80")
		if strings.HasPrefix(says, "io_uring_setup:") && !hasIOUring() {
			err = fmt.Errorf("%w: %w", errNotTried, err) // switched off here
		}
		return says, err
	}},
	{"UDP client", func(ctx context.Context, c caller) (string, error) {
		return c.command(ctx, c.probes.dynamic, "udp", target, "7")
	}},
	{"dig (DNS over UDP)", func(ctx context.Context, c caller) (string, error) {
		return c.dig(ctx)
	}},
	{"dig +tcp", func(ctx context.Context, c caller) (string, error) {
		return c.dig(ctx, "+tcp")
	}},
	{"ping (raw or ICMP socket)", func(ctx context.Context, c caller) (string, error) {
		says, err := c.installed(ctx, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", target)
		for line := range strings.Lines(says) {
			if strings.Contains(line, "received") {
				says = line
			}
		}
		return says, err
	}},
	{"listening server, reached from outside", func(ctx context.Context, c caller) (string, error) { return c.listen(ctx) }},
}

// hasIOUring reports whether this kernel lets us have an io_uring.
func hasIOUring() bool {
	var params [120]byte
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if e == 0 {
		unix.Close(int(fd))
	}
	return e == 0
}

// cover runs every program under every contestant and, for comparison, with
// nobody's help.
func (b *session) cover(ctx context.Context) (err error) {
	if !b.wants("coverage") {
		return nil
	}
	if b.probes, err = buildProbes(ctx, b.dir); err != nil {
		b.note("Coverage was not looked at: %v", err)
		return nil
	}
	var stages []*stage
	for _, c := range b.contestants {
		if isRouter(c) {
			continue
		}
		stages = append(stages, &stage{contestant: c, setup: setup{MTU: ethernet}, plat: true})
	}
	defer func() { err = errors.Join(err, cleanUp(closeAll(stages))) }()
	if err := raise(ctx, b.generator, stages); err != nil {
		return err
	}
	b.say("coverage: %d programs", len(covered))
	rows := make([][]coverage, len(stages))
	var all sync.WaitGroup
	for i, s := range stages {
		all.Go(func() {
			for _, p := range covered {
				row := coverage{Program: p.name, Contestant: s.contestant.id(), Tried: true}
				var err error
				if s.out != nil {
					err = fmt.Errorf("%w: %w", errNotTried, s.out)
				} else {
					row.Says, err = p.run(ctx, caller{s, b.probes, 2 * b.patience})
				}
				row.Works = err == nil
				if errors.Is(err, errNotTried) {
					row.Tried, row.Says = false, err.Error()
				} else if err != nil && row.Says == "" {
					row.Says = err.Error()
				}
				row.Says = strings.TrimSpace(row.Says)
				rows[i] = append(rows[i], row)
			}
		})
	}
	all.Wait()
	for _, r := range rows {
		b.results.Coverage = append(b.results.Coverage, r...)
	}
	return nil
}

// command runs a program and returns the last line that it printed.
func (c caller) command(ctx context.Context, name string, args ...string) (string, error) {
	return c.as(ctx, nil, name, args...)
}

// as does so as another user.
func (c caller) as(ctx context.Context, who *syscall.Credential, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	line := append(append(append([]string(nil), c.service.wrapper...), name), args...)
	cmd := c.lab.Laptop.Command(ctx, line[0], line[1:]...)
	cmd.Env = append(os.Environ(), append(c.service.env, "LC_ALL=C")...)
	cmd.Dir = "/"
	cmd.SysProcAttr.Credential = who
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if len(args) > 0 && name == "ping" {
		return text, err // it is not the last line that tells
	}
	return text[strings.LastIndexByte(text, '\n')+1:], err
}

// installed runs a program of the system, if it is there.
func (c caller) installed(ctx context.Context, name string, args ...string) (string, error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", fmt.Errorf("%w: %w", errNotTried, err)
	}
	return c.command(ctx, name, args...)
}

// git asks a git daemon on the server what it has.
func (c caller) git(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return "", fmt.Errorf("%w: %w", errNotTried, err)
	}
	dir, err := os.MkdirTemp(c.lab.Dir, "git")
	if err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"init", "-q", dir + "/repo"},
		{"-C", dir + "/repo", "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "--allow-empty", "-m", "x"},
	} {
		if out, err := exec.CommandContext(ctx, "git", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: git: %w: %s", errNotTried, err, out)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	daemon := c.lab.Server.Command(ctx, "git", "daemon", "--reuseaddr", "--export-all", "--base-path="+dir, "--listen="+target, dir)
	daemon.SysProcAttr.Setpgid = true // it has a child
	if err := daemon.Start(); err != nil {
		return "", err
	}
	defer daemon.Wait()
	defer func() { syscall.Kill(-daemon.Process.Pid, syscall.SIGKILL) }()
	var says string
	for range 10 { // until it listens
		if says, err = c.command(ctx, "git", "ls-remote", "git://"+target+"/repo"); err == nil {
			return says, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return says, err
}

// java runs a program from its source.
func (c caller) java(ctx context.Context) (string, error) {
	const source = `public class Fetch { public static void main(String[] a) throws Exception {
	try (var s = new java.net.Socket()) { s.connect(new java.net.InetSocketAddress(a[0], 80), 3000); System.out.println("ok " + s.getRemoteSocketAddress()); } } }`
	path := c.lab.Dir + "/Fetch.java"
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		return "", err
	}
	return c.installed(ctx, "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", path, target)
}

// dig asks the server for a name.
func (c caller) dig(ctx context.Context, more ...string) (string, error) {
	says, err := c.installed(ctx, "dig", append([]string{"+short", "+tries=1", "+time=2", "@" + target, strings.TrimSuffix(lab.NameServer, "."), "A"}, more...)...)
	if _, parseErr := netip.ParseAddr(says); err == nil && parseErr != nil {
		err = errors.New("no address in the answer")
	}
	return says, err
}

// listen runs a server on the laptop and connects to it from the IPv4-only
// machine, at the address by which the laptop is known there.
func (c caller) listen(ctx context.Context) (string, error) {
	const port = "8080"
	page, err := c.command(ctx, c.probes.dynamic, "tcp", target, "80")
	if err != nil {
		return "it has no IPv4 address to be reached at", err
	}
	// "ok, uid 0: hello ..., you are 203.0.113.2:4711"
	outside, _, err := net.SplitHostPort(page[strings.LastIndexByte(page, ' ')+1:])
	if err != nil {
		return page, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	line := append(append([]string(nil), c.service.wrapper...), c.probes.dynamic, "listen", port)
	cmd := c.lab.Laptop.Command(ctx, line[0], line[1:]...)
	cmd.Env = append(os.Environ(), c.service.env...)
	cmd.Dir = "/"
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	var stderr tail
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	end := sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	defer end()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		end() // then it has said why
		return stderr.String(), err
	}
	var answer []byte
	err = c.lab.Server.Do(func() error {
		conn, err := net.DialTimeout("tcp4", net.JoinHostPort(outside, port), 3*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		answer, err = io.ReadAll(conn)
		return err
	})
	if err == nil && string(bytes.TrimSpace(answer)) != "welcome" {
		err = errors.New("wrong answer")
	}
	if err != nil {
		return err.Error(), err
	}
	return "ok, reached at " + outside, nil
}

// goProgram makes this program be one that fetches a page, as Go programs are:
// linked statically, with system calls of its own.
const goProgram = "go-program"

// runGoProgram fetches a page and returns the exit status.
func runGoProgram(args []string) int {
	client := http.Client{Timeout: 3 * time.Second, Transport: new(http.Transport)} // no proxy
	resp, err := client.Get(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, resp.Status, err)
		return 1
	}
	fmt.Printf("ok: %s", page)
	return 0
}
