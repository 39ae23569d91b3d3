package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/say"
)

// What errors of a Client wrap. They are for people, with a hint.
var (
	ErrNotRunning = errors.New("the daemon is not running")
	ErrForbidden  = errors.New("no permission to talk to the daemon")
	ErrRootOnly   = errors.New("the daemon refuses")
	ErrTooOld     = errors.New("the running daemon is too old for this command")
	ErrGone       = errors.New("the daemon has closed the connection")
)

// kindOf is an error that says in its own words what one of the above is.
type kindOf struct {
	error
	kind error
}

func (e kindOf) Unwrap() error { return e.kind }

// SocketVariable is the environment variable that names the control socket to
// clients that are given no other.
const SocketVariable = "TNAT64_SOCKET"

// LogVariable is the environment variable that names the file with the daemon's
// log to clients that are given no other, where the journal does not have it.
const LogVariable = "TNAT64_LOG"

// Client asks a daemon.
type Client struct {
	daemon Daemon
	path   string
	http   *http.Client
}

// answerTimeout is how long the daemon may take for what it answers at once.
const answerTimeout = 10 * time.Second

// NewClient returns a Client for the control socket of tnat64d at path. Each call
// makes a connection of its own.
func NewClient(path string) *Client { return newClient(CLATDaemon, path) }

// NewGatewayClient returns a Client for the control socket of tnat64-gateway at path.
func NewGatewayClient(path string) *Client { return newClient(GatewayDaemon, path) }

func newClient(daemon Daemon, path string) *Client {
	var d net.Dialer
	return &Client{daemon: daemon, path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives:     true,
		DisableCompression:    true,
		ResponseHeaderTimeout: answerTimeout,
	}}}
}

// Status asks for the present state.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var s Status
	body, err := c.do(ctx, http.MethodGet, "/v1/status", nil, nil)
	if err != nil {
		return s, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return s, c.explain(err)
	}
	return s, nil
}

// Watch calls changed with the present state and after every change, until ctx
// ends, and returns nil then; an error that wraps ErrGone if the daemon ends.
func (c *Client) Watch(ctx context.Context, changed func(Status) error) error {
	return follow(ctx, c, "/v1/watch", nil, nil, changed)
}

// Trace calls record with packets until ctx ends, and returns nil then; an
// error that wraps ErrGone if the daemon ends; or record's error. begun, if
// set, is called before the first packet.
func (c *Client) Trace(ctx context.Context, f Filter, begun func(), record func(Record) error) error {
	return follow(ctx, c, "/v1/trace", f.query(), begun, record)
}

// follow reads a stream of JSON values.
func follow[T any](ctx context.Context, c *Client, path string, query url.Values, begun func(), value func(T) error) error {
	body, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer body.Close()
	if begun != nil {
		begun()
	}
	for d := json.NewDecoder(body); ; {
		var v T
		err := d.Decode(&v)
		var op *net.OpError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF):
			return &say.Failure{Err: kindOf{fmt.Errorf("%s has closed the connection", c.daemon), ErrGone}, Hint: c.hintNotRunning()}
		case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
			return &say.Failure{Err: ErrGone, What: "the connection broke", Hint: "the daemon was killed, or its output was not read for a minute"}
		case err != nil:
			return c.explain(err)
		}
		if err := value(v); err != nil {
			return err
		}
	}
}

// Nudge tells the daemon about a change of the network.
func (c *Client) Nudge(ctx context.Context, n Nudge) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, "/v1/nudge", nil, b)
	if err != nil {
		return err
	}
	return body.Close()
}

// do sends a request and returns the body of a success.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body []byte) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: string(c.daemon), Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if r.StatusCode/100 == 2 {
		return r.Body, nil
	}
	defer r.Body.Close()
	if r.StatusCode == http.StatusNotFound || r.StatusCode == http.StatusMethodNotAllowed {
		return nil, &say.Failure{Err: kindOf{fmt.Errorf("the running %s is too old for this command", c.daemon), ErrTooOld}, Hint: c.hintRestart("restart the daemon")}
	}
	var p problem
	if json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&p) != nil || p.Error == "" {
		p.Error = r.Status
	}
	if r.StatusCode == http.StatusForbidden {
		return nil, &say.Failure{Err: kindOf{c.refusal(p), ErrRootOnly}, Hint: "run it with sudo; members of the group " + c.daemon.group() + " may use status and watch"}
	}
	return nil, c.refusal(p)
}

func (c *Client) refusal(p problem) error { return fmt.Errorf("%s refuses: %s", c.daemon, p.Error) }

func (c *Client) hintNotRunning() string {
	return fmt.Sprintf("run `systemctl status %s` to see whether it runs, and why not", c.daemon)
}

func (c *Client) hintRestart(why string) string {
	return fmt.Sprintf("%s: systemctl restart %s", why, c.daemon)
}

// explain gives an error of a request words.
func (c *Client) explain(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		err = u.Err
	}
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTDIR):
		return &say.Failure{Err: kindOf{fmt.Errorf("%s is not running: no program listens at %s", c.daemon, c.path), ErrNotRunning}, Hint: c.hintNotRunning()}
	case errors.Is(err, fs.ErrPermission):
		return &say.Failure{Err: kindOf{fmt.Errorf("no permission to talk to %s at %s", c.daemon, c.path), ErrForbidden}, Hint: "run it with sudo, or as a member of the group " + c.daemon.group()}
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, unix.EAGAIN), errors.As(err, &timeout) && timeout.Timeout():
		return &say.Failure{What: fmt.Sprintf("%s does not answer at %s", c.daemon, c.path), Hint: c.hintRestart("it hangs or is overloaded")}
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return &say.Failure{What: fmt.Sprintf("the program at %s closes the connection without an answer", c.path),
			Hint: fmt.Sprintf("too many programs may be connected, of all users or of you; the log of %[1]s says so: journalctl -u %[1]s", c.daemon)}
	case errors.Is(err, unix.EINVAL):
		return &say.Failure{What: fmt.Sprintf("%q is not a valid socket path", c.path), Hint: "set -socket to the path of control.socket in the configuration"}
	}
	return &say.Failure{What: fmt.Sprintf("the program that answers at %s does not speak the protocol of %s", c.path, c.daemon), Err: err,
		Hint: "set -socket to the path of control.socket in the configuration"}
}
