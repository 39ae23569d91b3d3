package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"

	"tnat64d/internal/needs"
)

// needRoot skips a test, or fails it where privileged tests are required.
func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "makes network namespaces")
}

func newTestLab(t *testing.T, o Options) *Lab {
	t.Helper()
	needRoot(t)
	t.Parallel() // a lab spends its first seconds waiting for the kernel's DAD
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	start := time.Now()
	l, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("lab %s is up after %v", l.ID, time.Since(start).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l
}

// dial opens a connection from the laptop by native IPv6 to an address as the
// PLAT synthesises it: that needs no CLAT.
func dial(t *testing.T, l *Lab, network string, v4 netip.Addr, port int) net.Conn {
	t.Helper()
	var conn net.Conn
	err := l.Laptop.Do(func() (err error) {
		addr := netip.AddrPortFrom(Synthesize(l.PREF64(), v4), uint16(port)).String()
		conn, err = net.DialTimeout(network, addr, 60*time.Second)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return conn
}

// fetch gets a path of the server over conn and hands the body to check.
func fetch(t *testing.T, conn net.Conn, path string, check func(io.Reader) error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}}
	resp, err := client.Get("http://server.example" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := check(resp.Body); err != nil {
		t.Error(err)
	}
}

// TestPREF64Lengths reaches the IPv4 server through the PLAT with each length
// of prefix.
func TestPREF64Lengths(t *testing.T) {
	l := newTestLab(t, Options{})
	for _, bits := range []int{96, 64, 56, 48, 40, 32} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			p, err := PREF64OfLength(bits)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.SetPREF64(p); err != nil {
				t.Fatal(err)
			}
			fetch(t, dial(t, l, "tcp6", ServerIPv4, PortHTTP), "/", func(r io.Reader) error {
				page, err := io.ReadAll(r)
				if err == nil && !strings.HasPrefix(string(page), Greeting+", you are 203.0.113.2:") {
					err = fmt.Errorf("page is %q", page)
				}
				return err
			})
		})
	}
}

// TestSmallMTUBeyond moves megabytes both ways past a link of 1400 bytes: Path
// MTU discovery works through the PLAT.
func TestSmallMTUBeyond(t *testing.T) {
	l := newTestLab(t, Options{MTUISP: 1400})
	const n = 8 << 20
	fetch(t, dial(t, l, "tcp6", ServerIPv4, PortHTTP), fmt.Sprintf("/bytes/%d", n), func(r io.Reader) error { return Downloaded(r, n) })

	conn := dial(t, l, "tcp6", ServerIPv4, PortEcho)
	go func() {
		conn.Write(make([]byte, n))
		conn.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.Copy(io.Discard, conn); err != nil || got != n {
		t.Errorf("echo of %d bytes: %d came back, %v", n, got, err)
	}
}

// TestUDP sends datagrams small, large (fragmented on both sides of the PLAT),
// and answered without checksum.
func TestUDP(t *testing.T) {
	l := newTestLab(t, Options{})
	for _, c := range []struct{ port, size int }{
		{PortEcho, 10}, {PortEcho, 8000}, {PortEchoNoChecksum, 10}, {PortEchoNoChecksum, 1200},
	} {
		conn := dial(t, l, "udp6", ServerIPv4, c.port)
		conn.SetDeadline(time.Now().Add(60 * time.Second))
		if _, err := conn.Write(block[:c.size]); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		n, err := conn.Read(buf)
		if err != nil || !slices.Equal(buf[:n], block[:c.size]) {
			t.Errorf("port %d: %d bytes sent, %d came back, %v", c.port, c.size, n, err)
		}
	}
}

// TestWithoutPLAT reaches the server's own synthesised address.
func TestWithoutPLAT(t *testing.T) {
	l := newTestLab(t, Options{NoPLAT: true})
	own, err := l.LaptopAddress()
	if err != nil {
		t.Fatal(err)
	}
	fetch(t, dial(t, l, "tcp6", ServerIPv4, PortHTTP), "/", func(r io.Reader) error {
		page, err := io.ReadAll(r)
		if err == nil && !strings.Contains(string(page), own.String()) {
			err = fmt.Errorf("page is %q: not from %s", page, own)
		}
		return err
	})
	m, err := ask(t, l, "udp6", Synthesize(l.PREF64(), ServerIPv4), NameServer, dnsmessage.TypeA, patience)
	if err != nil || len(m.Answers) != 1 {
		t.Errorf("the server's DNS: %v, %v", m.GoString(), err)
	}
}

// TestLaptopIsIPv6Only finds no IPv4 on the laptop, and native IPv4 only when
// asked for.
func TestLaptopIsIPv6Only(t *testing.T) {
	l := newTestLab(t, Options{})
	before, err := l.Laptop.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	routes, err := whole(func() ([]netlink.Route, error) { return l.Laptop.Netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil || slices.ContainsFunc(routes, isDefault) {
		t.Errorf("IPv4 routes: %v, %v", routes, err)
	}
	connect := func() error {
		return l.Laptop.Do(func() error {
			conn, err := net.DialTimeout("tcp4", netip.AddrPortFrom(ServerIPv4, PortHTTP).String(), 60*time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	if err := connect(); err == nil || !strings.Contains(err.Error(), "network is unreachable") {
		t.Errorf("connect by IPv4: %v", err)
	}
	if err := l.SetNativeIPv4(true); err != nil {
		t.Fatal(err)
	}
	if err := connect(); err != nil {
		t.Errorf("connect by native IPv4: %v", err)
	}
	if err := l.SetNativeIPv4(false); err != nil {
		t.Fatal(err)
	}
	after, err := l.Laptop.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if diff := before.Diff(after); len(diff) > 0 {
		t.Errorf("native IPv4 left something behind:\n%s", strings.Join(diff, "\n"))
	}
}
