package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// droppedPackets returns how many packets the daemon has counted for a reason.
func (w *world) droppedPackets(t *testing.T, reason string) float64 {
	t.Helper()
	m, err := w.daemon.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, ok := m[fmt.Sprintf("tnat64_packets_dropped_total{reason=%q}", reason)]
	if !ok {
		t.Errorf("there is no counter for %q", reason)
	}
	return n
}

// inStatus checks that status has the reason, and where there is a CLAT its
// explanation.
func (w *world) inStatus(t *testing.T, reason string) {
	t.Helper()
	status, err := w.daemon.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range status.Uplinks {
		if u.CLAT == nil {
			continue
		}
		for _, d := range u.CLAT.Drops {
			if d.Reason == reason && d.Packets > 0 && d.Explanation != "" {
				return
			}
		}
	}
	t.Errorf("status does not say %q: %+v", reason, status.Uplinks)
}

// bind sends from an address, which has to be the host's own, whatever routes
// say: datagrams to addresses with a port, "", and a TCP connection to each.
var _ = addAct("bind", func(args []string) (string, error) {
	src := netip.MustParseAddrPort(args[0])
	conn, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(src))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var errs []error
	for _, to := range args[1:] {
		dst := netip.MustParseAddrPort(to)
		for _, size := range []int{9, 3000} { // fragments too
			_, err := conn.WriteToUDPAddrPort(append([]byte("bound"), make([]byte, size)...), dst)
			errs = append(errs, err)
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: src.Addr().AsSlice(), Port: int(src.Port())}, Timeout: 300 * time.Millisecond}
		if c, err := d.Dial("tcp6", to); err == nil {
			c.Close()
			return "connected to " + to, nil
		}
	}
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, from, err := conn.ReadFromUDPAddrPort(make([]byte, 4000)); err == nil {
		return fmt.Sprintf("%d bytes from %s", n, from), nil
	}
	return "", errors.Join(errs...)
})

// TestHostileBoundSource has a local user bind the CLAT's IPv6 address and talk
// from it. Nobody hears that, and no answer reaches another user's IPv4 socket.
func TestHostileBoundSource(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		heard, err := w.Router.Watch(lab.TUN)
		if err != nil {
			t.Fatal(err)
		}
		port, next := w.datagramsTo(t, "udp4", net.JoinHostPort(w.clat.IPv4.String(), "0"))
		src := netip.AddrPortFrom(w.clat.IPv6, port)
		echo := netip.AddrPortFrom(lab.Synthesize(lab.WellKnownPrefix, lab.ServerIPv4), lab.PortEcho)
		out, err := w.asUser(t, "bind", src.String(), echo.String(), netip.AddrPortFrom(lab.RouterIPv6, 53).String())
		// nftables lets the program know.
		if out != "" || err != nil && !errors.Is(err, unix.EPERM) {
			t.Errorf("a program on the CLAT address is answered: %q, %v", out, err)
		}
		if got := next(time.Second); got != "" {
			t.Errorf("another program gets %d bytes", len(got))
		}
		if _, err := heard.Close(); err != nil {
			t.Error(err)
		}
		// Two datagrams, one of them in three fragments, and a SYN, to both.
		if n := w.droppedPackets(t, "bound-source"); n < 4 {
			t.Errorf("%v packets dropped", n)
		}
		w.inStatus(t, "bound-source")
		// The kernel's own answers are no better: nobody listens on that port.
		w.page(t)
	})
}

// TestHostileUntranslatedIPv4 forces IPv4 past the CLAT, whose address is a
// configured one, beside native IPv4 with addresses of 192.0.0.0/29. What leaves
// is checked for every test; what is not ours leaves.
func TestHostileUntranslatedIPv4(t *testing.T) {
	t.Parallel()
	foreign := netip.MustParseAddr("192.0.0.5")
	w := newWorldOn(t, stage{
		network: lab.Options{NativeIPv4: true},
		config:  "[clat]\nenable = \"always\"\nipv4 = \"10.9.9.9\"\n",
		prepare: func(l *lab.Lab) error {
			// That of another CLAT.
			cmd := l.Laptop.Command(t.Context(), "ip", "addr", "add", foreign.String()+"/32", "dev", lab.Uplink)
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		},
	})
	w.nativeMayLeave(w.Network)
	w.mayLeave(foreign)
	if got := w.clat.IPv4.String(); got != "10.9.9.9" {
		t.Fatalf("the CLAT has %s", got)
	}
	w.laptop(t, "ip", "neigh", "replace", server, "lladdr", "02:00:00:00:00:01", "dev", lab.Uplink)
	before := w.droppedPackets(t, "untranslated-ipv4")
	w.force(t, lab.Uplink)
	if n := w.droppedPackets(t, "untranslated-ipv4") - before; n < 5 {
		t.Errorf("%v packets dropped", n)
	}
	w.inStatus(t, "untranslated-ipv4")

	before = w.droppedPackets(t, "untranslated-ipv4")
	conn, err := connect(w.Laptop, "udp4", service(lab.PortEcho), lab.Uplink, foreign)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("not ours")); err != nil {
		t.Error(err)
	}
	eventually(t, stepTimeout, func() error {
		for _, s := range w.watches[0].Sent() {
			if s.Source == foreign {
				return nil
			}
		}
		return errors.New("what is not the CLAT's does not leave")
	})
	if n := w.droppedPackets(t, "untranslated-ipv4") - before; n != 0 {
		t.Errorf("%v packets of another address dropped", n)
	}
}

// TestHostileStrayIPv4 has a neighbour send IPv4 to the CLAT's address over the
// link, where rp_filter does not stop it.
func TestHostileStrayIPv4(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{config: config, prepare: func(l *lab.Lab) error {
			return errors.Join(l.Laptop.Sysctl("net.ipv4.conf.all.rp_filter", "0"), l.Laptop.Sysctl("net.ipv4.conf."+lab.Uplink+".rp_filter", "0"))
		}})
		b := w.neighbour(t)
		port, next := w.datagramsTo(t, "udp4", "0.0.0.0:0")
		eventually(t, stepTimeout, func() error {
			for _, to := range []net.HardwareAddr{w.uplinkMAC(t), bytes.Repeat([]byte{0xff}, 6)} {
				frame := frameTo(t, b, to, udp4(netip.MustParseAddrPort("198.51.100.66:7"), netip.AddrPortFrom(w.clat.IPv4, port), "stray")...)
				if err := b.Send(frame); err != nil {
					t.Fatal(err)
				}
			}
			if n := w.droppedPackets(t, "stray-ipv4"); n < 2 {
				return fmt.Errorf("%v packets dropped", n)
			}
			return nil
		})
		if got := next(300 * time.Millisecond); got != "" {
			t.Errorf("a program on the laptop gets %q", got)
		}
		w.inStatus(t, "stray-ipv4")
		w.page(t)
	})
}

// TestHostileUnicastToMany has a neighbour send IPv6 to the CLAT's address in
// broadcast and multicast frames. They are taken or not as the uplink's sysctl
// says, also when that changes.
func TestHostileUnicastToMany(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		b := w.neighbour(t)
		port, next := w.datagramsTo(t, "udp4", net.JoinHostPort(w.clat.IPv4.String(), "0"))
		from := netip.AddrPortFrom(lab.Synthesize(lab.WellKnownPrefix, lab.ServerIPv4), 4000)
		number := 0
		send := func(to net.HardwareAddr) (payload string) {
			number++
			payload = "to many " + strconv.Itoa(number)
			if err := b.Send(frameTo(t, b, to, udp6(from, netip.AddrPortFrom(w.clat.IPv6, port), payload)...)); err != nil {
				t.Fatal(err)
			}
			return payload
		}
		const sysctl = "net.ipv6.conf." + lab.Uplink + ".drop_unicast_in_l2_multicast"
		many := []net.HardwareAddr{bytes.Repeat([]byte{0xff}, 6), {0x33, 0x33, 0, 0, 0, 1}}
		taken := func() {
			t.Helper()
			for _, to := range append(slices.Clone(many), w.uplinkMAC(t)) {
				eventually(t, stepTimeout, func() error {
					sent := send(to)
					for got := next(time.Second); got != ""; got = next(time.Second) {
						if got == sent {
							return nil
						}
					}
					return fmt.Errorf("a frame to %s is not taken", to)
				})
			}
		}
		taken()
		if err := w.Laptop.Sysctl(sysctl, "1"); err != nil {
			t.Fatal(err)
		}
		for _, to := range many {
			before := w.droppedPackets(t, "unicast-to-many")
			eventually(t, stepTimeout, func() error {
				send(to)
				if n := w.droppedPackets(t, "unicast-to-many"); n == before {
					return fmt.Errorf("a frame to %s is taken", to)
				}
				return nil
			})
		}
		w.inStatus(t, "unicast-to-many")
		w.page(t)
		if err := w.Laptop.Sysctl(sysctl, "0"); err != nil {
			t.Fatal(err)
		}
		taken()
	})
}
