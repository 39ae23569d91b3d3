package e2e

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// TestHostileEAMSource has a neighbour send to the CLAT from the IPv6 address that stands for
// a guest of this host (translation.eam): IPv4 from one of the host's own networks.
func TestHostileEAMSource(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config+"[[translation.eam]]\nipv4 = \"172.17.0.2\"\nipv6 = \"2001:db8:77::2\"\n")
		w.laptop(t, "ip", "link", "add", "docker0", "type", "bridge")
		w.laptop(t, "ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
		w.laptop(t, "ip", "link", "set", "docker0", "up")
		b := w.neighbour(t)
		port, next := w.datagramsTo(t, "udp4", net.JoinHostPort(w.clat.IPv4.String(), "0"))
		frame := frameTo(t, b, w.uplinkMAC(t), udp6(netip.MustParseAddrPort("[2001:db8:77::2]:4000"), netip.AddrPortFrom(w.clat.IPv6, port), "as the guest")...)
		eventually(t, stepTimeout, func() error { // once tnat64d has seen the network
			if err := b.Send(frame); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			if w.droppedPackets(t, "source-local-network") == 0 {
				return errors.New("a datagram from the guest's address is not dropped")
			}
			return nil
		})
		for next(100*time.Millisecond) != "" {
		}
		for range 5 {
			if err := b.Send(frame); err != nil {
				t.Fatal(err)
			}
		}
		if got := next(time.Second); got != "" {
			t.Errorf("a program has received %q from 172.17.0.2", got)
		}
		w.laptop(t, "ip", "link", "del", "docker0")
	})
}
