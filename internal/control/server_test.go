package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tnat64d/datapath/engine"
	"tnat64d/internal/say"
	"tnat64d/siit"
)

// fake is a daemon.
type fake struct {
	mu     sync.Mutex
	status Status
	see    func(string, engine.Seen)
	err    error // of Trace
	nudges []Nudge
	by     Peer // of the last nudge
	asked  int
}

func (f *fake) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.status
}

func (f *fake) Trace(see func(string, engine.Seen)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.see = see
	return f.err
}

func (f *fake) Nudge(n Nudge, by Peer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.Interface == "nope0" {
		return errors.New("there is no interface nope0")
	}
	f.nudges, f.by = append(f.nudges, n), by
	return nil
}

func (f *fake) set(version string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Version = version
}

// packet is what an engine does with one.
func (f *fake) packet(uplink string, s engine.Seen) {
	f.mu.Lock()
	see := f.see
	f.mu.Unlock()
	if see != nil {
		see(uplink, s)
	}
}

func (f *fake) traced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.see != nil
}

// buffer is a log.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// quick are the limits of tests, with time for those who behave on a machine
// under load.
var quick = limits{
	connections: 32, others: 8, user: 4, requests: 16, streams: 12, traces: 4,
	request: 30 * time.Second, stream: 30 * time.Second, beat: 20 * time.Millisecond, pause: time.Millisecond,
}

type running struct {
	*Server
	*Client
	fake *fake
	path string
	log  *buffer
	stop func()
}

func start(t *testing.T, l limits) *running {
	t.Helper()
	r := &running{fake: new(fake), path: filepath.Join(t.TempDir(), "run", "tnat64d.sock"), log: new(buffer)}
	s, err := newServer(CLATDaemon, r.path, r.fake, slog.New(slog.NewTextHandler(r.log, nil)), l, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	r.Server, r.Client = s, NewClient(r.path)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(time.Minute):
			stacks := make([]byte, 1<<20)
			t.Errorf("Run has not returned within a minute:\n%s", stacks[:runtime.Stack(stacks, true)])
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// works checks that the server still answers.
func (r *running) works(t *testing.T) {
	t.Helper()
	if _, err := r.Status(t.Context()); err != nil {
		t.Errorf("the server is no longer of use: %v", err)
	}
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 60 s: not %s", what)
		}
	}
}

func TestStatus(t *testing.T) {
	r := start(t, quick)
	r.fake.set("1.2")
	s, err := r.Status(t.Context())
	if err != nil || s.Version != "1.2" || s.Uplinks == nil {
		t.Errorf("%+v, %v", s, err)
	}
	c := r.dial(t)
	fmt.Fprint(c, "GET /v1/status HTTP/1.0\r\n\r\n")
	answer, _ := io.ReadAll(c)
	if !bytes.Contains(answer, []byte(`"uplinks":[]`)) {
		t.Errorf("the answer is %q, want a list also without uplinks", answer)
	}
}

func TestNudge(t *testing.T) {
	r := start(t, quick)
	want := Nudge{Interface: "wlan0", Resolvers: []netip.Addr{netip.MustParseAddr("2001:db8::53")}}
	if err := r.Nudge(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if len(r.fake.nudges) != 1 || fmt.Sprint(r.fake.nudges[0]) != fmt.Sprint(want) {
		t.Errorf("the daemon was told %v", r.fake.nudges)
	}
	if me := (Peer{UID: uint32(os.Getuid()), PID: int32(os.Getpid())}); r.fake.by != me {
		t.Errorf("the daemon was told that %+v nudges, and it was %+v", r.fake.by, me)
	}
	if err := r.Nudge(t.Context(), Nudge{Interface: "nope0"}); err == nil || !strings.Contains(err.Error(), "there is no interface nope0") {
		t.Errorf("error %v", err)
	}
	for _, body := range []string{"", "x", "{", "[]", `{"resolvers":["x"]}`, `{"interface":"` + strings.Repeat("x", maxBody) + `"}`} {
		c := r.dial(t)
		fmt.Fprintf(c, "POST /v1/nudge HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if answer, _ := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			t.Errorf("%.20q is answered by %q", body, answer)
		}
	}
	if len(r.fake.nudges) != 1 {
		t.Errorf("the daemon was told %v", r.fake.nudges)
	}
	// A body that never comes.
	l := quick
	l.request = 200 * time.Millisecond
	r = start(t, l)
	c := r.dial(t)
	fmt.Fprint(c, "POST /v1/nudge HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	if len(r.fake.nudges) != 0 {
		t.Errorf("the daemon was told %v", r.fake.nudges)
	}
	r.works(t)
}

func TestWatch(t *testing.T) {
	r := start(t, quick)
	r.fake.set("0")
	ctx, cancel := context.WithCancel(t.Context())
	var got []string
	err := r.Watch(ctx, func(s Status) error {
		got = append(got, s.Version)
		if len(got) == 4 {
			cancel()
			return nil
		}
		r.fake.set(fmt.Sprint(len(got)))
		r.Changed()
		return nil
	})
	if err != nil || strings.Join(got, " ") != "0 1 2 3" {
		t.Errorf("saw %q, %v", got, err)
	}
	enough := errors.New("enough")
	if err := r.Watch(t.Context(), func(Status) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v, want the callback's own", err)
	}
}

// A client that does not read is told the latest, when it does again, and costs
// a question to the daemon per answer and not per change.
func TestWatchSlowly(t *testing.T) {
	l := quick
	l.stream = 10 * time.Second
	r := start(t, l)
	r.fake.status.Why = strings.Repeat("x", 64<<10)
	c := r.dial(t)
	fmt.Fprint(c, "GET /v1/watch HTTP/1.0\r\n\r\n")
	last := 0
	eventually(t, "stuck", func() bool {
		r.fake.mu.Lock()
		before := r.fake.asked
		r.fake.mu.Unlock()
		for range 20 {
			last++
			r.fake.set(fmt.Sprint(last))
			r.Changed()
			time.Sleep(time.Millisecond)
		}
		r.fake.mu.Lock()
		defer r.fake.mu.Unlock()
		return r.fake.asked == before
	})
	b := bufio.NewReader(c)
	for {
		l, err := b.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var s Status
		if json.Unmarshal(l, &s) == nil && s.Version == fmt.Sprint(last) {
			break
		}
	}
	if r.fake.asked > last/2 {
		t.Errorf("asked %d times for %d changes", r.fake.asked, last)
	}
}

func TestWatchEndsWithServer(t *testing.T) {
	r := start(t, quick)
	err := r.Watch(t.Context(), func(Status) error { go r.stop(); return nil })
	if !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want %v", err, ErrGone)
	}
	r.stop() // it has ended: streams end before the socket goes
	if _, err := os.Lstat(r.path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := r.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("error %v, want %v", err, ErrNotRunning)
	}
}

// Changed never waits and works without a server.
func TestChangedWithoutServer(t *testing.T) { (*Server)(nil).Changed() }

func TestGarbage(t *testing.T) {
	l := quick
	l.request = time.Second
	r := start(t, l)
	for _, in := range []string{
		"\x00\x01\x02\x03\n\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\n\r\n", // no Host
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"GET /v1/watch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 20<<10) + "\r\n\r\n",
		"GET /v1/trace?reason=nope HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/trace?snaplen=999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/trace?nope=1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"", "G", "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: ", // says no more
	} {
		c := r.dial(t)
		io.WriteString(c, in)
		c.SetDeadline(time.Now().Add(60 * time.Second))
		answer, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.40q: the connection stays", in)
		}
		if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 505")) {
			t.Errorf("%.40q is answered by %.40q", in, answer)
		}
	}
	r.works(t)
	const kind = "a client of the control socket sent an invalid request"
	if n := strings.Count(r.log.String(), kind); n != 1 {
		t.Errorf("%d lines about garbage, want 1:\n%s", n, r.log)
	}
}

// Whoever connects and says nothing, or too often, does not keep others out for
// long.
func TestTooManyConnections(t *testing.T) {
	l := quick
	l.request = time.Second
	r := start(t, l)
	var all []net.Conn
	for range 3 * l.connections {
		if c, err := net.Dial("unix", r.path); err == nil {
			defer c.Close()
			all = append(all, c)
		}
	}
	closed := make(map[net.Conn]bool)
	eventually(t, "closed but for those that may stay", func() bool {
		for _, c := range all {
			c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); err == io.EOF {
				closed[c] = true
			}
		}
		return len(closed) >= len(all)-l.connections
	})
	eventually(t, "free again", func() bool { _, err := r.Status(t.Context()); return err == nil })
	if n := strings.Count(r.log.String(), "too many connections"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, r.log)
	}
}

func TestTooManyStreams(t *testing.T) {
	r := start(t, quick)
	for range quick.streams {
		c := r.dial(t)
		fmt.Fprint(c, "GET /v1/watch HTTP/1.0\r\n\r\n")
		bufio.NewReader(c).ReadString('\n')
	}
	err := r.Watch(t.Context(), func(Status) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "too many programs watch") {
		t.Errorf("error %v", err)
	}
	r.works(t)
}

// A client that goes without a word, and whose going is not seen because it
// has sent too much before, is noticed.
func TestStreamEndsWithClient(t *testing.T) {
	r := start(t, quick)
	for range 3 * quick.traces {
		c := r.dial(t)
		fmt.Fprint(c, "GET /v1/trace HTTP/1.0\r\n\r\nand more that is never read")
		bufio.NewReader(c).ReadString('\n')
		c.Close()
		eventually(t, "untraced", func() bool { return !r.fake.traced() })
	}
}

// A client that traces and never reads loses records, then its connection, and
// costs bounded memory.
func TestNeverReads(t *testing.T) {
	l := quick
	l.stream = 300 * time.Millisecond
	r := start(t, l)
	c := r.dial(t)
	fmt.Fprint(c, "GET /v1/trace?snaplen=1500 HTTP/1.0\r\n\r\n")
	eventually(t, "traced", r.fake.traced)
	s := seen(siit.Translated, siit.None, udp4(1400), udp6(1400))
	eventually(t, "disconnected", func() bool {
		for range 1000 {
			r.fake.packet("wlan0", s)
		}
		if all := r.tracing.all.Load(); all != nil {
			for _, n := range *all {
				n.mu.Lock()
				if n.bytes > maxQueued {
					t.Errorf("%d bytes are queued", n.bytes)
				}
				n.mu.Unlock()
			}
		}
		return !r.fake.traced()
	})
	eventually(t, "logged", func() bool { return strings.Contains(r.log.String(), "does not read") })
	r.works(t)
}

func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(CLATDaemon, path, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrInUse) {
		t.Errorf("beside a live one: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	s, err := NewServer(CLATDaemon, path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("in the place of a dead one: %v", err)
	}
	// Another's socket in our place is left alone.
	os.Remove(path)
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.socket.Close()
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the other's socket: %v", err)
	} else {
		c.Close()
	}
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{file, "is not a socket"},
		{filepath.Join(file, "s"), "not a directory"},
		{filepath.Join(dir, strings.Repeat("x", 200)), "more than the 107 of a Unix socket"},
	} {
		_, err := NewServer(CLATDaemon, tt.path, nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.path, err)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file is lost")
	}
}

// The socket has mode 0660 whatever the umask, and whoever lacks the right to
// write is told so by the client.
func TestPermission(t *testing.T) {
	old := syscall.Umask(0o077)
	r := start(t, quick)
	syscall.Umask(old)
	fi, err := os.Lstat(r.path)
	if err != nil || fi.Mode().Perm() != 0o660 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
	needUsers(t)
	openUp(r.path)
	_, err = dialAs(r.path)
	if err := NewClient(r.path).explain(err); !errors.Is(err, ErrForbidden) {
		t.Errorf("nobody gets %v, want %v", err, ErrForbidden)
	}
	r.works(t)
}

// Errors of a client that finds something else than a daemon.
func TestClientErrors(t *testing.T) {
	answer := func(text string) string {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.SetDeadline(time.Now().Add(time.Minute))
				c.Read(make([]byte, 4096))
				io.WriteString(c, text)
				c.Close()
			}
		}()
		return path
	}
	for _, tt := range []struct {
		path, want string
		is         error
	}{
		{"/nonexistent/s", "tnat64d is not running: no program listens at /nonexistent/s", ErrNotRunning},
		{answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "too old", ErrTooOld},
		{answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), "tnat64d refuses: 500 No", nil},
		{answer("SSH-2.0-OpenSSH\r\n"), "does not speak the protocol of tnat64d", nil},
		{answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhaha"), "does not speak the protocol of tnat64d", nil},
		{answer(""), "closes the connection without an answer", nil},
	} {
		for _, daemon := range []Daemon{CLATDaemon, GatewayDaemon} {
			want := strings.ReplaceAll(tt.want, string(CLATDaemon), string(daemon))
			_, err := newClient(daemon, tt.path).Status(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v\nwant %s", err, want)
			}
			var f *say.Failure
			if errors.As(err, &f) && daemon == GatewayDaemon && strings.Contains(f.Hint, string(CLATDaemon)) {
				t.Errorf("the hint is about another daemon: %s", f.Hint)
			}
		}
	}
}
