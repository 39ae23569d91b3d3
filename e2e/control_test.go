package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/control"
	"tnat64d/internal/lab"
	"tnat64d/internal/soak"
)

// TestControlSocketAbused has clients that send garbage, thousands that connect,
// and some that ask for streams that they never read, while data flows. Those
// who behave are answered again as soon as the others have gone.
func TestControlSocketAbused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	socket := w.daemon.Socket
	dial := func() (net.Conn, error) { return net.DialTimeout("unix", socket, patience) }

	var load sync.WaitGroup
	defer load.Wait()
	load.Go(func() { w.download(t, size(512<<20)) })

	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for _, path := range []string{"watch", "watch", "trace", "trace?snaplen=65000"} {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
		fmt.Fprintf(c, "GET /v1/%s HTTP/1.1\r\nHost: tnat64d\r\n\r\n", path)
	}
	random := rand.New(rand.NewPCG(4, soak.Seed(t)))
	for i := range 300 {
		c, err := dial()
		if err != nil {
			continue // one of too many
		}
		garbage := make([]byte, 1+random.IntN(20000))
		for j := range garbage {
			garbage[j] = byte(random.Uint32())
		}
		switch i % 3 {
		case 1:
			garbage = append([]byte("GET /v1/trace?address="), garbage...)
		case 2:
			garbage = append([]byte("POST /v1/nudge HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n{\"resolvers\":["), garbage...)
		}
		c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		c.Write(garbage)
		c.Close()
	}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 400 {
				if c, err := dial(); err == nil {
					c.Close()
				}
			}
		})
	}
	callers.Wait()
	for range 200 { // and these stay
		if c, err := dial(); err == nil {
			idle = append(idle, c)
		}
	}
	w.ping(t)
	for _, c := range idle[2:] { // the watches stay
		c.Close()
	}
	eventually(t, soon, func() error {
		_, err := w.status(lab.Uplink)
		return err
	})
	load.Wait()
	w.page(t)
	// Nobody traces any more: the kernel is at work again.
	if u := w.wantState(t, lab.Uplink, control.Up); u.CLAT == nil || u.CLAT.Engine != "kernel" {
		t.Errorf("after the traces: %+v", u.CLAT)
	}
	if n := w.book.lines("level=WARN") + w.book.lines("level=ERROR"); n > 10 {
		t.Errorf("%d lines of complaints", n)
	}
}

// ping wants answers, each once.
func (w *world) ping(t *testing.T) {
	t.Helper()
	if err := w.pingedWith(t, onePing()); err != nil {
		t.Fatal(err)
	}
}

// pinged is ping for those who try again: it gives up a lost packet after 3 seconds, so
// that the time until it succeeds is that of the recovery.
func (w *world) pinged(t *testing.T) error { return w.pingedWith(t, onePing("-W", "3")) }

func (w *world) pingedWith(t *testing.T, args []string) error {
	for range 3 {
		out, err := w.try(t, "ping", args...)
		if err != nil || strings.Contains(out, "DUP!") {
			return fmt.Errorf("ping: %v\n%s", err, out)
		}
	}
	return nil
}

// TestControlSocketFile looks at the socket in the file system.
func TestControlSocketFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	socket := w.daemon.Socket
	look := func() fs.FileInfo {
		t.Helper()
		info, err := os.Lstat(socket)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.ModeSocket|0o660 || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("the socket has mode %v", info.Mode())
		}
		return info
	}
	first := look()
	w.daemon.Kill()
	if !os.SameFile(first, look()) {
		t.Error("a killed daemon has removed its socket")
	}
	w.start(built(t, "tnat64d"), true)
	look()
	if _, err := w.status(lab.Uplink); err != nil {
		t.Error(err)
	}
	if err := w.daemon.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a stop: %v", err)
	}
	w.start(built(t, "tnat64d"), true) // for the checks of every test
}

// rawStatus is the answer as programs get it.
func (w *world) rawStatus(t *testing.T) map[string]any {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", w.daemon.Socket)
		},
	}}
	r, err := client.Get("http://tnat64d/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	var s map[string]any
	if err := errors.Join(err, json.Unmarshal(body, &s)); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", r.Status, err, body)
	}
	return s
}

// has finds keys in an object, of which none may be missing.
func has(t *testing.T, what string, object any, keys ...string) map[string]any {
	t.Helper()
	m, ok := object.(map[string]any)
	if !ok {
		t.Fatalf("%s is no object: %v", what, object)
	}
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			t.Errorf("%s has no %q: %v", what, k, m)
		}
	}
	return m
}

// TestStatus compares what status, watch and JSON tell with what is there,
// while PREF64 is withdrawn and comes back, and native IPv4 comes and goes.
func TestStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.ping(t)
	w.nativeMayLeave(w.Network)

	uplink := func(state control.State, keys ...string) map[string]any {
		t.Helper()
		w.wantState(t, lab.Uplink, state)
		s := has(t, "status", w.rawStatus(t), "version", "started", "enable", "uplinks", "features", "config")
		list, _ := s["uplinks"].([]any)
		if len(list) != 1 {
			t.Fatalf("uplinks are %v", s["uplinks"])
		}
		u := has(t, string(state), list[0], append(keys, "name", "index", "state", "since", "reason", "why", "history")...)
		if u["state"] != string(state) || u["name"] != lab.Uplink {
			t.Errorf("uplink is %v", u)
		}
		return u
	}
	u := uplink(control.Up, "pref64", "discovery", "clat")
	if u["reason"] != plan.PREF64Known.String() {
		t.Errorf("the reason of a CLAT that is up is %v", u["reason"])
	}
	clat := has(t, "clat", u["clat"], "tun", "ipv4", "ipv6", "mtu4", "mtu6", "metric", "engine", "steering", "queues", "offloads", "plat", "traffic", "errors", "io_errors")
	has(t, "plat", clat["plat"], "state", "since")
	has(t, "traffic", clat["traffic"].([]any)[0], "direction", "engine", "protocol", "packets", "bytes")
	has(t, "pref64", u["pref64"].([]any)[0], "prefix", "source", "from", "expires", "in_use")

	// That the NAT64 answers shows at the next look.
	eventually(t, soon, func() error {
		u, err := w.status(lab.Uplink)
		if err == nil && (u.CLAT == nil || u.CLAT.PLAT.State != control.PLATAnswering) {
			err = fmt.Errorf("%+v", u.CLAT)
		}
		return err
	})

	// Words for people, and the truth.
	ctl := func(args ...string) string {
		t.Helper()
		return w.laptop(t, built(t, "tnat64ctl"), append([]string{"-socket", w.daemon.Socket}, args...)...)
	}
	text := ctl("status")
	addrs, routes := w.laptop(t, "ip", "addr"), w.laptop(t, "ip", "-4", "route")
	for _, v := range []string{fmt.Sprint(clat["ipv4"]), fmt.Sprint(clat["ipv6"]), fmt.Sprint(clat["tun"])} {
		wants(t, text, v)
		wants(t, addrs, v)
	}
	wants(t, routes, fmt.Sprintf("default dev %v", clat["tun"]), fmt.Sprintf("metric %v", clat["metric"]), fmt.Sprintf("mtu %v", clat["mtu4"]))
	wants(t, text, "IPv4 works", "64:ff9b::/96, in use", fmt.Sprintf("route metric %v", clat["metric"]), "IPv4 1,480 bytes", "in the kernel", "icmp")

	watch := newReader(t, w, "watch")
	watch.want(t, "IPv4 works")
	announced := w.Advert()
	if err := w.WithdrawPREF64(); err != nil {
		t.Fatal(err)
	}
	watch.want(t, lab.Uplink, "waiting for a PREF64")
	watch.want(t, "lost its NAT64 prefix")
	held := uplink(control.Held, "clat")
	if _, ok := held["pref64"]; ok {
		t.Errorf("held without PREF64: %v", held["pref64"])
	}
	wants(t, ctl("status"), "IPv4 does not work at the moment", "none known")
	if err := w.SetAdvert(announced); err != nil {
		t.Fatal(err)
	}
	watch.want(t, "NAT64 prefix 64:ff9b::/96, in use")
	uplink(control.Up, "clat")
	w.ping(t)

	if err := w.SetNativeIPv4(true); err != nil {
		t.Fatal(err)
	}
	watch.want(t, "native IPv4")
	standby := uplink(control.Standby, "pref64")
	if _, ok := standby["clat"]; ok {
		t.Error("standby has a CLAT")
	}
	wants(t, ctl("status"), "No CLAT on wlan0, and none is needed", "native IPv4")
	if err := w.SetNativeIPv4(false); err != nil {
		t.Fatal(err)
	}
	uplink(control.Up, "clat")

	// One line for each change of state.
	for words, n := range map[string]int{
		"CLAT is up": 3, "the network is gone": 1, "native IPv4": 1,
	} {
		if got := w.book.lines(words); got != n {
			t.Errorf("the log has %d lines with %q, not %d:\n%s", got, words, n, w.book.String())
		}
	}
	if err := w.daemon.Stop(); err != nil {
		t.Error(err)
	}
	watch.end(t, 1)
	out, err := w.try(t, built(t, "tnat64ctl"), "-socket", w.daemon.Socket, "status")
	if err == nil {
		t.Errorf("status of a stopped daemon: %s", out)
	}
	wants(t, out, "tnat64d is not running", "hint:")
	w.start(built(t, "tnat64d"), true)
}

// reader reads what tnat64ctl prints, as it comes.
type reader struct {
	cmd  *lab.Cmd
	mu   sync.Mutex
	text bytes.Buffer
	done chan error
}

func newReader(t *testing.T, w *world, args ...string) *reader {
	t.Helper()
	r := &reader{done: make(chan error, 1)}
	r.cmd = w.Laptop.Command(t.Context(), built(t, "tnat64ctl"), append([]string{"-socket", w.daemon.Socket}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.cmd.Wait() }()
	return r
}

func (r *reader) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// want waits for a line, which need not be the next, with all the words.
func (r *reader) want(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, soon, func() error {
		for line := range strings.Lines(r.String()) {
			if hasAll(line, words) {
				return nil
			}
		}
		return fmt.Errorf("no line with %q in:\n%s", words, r.String())
	})
}

// end waits for the program to end by itself with a status.
func (r *reader) end(t *testing.T, status int) {
	t.Helper()
	select {
	case <-r.done:
		if got := r.cmd.ProcessState.ExitCode(); got != status {
			t.Errorf("exit status %d, not %d:\n%s", got, status, r.String())
		}
	case <-time.After(soon):
		t.Errorf("it does not end:\n%s", r.String())
	}
}

// interrupt is Ctrl-C.
func (r *reader) interrupt(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	r.end(t, 0)
}
