package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// page fetches the server's page from a host by IPv4. A connection may take wait.
func page(h *Host, addr netip.Addr, wait time.Duration) (string, error) {
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp4", netip.AddrPortFrom(addr, PortHTTP).String(), wait)
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}}
	resp, err := client.Get("http://server.example/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func wantPage(t *testing.T, h *Host, addr, you netip.Addr) {
	t.Helper()
	got, err := page(h, addr, patience)
	if want := fmt.Sprintf("%s, you are %s:", Greeting, you); err != nil || !strings.HasPrefix(got, want) {
		t.Errorf("%s from %s: %q, %v; want %q", addr, h.Name, got, err, want)
	}
}

// TestVPN uses a tunnel by every kind of routes, here over native IPv4, and
// finds nothing of it afterwards.
func TestVPN(t *testing.T) {
	l := newTestLab(t, Options{NativeIPv4: true})
	before, err := l.Laptop.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		routes VPNRoutes
		server netip.Addr // whom the server sees at its public address
		beyond bool
	}{
		{VPNSplit, NativeLaptop, false},
		{VPNDefault, NativeLaptop, true},
		{VPNHalves, NativeLaptop, true},
		{VPNPolicy, VPNLaptop, true},
	} {
		v, err := l.StartVPN(c.routes)
		if err != nil {
			t.Fatal(err)
		}
		wantPage(t, l.Laptop, VPNServer, VPNLaptop)
		wantPage(t, l.Laptop, ServerIPv4, c.server)
		if c.beyond {
			wantPage(t, l.Laptop, VPNBeyond, VPNLaptop)
		} else if got, err := page(l.Laptop, VPNBeyond, time.Second); err == nil {
			t.Errorf("routes %d lead beyond the VPN: %q", c.routes, got)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		after, err := l.Laptop.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if diff := before.Diff(after); len(diff) > 0 {
			t.Errorf("routes %d left something behind:\n%s", c.routes, strings.Join(diff, "\n"))
		}
	}
	if err := l.SetNativeIPv4(false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.StartVPN(VPNHalves); err == nil {
		t.Error("a VPN without a way to its endpoint")
	}
}

// TestVPNResolver has the laptop ask the VPN's resolver, which resolv.conf
// names.
func TestVPNResolver(t *testing.T) {
	if _, err := exec.LookPath("getent"); err != nil {
		t.Skipf("needs the program %q", "getent")
	}
	l := newTestLab(t, Options{NativeIPv4: true})
	if _, err := l.StartVPN(VPNSplit); err != nil {
		t.Fatal(err)
	}
	machine, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Skipf("needs /etc/resolv.conf: %v", err)
	}
	for _, content := range []string{"nameserver 192.0.2.1\n", "nameserver " + VPNServer.String() + "\n"} {
		if err := l.SetResolvConf(l.Laptop, content); err != nil {
			t.Fatal(err)
		}
		out, err := l.Laptop.Command(t.Context(), "cat", "/etc/resolv.conf").Output()
		if err != nil || string(out) != content {
			t.Errorf("the laptop reads %q, %v", out, err)
		}
	}
	if now, err := os.ReadFile("/etc/resolv.conf"); err != nil || string(now) != string(machine) {
		t.Errorf("the machine's own is %q now, %v", now, err)
	}
	if out, err := l.Laptop.Command(t.Context(), "getent", "ahostsv4", strings.TrimSuffix(NameServer, ".")).CombinedOutput(); err != nil ||
		!strings.Contains(string(out), ServerIPv4.String()) {
		t.Errorf("getent: %v: %s", err, out)
	}
	asked := l.ServerQueries()
	if len(asked) == 0 || asked[0].Name != NameServer || asked[0].To.Addr() != VPNServer || asked[0].From.Addr() != VPNLaptop {
		t.Errorf("the VPN's resolver was asked %v", asked)
	}
}

// TestGuest reaches the server from a guest behind the laptop, which
// masquerades.
func TestGuest(t *testing.T) {
	l := newTestLab(t, Options{NativeIPv4: true})
	guest, err := l.AddGuest(t.Context())
	if err != nil {
		if _, missing := l.Laptop.Command(t.Context(), "nft", "--version").Output(); missing != nil {
			t.Skipf("needs nft: %v", err)
		}
		t.Fatal(err)
	}
	wantPage(t, guest, ServerIPv4, NativeLaptop)
}

// TestReplug deletes the laptop's interface and plugs it in again.
func TestReplug(t *testing.T) {
	l := newTestLab(t, Options{})
	link, err := l.Laptop.Netlink.LinkByName(Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Laptop.Netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Replug(); err != nil {
		t.Fatal(err)
	}
	online(t, l.Network)
	wantEcho(t, "replugged", l, WellKnownPrefix, 10, nil)
}
