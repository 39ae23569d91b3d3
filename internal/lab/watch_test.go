package lab

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWatch sees one packet of each source that leaves, and every packet that
// is IPv4; what arrives it does not report.
func TestWatch(t *testing.T) {
	l := newTestLab(t, Options{NativeIPv4: true})
	w, err := l.Laptop.Watch(Uplink)
	if err != nil {
		t.Fatal(err)
	}
	own, err := l.LaptopAddress()
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, l, "udp6", ServerIPv4, PortEcho)
	for range 20 {
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
	}
	err = l.Laptop.Do(func() error {
		conn, err := net.Dial("udp4", netip.AddrPortFrom(ServerIPv4, PortEcho).String())
		if err == nil {
			_, err = conn.Write([]byte("x"))
			conn.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ipv4 := Sent{unix.ETH_P_IP, NativeLaptop, ServerIPv4}
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline) && !slices.Contains(w.Sent(), ipv4); {
		time.Sleep(10 * time.Millisecond)
	}
	sent, err := w.Close()
	if err != nil {
		t.Error(err)
	}
	n := 0
	for _, s := range sent {
		if s.Source == own {
			n++
		}
		if s.Source == ServerIPv4 || s.Source == Synthesize(WellKnownPrefix, ServerIPv4) || s.Source == RouterIPv6 {
			t.Errorf("%s did not leave the laptop", s)
		}
	}
	if n != 1 || !slices.Contains(sent, ipv4) {
		t.Errorf("saw %v: %d packets of %s, and IPv4 %v", sent, n, own, slices.Contains(sent, ipv4))
	}
}
