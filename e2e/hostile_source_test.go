package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// TestHostileSources has a neighbour send to the CLAT's address from sources
// that only this host may have: its own IPv4 networks behind PREF64, as they come
// and go, and the CLAT's own address. Private IPv4 that is not the host's passes.
func TestHostileSources(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		b := w.neighbour(t)
		port, next := w.datagramsTo(t, "udp4", net.JoinHostPort(w.clat.IPv4.String(), "0"))
		number := 0
		send := func(from netip.Addr) (payload string) {
			t.Helper()
			number++
			payload = "from there " + strconv.Itoa(number)
			frame := frameTo(t, b, w.uplinkMAC(t), udp6(netip.AddrPortFrom(from, 4000), netip.AddrPortFrom(w.clat.IPv6, port), payload)...)
			if err := b.Send(frame); err != nil {
				t.Fatal(err)
			}
			return payload
		}
		behind := func(a string) netip.Addr { return lab.Synthesize(lab.WellKnownPrefix, netip.MustParseAddr(a)) }
		taken := func(from netip.Addr) {
			t.Helper()
			eventually(t, stepTimeout, func() error {
				sent := send(from)
				for got := next(time.Second); got != ""; got = next(time.Second) {
					if got == sent {
						return nil
					}
				}
				return fmt.Errorf("a datagram from %s is not delivered", from)
			})
		}
		dropped := func(from netip.Addr, reason string) {
			t.Helper()
			eventually(t, stepTimeout, func() error {
				before := w.droppedPackets(t, reason)
				send(from)
				for range 10 {
					if w.droppedPackets(t, reason) > before {
						return nil
					}
					time.Sleep(50 * time.Millisecond)
				}
				return fmt.Errorf("a datagram from %s is not dropped for %s", from, reason)
			})
			for got := next(100 * time.Millisecond); got != ""; got = next(100 * time.Millisecond) {
				if got == "from there "+strconv.Itoa(number) {
					t.Errorf("a datagram from %s is delivered", from)
				}
			}
			w.inStatus(t, reason)
		}
		taken(behind("172.17.0.2"))
		dropped(w.clat.IPv6, "source-illegal")
		for _, a := range []string{"127.0.0.1", "169.254.1.1", "224.0.0.1", "192.0.0.2"} {
			dropped(behind(a), "source-illegal")
		}
		// As Docker does it.
		w.laptop(t, "ip", "link", "add", "docker0", "type", "bridge")
		w.laptop(t, "ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
		w.laptop(t, "ip", "link", "set", "docker0", "up")
		dropped(behind("172.17.0.2"), "source-local-network")
		taken(behind("172.18.0.2"))
		taken(behind("10.1.2.3"))
		taken(behind("198.51.100.7"))
		// Behind a router; public networks are no sign of a spoofed source.
		w.laptop(t, "ip", "route", "add", "10.1.0.0/16", "via", "172.17.0.2")
		w.laptop(t, "ip", "route", "add", "198.51.99.0/24", "via", "172.17.0.2")
		dropped(behind("10.1.2.3"), "source-routed-network")
		taken(behind("198.51.99.7"))
		w.laptop(t, "ip", "route", "del", "10.1.0.0/16")
		taken(behind("10.1.2.3"))
		w.page(t)
		w.laptop(t, "ip", "link", "del", "docker0")
		taken(behind("172.17.0.2"))
	})
}
