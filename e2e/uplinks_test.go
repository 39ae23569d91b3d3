package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestTwoUplinks has a CLAT for each of two networks. What is bound to one goes
// its way, and what is not survives the loss of the better network; what runs
// on one does not notice what happens to the other.
func TestTwoUplinks(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, stage{network: lab.Options{Second: &lab.Options{}}})
	w.moved = true
	all := w.wantCLATs(t, 2)
	first, second := all[0], all[1]
	if first.Uplink != lab.Uplink || second.Uplink != lab.Uplink2 || first.Metric >= second.Metric ||
		first.TUN == second.TUN || first.IPv4 == second.IPv4 {
		t.Fatalf("CLATs are %+v and %+v", first, second)
	}
	eventually(t, soon, func() error {
		if n := w.rules(t); n < 2 {
			return fmt.Errorf("%d rules for the sources of two CLATs", n)
		}
		return nil
	})
	viaFirst := w.whoami(t, "--interface", first.TUN)
	viaSecond := w.whoami(t, "--interface", second.TUN)
	if !lab.Pool.Contains(viaFirst) || lab.Pool.Contains(viaSecond) {
		t.Errorf("the server sees %s and %s", viaFirst, viaSecond)
	}
	for from, want := range map[netip.Addr]netip.Addr{first.IPv4: viaFirst, second.IPv4: viaSecond} {
		if got := w.whoami(t, "--interface", from.String()); got != want {
			t.Errorf("from %s the server sees %s, not %s", from, got, want)
		}
	}
	if got := w.whoami(t); got != viaFirst {
		t.Errorf("the server sees %s, and not the better uplink's %s", got, viaFirst)
	}
	onFirst, onSecond := w.connection(t, "", first.IPv4), w.connection(t, "", second.IPv4)

	// The better one loses its network.
	lost := time.Now()
	if _, err := w.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	w.measure(t, "the better uplink fails", lost)
	if got := w.whoami(t); got != viaSecond {
		t.Errorf("the server sees %s, not %s", got, viaSecond)
	}
	wantAlive(t, "on the other uplink", onSecond)
	usable, err := w.SetCarrier(true)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() error {
		if c, err := w.FindCLAT(); err != nil || c.Uplink != lab.Uplink {
			return fmt.Errorf("the better uplink is not used again: %+v, %w", c, err)
		}
		return nil
	})
	t.Logf("the better uplink is used again after %v", time.Since(usable).Round(time.Millisecond))
	wantAlive(t, "across the loss of the carrier", onFirst)
	wantAlive(t, "on the other uplink", onSecond)

	// The other one is unplugged, and comes back.
	link, err := w.Laptop.Netlink.LinkByName(lab.Uplink2)
	if err == nil {
		err = w.Laptop.Netlink.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantEnded(t, "on an uplink that is unplugged", onSecond, time.Now())
	w.wantCLATs(t, 1)
	eventually(t, soon, func() error {
		if n := w.rules(t); n > 0 {
			return fmt.Errorf("%d rules are left with one CLAT", n)
		}
		return nil
	})
	wantAlive(t, "while the other uplink goes", onFirst)
	if usable, err = w.Second.Replug(); err != nil {
		t.Fatal(err)
	}
	w.wantCLATs(t, 2)
	w.firstAnswer(t, second.TUN, soon)
	t.Logf("an uplink that is plugged in has its CLAT after %v", time.Since(usable).Round(time.Millisecond))
	wantAlive(t, "while the other uplink comes", onFirst)
	w.page(t)
}

// TestNative is about what is native IPv4, and on which uplink.
func TestNative(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, stage{network: lab.Options{Second: &lab.Options{}}})
	w.wantCLATs(t, 2)
	w.nativeMayLeave(w.Network)
	w.nativeMayLeave(w.Second)
	gateway := lab.NativeLaptop.Prev().String()
	ip := func(args ...string) error {
		out, err := w.try(t, "ip", args...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	off := func() error { return w.SetNativeIPv4(false) }
	for _, c := range []struct {
		name    string
		native  bool
		on, off func() error
	}{
		{"by DHCP", true, func() error { return w.SetNativeIPv4(true) }, off},
		{"an address alone", false, func() error {
			return ip("addr", "add", lab.NativeLaptop.String()+"/26", "dev", lab.Uplink)
		}, off},
		{"with a metric worse than the CLAT's", true, func() error {
			return errors.Join(
				ip("addr", "add", lab.NativeLaptop.String()+"/26", "dev", lab.Uplink),
				ip("route", "add", "default", "via", gateway, "dev", lab.Uplink, "metric", "50000"))
		}, off},
		{"without a gateway", true, func() error {
			return errors.Join(
				ip("addr", "add", lab.NativeLaptop.String()+"/32", "dev", lab.Uplink),
				ip("route", "add", "default", "dev", lab.Uplink, "scope", "link", "metric", "600"))
		}, func() error {
			return errors.Join(
				ip("route", "del", "default", "dev", lab.Uplink, "scope", "link", "metric", "600"),
				ip("addr", "del", lab.NativeLaptop.String()+"/32", "dev", lab.Uplink))
		}},
		{"without an address", false, func() error {
			return ip("route", "add", "default", "dev", lab.Uplink, "scope", "link", "metric", "600")
		}, func() error {
			return ip("route", "del", "default", "dev", lab.Uplink, "scope", "link", "metric", "600")
		}},
		{"link-local", false, func() error {
			return ip("addr", "add", "169.254.7.7/16", "dev", lab.Uplink)
		}, func() error { return ip("addr", "del", "169.254.7.7/16", "dev", lab.Uplink) }},
		{"link-local with a default route", false, func() error {
			return errors.Join(
				ip("addr", "add", "169.254.7.7/16", "dev", lab.Uplink),
				ip("route", "add", "default", "dev", lab.Uplink, "scope", "link", "src", "169.254.7.7", "metric", "1001002"))
		}, func() error { return ip("addr", "del", "169.254.7.7/16", "dev", lab.Uplink) }},
		{"link-local with a better default route", false, func() error {
			return errors.Join(
				ip("addr", "add", "169.254.7.7/16", "dev", lab.Uplink),
				ip("route", "add", "default", "dev", lab.Uplink, "scope", "link", "src", "169.254.7.7"))
		}, func() error { return ip("addr", "del", "169.254.7.7/16", "dev", lab.Uplink) }},
		{"link-local with a default route in a table before main", false, func() error {
			return errors.Join(
				ip("addr", "add", "169.254.7.7/16", "dev", lab.Uplink),
				ip("route", "add", "default", "dev", lab.Uplink, "scope", "link", "src", "169.254.7.7", "table", "1234"),
				ip("rule", "add", "pref", "1000", "lookup", "1234"))
		}, func() error {
			return errors.Join(ip("rule", "del", "pref", "1000"), ip("addr", "del", "169.254.7.7/16", "dev", lab.Uplink))
		}},
		{"link-local halves", false, func() error {
			return errors.Join(
				ip("addr", "add", "169.254.7.7/16", "dev", lab.Uplink),
				ip("route", "add", "0.0.0.0/1", "dev", lab.Uplink, "scope", "link", "src", "169.254.7.7"),
				ip("route", "add", "128.0.0.0/1", "dev", lab.Uplink, "scope", "link", "src", "169.254.7.7", "metric", "100"))
		}, func() error { return ip("addr", "del", "169.254.7.7/16", "dev", lab.Uplink) }},
		{"link-local halves in a table before main", false, func() error {
			return errors.Join(
				ip("addr", "add", "169.254.7.7/16", "dev", lab.Uplink),
				ip("route", "add", "0.0.0.0/1", "dev", lab.Uplink, "scope", "link", "src", "169.254.7.7", "table", "1234"),
				ip("route", "add", "128.0.0.0/1", "dev", lab.Uplink, "scope", "link", "src", "169.254.7.7", "table", "1234"),
				ip("rule", "add", "pref", "1000", "lookup", "1234"))
		}, func() error {
			return errors.Join(ip("rule", "del", "pref", "1000"), ip("addr", "del", "169.254.7.7/16", "dev", lab.Uplink))
		}},
		{"halves by a gateway", true, func() error {
			return errors.Join(
				ip("addr", "add", lab.NativeLaptop.String()+"/26", "dev", lab.Uplink),
				ip("route", "add", "0.0.0.0/1", "via", gateway, "dev", lab.Uplink),
				ip("route", "add", "128.0.0.0/1", "via", gateway, "dev", lab.Uplink))
		}, off},
		{"in a table that a rule leads to", true, func() error {
			return errors.Join(
				ip("addr", "add", lab.NativeLaptop.String()+"/26", "dev", lab.Uplink),
				ip("route", "add", "default", "via", gateway, "dev", lab.Uplink, "table", "100"),
				ip("rule", "add", "from", lab.NativeLaptop.String(), "lookup", "100"))
		}, func() error {
			return errors.Join(off(), ip("rule", "del", "from", lab.NativeLaptop.String(), "lookup", "100"), ip("route", "flush", "table", "100"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			was := w.wantCLATs(t, 2)
			flow := w.connection(t, was[0].TUN, netip.Addr{})
			other := w.connection(t, was[1].TUN, netip.Addr{})
			on := time.Now()
			if err := c.on(); err != nil {
				t.Fatal(err)
			}
			if c.native {
				wantEnded(t, "by the CLAT that goes", flow, on)
				w.wantState(t, lab.Uplink, control.Standby, "native IPv4")
				if left := w.wantCLATs(t, 1); left[0].Uplink != lab.Uplink2 {
					t.Errorf("left is %+v", left)
				}
			} else {
				time.Sleep(300 * time.Millisecond)
				w.wantState(t, lab.Uplink, control.Up)
				w.firstAnswer(t, "", soon) // by the CLAT's route, whatever is beside it
				wantAlive(t, "by a CLAT that stays", flow)
				for i, c := range w.wantCLATs(t, 2) {
					if you := w.whoami(t, "--interface", c.IPv4.String()); lab.Pool.Contains(you) != (i == 0) {
						t.Errorf("from the CLAT on %s the server sees %s", c.Uplink, you)
					}
				}
			}
			if err := c.off(); err != nil {
				t.Fatal(err)
			}
			if w.wantCLATs(t, 2); c.native {
				w.firstAnswer(t, w.wantCLATs(t, 2)[0].TUN, soon)
			}
			wantAlive(t, "by the other uplink", other)
		})
	}
	t.Run("on the other uplink", func(t *testing.T) {
		was := w.wantCLATs(t, 2)
		flow := w.connection(t, was[0].TUN, netip.Addr{})
		if err := w.Second.SetNativeIPv4(true); err != nil {
			t.Fatal(err)
		}
		w.wantState(t, lab.Uplink2, control.Standby, "native IPv4")
		left := w.wantCLATs(t, 1)
		if left[0].Uplink != lab.Uplink || left[0].Metric <= 100 {
			t.Errorf("left is %+v", left)
		}
		if you := w.whoami(t); you != w.Second.NativeLaptop() {
			t.Errorf("the server sees %s, and not the native %s", you, w.Second.NativeLaptop())
		}
		wantAlive(t, "by the CLAT of an uplink without native IPv4", flow)
		w.firstAnswer(t, left[0].TUN, soon)
		if err := w.Second.SetNativeIPv4(false); err != nil {
			t.Fatal(err)
		}
		w.wantCLATs(t, 2)
		wantAlive(t, "by the CLAT of an uplink without native IPv4", flow)
	})
}

// TestUntranslated forces packets from a CLAT's address onto the other uplink,
// which has native IPv4, and onto its own, past the TUN. That none leaves is
// checked for every test; here some must have been caught.
func TestUntranslated(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{network: lab.Options{Second: &lab.Options{NativeIPv4: true}}, config: config})
		w.nativeMayLeave(w.Second)
		native := w.Second.NativeLaptop()
		if you := w.whoami(t); you != native {
			t.Errorf("the server sees %s, and not the native %s", you, native)
		}
		if you := w.whoami(t, "--interface", w.clat.IPv4.String()); !lab.Pool.Contains(you) {
			t.Errorf("from the CLAT's address the server sees %s", you)
		}
		caught := func() (n float64) {
			m, err := w.daemon.Metrics(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for name, v := range m {
				if strings.HasPrefix(name, "tnat64_leaked_ipv4_packets_total") {
					n += v
				}
			}
			return n
		}
		// A kernel that is told the way out takes what it finds no route for to
		// be on the link. The router answers no ARP for it, but would take it.
		for iface, mac := range map[string]string{lab.Uplink: "02:00:00:00:00:01", lab.Uplink2: "02:00:00:00:02:01"} {
			w.laptop(t, "ip", "neigh", "replace", server, "lladdr", mac, "dev", iface)
		}
		for _, c := range []struct {
			name  string
			iface string
			route string // of the local table, which comes before all rules
		}{
			{"bound to the other uplink", lab.Uplink2, ""},
			{"bound to its own uplink", lab.Uplink, ""},
			{"by a route", "", "via " + native.Prev().String() + " dev " + lab.Uplink2},
		} {
			t.Run(c.name, func(t *testing.T) {
				ip := func(verb string) {
					if c.route != "" {
						w.laptop(t, "ip", append([]string{"route", verb, server, "table", "local"}, strings.Fields(c.route)...)...)
					}
				}
				ip("add")
				before := caught()
				w.force(t, c.iface)
				after := caught()
				ip("del")
				t.Logf("%v packets caught", after-before)
				if after == before {
					t.Error("no packet from the CLAT's address was on its way out: the test proves nothing")
				}
			})
		}
		if you := w.whoami(t, "--interface", w.clat.IPv4.String()); !lab.Pool.Contains(you) {
			t.Errorf("from the CLAT's address the server sees %s afterwards", you)
		}
	})
}

// force sends from the CLAT's address, by an interface if that is not empty:
// UDP, fragments of it, ICMP, and TCP that waits in vain.
func (w *world) force(t *testing.T, iface string) {
	t.Helper()
	conn, err := connect(w.Laptop, "udp4", service(lab.PortEcho), iface, w.clat.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	})
	for _, size := range []int{10, 1000, 5000} {
		conn.Write(pattern(size)) // an error is as good
	}
	args := []string{"-n", "-c", "1", "-W", "1", "-I", w.clat.IPv4.String()}
	if iface != "" {
		args = append(args, "-I", iface)
	}
	if out, err := w.try(t, "ping", append(args, server)...); err == nil {
		t.Errorf("ping past the CLAT is answered:\n%s", out)
	}
	syn := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: w.clat.IPv4.AsSlice()}}
	if iface != "" {
		syn.ControlContext = bindTo(iface)
	}
	err = w.Laptop.Do(func() error {
		c, err := syn.Dial("tcp4", service(lab.PortEcho))
		if err == nil {
			c.Close()
		}
		return err
	})
	if err == nil {
		t.Error("a connection past the CLAT is established")
	}
}
