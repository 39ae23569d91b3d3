package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// askAs sends a request as nobody, and returns the status and the first line of
// the body.
func askAs(t *testing.T, path, request, body string, groups ...uint32) (int, string) {
	t.Helper()
	c, err := dialAs(path, groups...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute)) // a server that does not answer fails this request, not the whole package
	fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", request, len(body), body)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s %s: %v", request, body, err)
	}
	// Not r.Body.Close, which would read to the end of a stream.
	line, err := bufio.NewReader(r.Body).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%s %s: body: %v", request, body, err)
	}
	return r.StatusCode, line
}

// A member of the group that may open the socket reads the state, and neither
// changes the daemon nor sees packets. Root may.
func TestGroupMayOnlyRead(t *testing.T) {
	needUsers(t)
	r := start(t, quick)
	r.fake.set("1.2")
	const group = 4242
	if err := os.Lchown(r.path, -1, group); err != nil {
		t.Fatal(err)
	}
	openUp(r.path)

	for _, path := range []string{"/v1/status", "/v1/watch"} {
		if status, line := askAs(t, r.path, "GET "+path, "", group); status != http.StatusOK || !strings.Contains(line, `"version":"1.2"`) {
			t.Errorf("%s is answered with %d, %q", path, status, line)
		}
	}
	for range 3 {
		if status, line := askAs(t, r.path, "GET /v1/trace", "", group); status != http.StatusForbidden || !strings.Contains(line, "only root may trace: it shows the packets of all users") {
			t.Errorf("trace is answered with %d, %q", status, line)
		}
		for _, body := range []string{`{}`, `{"interface":"wlan0"}`, `{"interface":"wlan0","resolvers":["2001:db8::bad"]}`, "x"} {
			if status, line := askAs(t, r.path, "POST /v1/nudge", body, group); status != http.StatusForbidden || !strings.Contains(line, "only root may nudge: it may name other DNS servers") {
				t.Errorf("the nudge %s is answered with %d, %q", body, status, line)
			}
		}
	}
	if len(r.fake.nudges) > 0 || r.fake.traced() {
		t.Errorf("the daemon was nudged (%v) or traced (%t)", r.fake.nudges, r.fake.traced())
	}
	for _, words := range []string{"only root may trace", "only root may nudge"} {
		if n := strings.Count(r.log.String(), words); n != 1 {
			t.Errorf("the log has %d lines with %q, want 1:\n%s", n, words, r.log)
		}
	}
	if !strings.Contains(r.log.String(), "uid=65534") {
		t.Errorf("the log does not say who was refused:\n%s", r.log)
	}

	if err := r.Nudge(t.Context(), Nudge{Interface: "wlan0"}); err != nil || len(r.fake.nudges) != 1 {
		t.Errorf("root's nudge: %v, the daemon was told %v", err, r.fake.nudges)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.Trace(ctx, Filter{}, cancel, func(Record) error { return nil }); err != nil {
		t.Errorf("root's trace: %v", err)
	}
}

// Who is not in the group cannot even connect.
func TestOthersCannotConnect(t *testing.T) {
	needUsers(t)
	r := start(t, quick)
	if err := os.Lchown(r.path, -1, 4242); err != nil {
		t.Fatal(err)
	}
	openUp(r.path)
	if _, err := dialAs(r.path, 4243); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want %v", err, fs.ErrPermission)
	}
}

// The daemon's own user is not root. A client says so, with a hint.
func TestOwnUserIsNotRoot(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root is root")
	}
	path := filepath.Join(t.TempDir(), "s")
	f := new(fake)
	s, err := newServer(CLATDaemon, path, f, slog.New(slog.DiscardHandler), quick)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	c := NewClient(path)
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Nudge(t.Context(), Nudge{}); !errors.Is(err, ErrRootOnly) {
		t.Errorf("nudge: error %v, want %v", err, ErrRootOnly)
	}
	if err := c.Trace(t.Context(), Filter{}, nil, nil); !errors.Is(err, ErrRootOnly) {
		t.Errorf("trace: error %v, want %v", err, ErrRootOnly)
	}
	if len(f.nudges) > 0 || f.traced() {
		t.Error("the daemon was nudged or traced")
	}
}

// TestGroupDoesNotKeepOutRoot has a member of the group hold as many connections,
// and follow as many streams, as the daemon lets it.
func TestGroupDoesNotKeepOutRoot(t *testing.T) {
	needUsers(t)
	for _, request := range []string{"", "GET /v1/watch HTTP/1.0\r\n\r\n"} {
		t.Run(fmt.Sprintf("%q", request), func(t *testing.T) {
			r := start(t, quick)
			openUp(r.path)
			if err := os.Chmod(r.path, 0o666); err != nil { // as if everybody was in the group
				t.Fatal(err)
			}
			open := 0
			for range 2 * quick.connections {
				c, err := dialAs(r.path)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				// The connections of one client are accepted in their order.
				c.Write([]byte(request))
				c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					open++
				}
			}
			if open != quick.user {
				t.Errorf("one user holds %d connections, want %d", open, quick.user)
			}
			r.works(t)
			ctx, cancel := context.WithCancel(t.Context())
			if err := r.Watch(ctx, func(Status) error { cancel(); return nil }); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("root cannot watch: %v", err)
			}
		})
	}
}
