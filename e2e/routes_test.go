package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestRoutes gives the laptop routes to parts of the PREF64: IPv4 follows them as
// IPv6 does, from one moment to the next.
func TestRoutes(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{network: lab.Options{}, config: config})
		pref64 := w.wantState(t, lab.Uplink, control.Up).PREF64[0].Prefix
		embed := func(v4 string) netip.Addr {
			a, b := pref64.Addr().As16(), netip.MustParseAddr(v4).As4()
			copy(a[12:], b[:])
			return netip.AddrFrom16(a)
		}
		part := func(v4 string, bits int) *net.IPNet {
			return &net.IPNet{IP: embed(v4).AsSlice(), Mask: net.CIDRMask(96+bits, 128)}
		}
		do := func(f func() error) {
			t.Helper()
			if err := w.Laptop.Do(f); err != nil {
				t.Fatal(err)
			}
		}
		// A second router that takes packets and never answers.
		other, mac := net.ParseIP("fe80::99"), net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
		var uplink int
		do(func() error {
			l, err := netlink.LinkByName(lab.Uplink)
			if err != nil {
				return err
			}
			uplink = l.Attrs().Index
			return netlink.NeighAdd(&netlink.Neigh{LinkIndex: uplink, IP: other, HardwareAddr: mac, State: unix.NUD_PERMANENT})
		})
		routes := []*netlink.Route{
			{Dst: part("203.0.113.0", 24), LinkIndex: uplink, Gw: other},
			{Dst: part("198.51.100.0", 28), Type: unix.RTN_UNREACHABLE},
			{Dst: part("198.18.1.0", 24), Type: unix.RTN_PROHIBIT},
			{Dst: part("198.18.2.0", 24), Type: unix.RTN_BLACKHOLE},
		}
		w.ping(t) // the server is in the second of them
		for _, r := range routes {
			do(func() error { return netlink.RouteAdd(r) })
		}
		eventually(t, startTimeout, func() error {
			u, err := w.status(lab.Uplink)
			if err == nil && u.CLAT.RoutesFollowed != len(routes) {
				err = fmt.Errorf("%d routes are followed, want %d", u.CLAT.RoutesFollowed, len(routes))
			}
			return err
		})
		text := w.ctl(t, "status")
		for _, words := range []string{" via fe80::99 on " + lab.Uplink, ": unreachable", ": prohibit", ": blackhole"} {
			if !strings.Contains(text, words) {
				t.Errorf("status says nothing of %q:\n%s", words, text)
			}
		}

		if got := w.nextHop(t, netip.MustParseAddr("203.0.113.9"), embed("203.0.113.9")); !slices.Equal(got, mac) {
			t.Errorf("packets go to %v, want %v", got, mac)
		}
		for addr, want := range map[string]error{server: unix.EHOSTUNREACH, "198.18.1.1": unix.EHOSTUNREACH, "198.18.2.1": nil} {
			if err := w.connect(t, "tcp4", netip.MustParseAddr(addr)); !errors.Is(err, want) {
				t.Errorf("connect to %s: %v, want %v", addr, err, want)
			}
		}
		drops := map[string]uint64{}
		for _, d := range w.wantState(t, lab.Uplink, control.Up).CLAT.Drops {
			drops[d.Reason] = d.Packets
		}
		for _, reason := range []string{"no-route", "prohibited-by-route", "blackhole-route"} {
			if drops[reason] == 0 {
				t.Errorf("no packet is counted as %s: %v", reason, drops)
			}
		}

		for _, r := range routes {
			do(func() error { return netlink.RouteDel(r) })
		}
		eventually(t, startTimeout, func() error { return w.pinged(t) })

		// A rule leads to a route to more than PREF64, with a smaller MTU.
		rule := netlink.NewRule()
		rule.Family, rule.Table, rule.Priority, rule.Dst = netlink.FAMILY_V6, 1000, 100, part("203.0.113.0", 24)
		detour := &netlink.Route{Dst: part("0.0.0.0", -32), LinkIndex: uplink, Gw: other, Table: 1000, MTU: 1300}
		do(func() error { return errors.Join(netlink.RouteAdd(detour), netlink.RuleAdd(rule)) })
		eventually(t, startTimeout, func() error {
			if text := w.ctl(t, "status"); !strings.Contains(text, " via fe80::99 on "+lab.Uplink+", MTU 1300\n") {
				return fmt.Errorf("the rule is not followed:\n%s", text)
			}
			return nil
		})
		if got := w.nextHop(t, netip.MustParseAddr("203.0.113.9"), embed("203.0.113.9")); !slices.Equal(got, mac) {
			t.Errorf("by a rule packets go to %v, want %v", got, mac)
		}
		eventually(t, startTimeout, func() error { // ICMP errors are limited
			out, err := w.try(t, "ping", "-c1", "-W2", "-M", "do", "-s", "1253", "203.0.113.9") // 1281 bytes, 1301 of IPv6
			if err == nil || !strings.Contains(out, "mtu = 1280") && !strings.Contains(out, "mtu=1280") {
				return fmt.Errorf("a packet that exceeds the MTU of a route: %v\n%s", err, out)
			}
			return nil
		})
		do(func() error { return errors.Join(netlink.RuleDel(rule), netlink.RouteDel(detour)) })
		eventually(t, startTimeout, func() error { return w.pinged(t) })
		do(func() error {
			return netlink.NeighDel(&netlink.Neigh{LinkIndex: uplink, IP: other, HardwareAddr: mac})
		})
	})
}

// ctl runs tnat64ctl on the laptop.
func (w *world) ctl(t *testing.T, args ...string) string {
	t.Helper()
	return w.laptop(t, built(t, "tnat64ctl"), append([]string{"-socket", w.daemon.Socket}, args...)...)
}

// connect tries to connect for a moment. That nobody answers is no error. The
// error of UDP is that of sending.
func (w *world) connect(t *testing.T, network string, to netip.Addr) error {
	t.Helper()
	err := w.Laptop.Do(func() error {
		c, err := net.DialTimeout(network, netip.AddrPortFrom(to, 9).String(), 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	})
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		return nil
	}
	return err
}

// nextHop sends datagrams to an IPv4 address and returns the MAC address to which
// the uplink carries them.
func (w *world) nextHop(t *testing.T, to, as netip.Addr) net.HardwareAddr {
	t.Helper()
	protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd := -1
	err := w.Laptop.Do(func() error {
		l, err := netlink.LinkByName(lab.Uplink)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: l.Attrs().Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	b := make([]byte, 1<<16)
	for end := time.Now().Add(startTimeout); time.Now().Before(end); {
		if err := w.connect(t, "udp4", to); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				break
			}
			if n >= 54 && b[14]>>4 == 6 && netip.AddrFrom16([16]byte(b[38:54])) == as {
				return slices.Clone(b[:6])
			}
		}
	}
	return nil
}
