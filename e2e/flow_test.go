package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// Helpers of the tests in which networks come and go: single packets and
// connections, the laptop's CLATs, and what the daemon says of them.

const (
	// soon is how long a change may take that takes a second or two on a quiet
	// machine. What it took is logged.
	soon = 3 * time.Minute

	// patience is how long one packet, or one question to the daemon, may wait
	// for its answer.
	patience = 90 * time.Second
)

// connect connects a host's socket, by an interface if that is not empty, from a
// local address if that is valid.
func connect(h *lab.Host, network, to, iface string, from netip.Addr) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: patience}
	if network == "udp4" && from.IsValid() {
		d.LocalAddr = &net.UDPAddr{IP: from.AsSlice()}
	} else if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	if iface != "" {
		d.ControlContext = bindTo(iface)
	}
	err = h.Do(func() error {
		conn, err = d.Dial(network, to)
		return err
	})
	return conn, err
}

// answered sends a datagram to the server's echo service and waits a moment
// for the answer.
func answered(h *lab.Host, iface string, patience time.Duration) error {
	conn, err := connect(h, "udp4", service(lab.PortEcho), iface, netip.Addr{})
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	return roundTrip(conn, []byte("are you there?"))
}

// firstAnswer tries again and again until a datagram is answered, and returns
// when.
func (w *world) firstAnswer(t *testing.T, iface string, limit time.Duration) time.Time {
	t.Helper()
	deadline := time.Now().Add(limit)
	for wait := 100 * time.Millisecond; ; wait = min(wait*5/4, 3*time.Second) {
		err := answered(w.Laptop, iface, wait)
		if err == nil {
			return time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatalf("no IPv4 after %v: %v\n%s", limit, err, w.log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// measure logs how long after a moment a datagram is answered, which must be
// soon.
func (w *world) measure(t *testing.T, what string, since time.Time) {
	t.Helper()
	t.Logf("%s: first IPv4 packet answered after %v", what, w.firstAnswer(t, "", soon).Sub(since).Round(time.Millisecond))
}

// connection opens a TCP connection to the server's echo service and uses it.
func (w *world) connection(t *testing.T, iface string, from netip.Addr) net.Conn {
	t.Helper()
	conn, err := connect(w.Laptop, "tcp4", service(lab.PortEcho), iface, from)
	if err != nil {
		t.Fatalf("connection by %q from %s: %v", iface, from, err)
	}
	t.Cleanup(func() { conn.Close() })
	wantAlive(t, "a new connection", conn)
	return conn
}

// wantAlive uses a connection.
func wantAlive(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(soon))
	if err := roundTrip(conn, pattern(100)); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// wantEnded finds that a connection has been ended soon, and not by a
// time-out of ours.
func wantEnded(t *testing.T, what string, conn net.Conn, since time.Time) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(soon))
	_, err := conn.Read(make([]byte, 1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Errorf("%s hangs", what)
	case err == nil:
		t.Errorf("%s goes on", what)
	default:
		t.Logf("%s ended within %v: %v", what, time.Since(since).Round(time.Millisecond), err)
	}
}

// whoami returns the address that the server sees.
func (w *world) whoami(t *testing.T, args ...string) netip.Addr {
	t.Helper()
	return w.whoamiAt(t, lab.ServerIPv4, args...)
}

// whoamiAt is whoami at another address of the server.
func (w *world) whoamiAt(t *testing.T, at netip.Addr, args ...string) netip.Addr {
	t.Helper()
	out := w.laptop(t, "curl", append([]string{"-sS", "--max-time", "30", "http://" + at.String() + "/"}, args...)...)
	_, addr, _ := strings.Cut(strings.TrimSpace(out), "you are ")
	you, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return you.Addr()
}

// serves opens a socket that listens on the CLAT's address, and returns what
// finds out, with a connection from the server, that it still does.
func (w *world) serves(t *testing.T) (check func(t *testing.T)) {
	t.Helper()
	const port = 8080
	var listener net.Listener
	err := w.Laptop.Do(func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(w.clat.IPv4, port).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, "still here")
			}()
		}
	}()
	return func(t *testing.T) {
		t.Helper()
		// The lab's PLATs give each IPv6 address an IPv4 address of its own.
		conn, err := connect(w.Server, "tcp4", netip.AddrPortFrom(w.whoami(t), port).String(), "", netip.Addr{})
		if err != nil {
			t.Errorf("the listening socket is not reached: %v", err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(soon))
		buf := make([]byte, 20)
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "still here" {
			t.Errorf("the listening socket said %q, %v", buf[:n], err)
		}
	}
}

// index returns the index of one of the laptop's interfaces.
func (w *world) index(t *testing.T, name string) int {
	t.Helper()
	link, err := w.Laptop.Netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}

// wantSame finds the interface and IPv4 address of a CLAT unchanged.
func (w *world) wantSame(t *testing.T, was lab.CLAT, index int) {
	t.Helper()
	now, err := w.FindCLAT()
	if err != nil || now.TUN != was.TUN || now.IPv4 != was.IPv4 || w.index(t, now.TUN) != index {
		t.Errorf("CLAT is %+v, was %+v with index %d, %v", now, was, index, err)
	}
}

// wantCLATs waits until the laptop has exactly n CLATs.
func (w *world) wantCLATs(t *testing.T, n int) []lab.CLAT {
	t.Helper()
	var all []lab.CLAT
	eventually(t, startTimeout, func() (err error) {
		if all, err = w.FindCLATs(); err == nil && len(all) != n {
			err = fmt.Errorf("%d CLATs instead of %d: %+v\n%s", len(all), n, all, w.log.String())
		}
		return err
	})
	return all
}

// status asks the daemon about an uplink.
func (w *world) status(iface string) (control.Uplink, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	s, err := w.daemon.Status(ctx)
	if err != nil {
		return control.Uplink{}, err
	}
	i := slices.IndexFunc(s.Uplinks, func(u control.Uplink) bool { return u.Name == iface })
	if i < 0 {
		return control.Uplink{}, fmt.Errorf("%s is no uplink: %q", iface, s.Why)
	}
	return s.Uplinks[i], nil
}

// wantState waits until the daemon says that an uplink is in a state, for a
// reason in which the words occur.
func (w *world) wantState(t *testing.T, iface string, state control.State, words ...string) control.Uplink {
	t.Helper()
	var u control.Uplink
	eventually(t, startTimeout, func() (err error) {
		if u, err = w.status(iface); err != nil {
			return err
		}
		missing := slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(u.Why, word) })
		if u.State != state || missing {
			return fmt.Errorf("%s is %s, because %q (discovery: %s), instead of %s, because %q\n%s", iface, u.State, u.Why, u.Discovery, state, words, w.log.String())
		}
		return nil
	})
	return u
}

// wantPREF64 waits until traffic goes by a PREF64.
func (w *world) wantPREF64(t *testing.T, p netip.Prefix) {
	t.Helper()
	eventually(t, startTimeout, func() error {
		u, err := w.status(lab.Uplink)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(u.PREF64, func(q control.PREF64) bool { return q.InUse }); u.State != control.Up || i < 0 || u.PREF64[i].Prefix != p {
			return fmt.Errorf("%s is %s with %+v instead of %s (%s)\n%s", lab.Uplink, u.State, u.PREF64, p, u.Discovery, w.log.String())
		}
		return nil
	})
	w.firstAnswer(t, "", soon)
}

// nudge makes the daemon look again.
func (w *world) nudge(t *testing.T) {
	t.Helper()
	if err := control.NewClient(w.daemon.Socket).Nudge(t.Context(), control.Nudge{Interface: lab.Uplink}); err != nil {
		t.Fatal(err)
	}
}

// rules returns how many rules the laptop has besides those of every host.
func (w *world) rules(t *testing.T) int {
	t.Helper()
	n := 0
	for _, line := range must(t)(w.Laptop.Snapshot()) {
		if strings.HasPrefix(line, "rule ") && !slices.Contains(w.before, line) {
			n++
		}
	}
	return n
}

// bindTo makes a dialer's sockets use one interface.
func bindTo(iface string) func(ctx context.Context, network, address string, c syscall.RawConn) error {
	return func(_ context.Context, _, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), iface) })
		return errors.Join(controlErr, err)
	}
}
