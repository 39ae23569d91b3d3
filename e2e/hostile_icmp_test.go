package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// flood sends frames from a neighbour, so many in a second, until stop is
// called. Each is frame's nth.
func flood(t *testing.T, b *lab.Neighbour, perSecond int, frame func(n int) []byte) (stop func()) {
	t.Helper()
	quit, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		began := time.Now()
		for n := 0; ; n++ {
			select {
			case <-quit:
				ended <- nil
				return
			case <-time.After(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(perSecond)))):
			}
			if err := b.Send(frame(n)); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() {
		t.Helper()
		close(quit)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestHostileICMPErrors has a neighbour cause ICMP errors, by the hundreds in
// each second and from many addresses, while a local program needs its own.
func TestHostileICMPErrors(t *testing.T) {
	t.Parallel()
	eachSteering(t, testHostileICMPErrors)
}

func testHostileICMPErrors(t *testing.T, config string) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, config)
	b := w.neighbour(t)
	to := netip.AddrPortFrom(w.clat.IPv6, 9)
	for name, from := range map[string]func(n int) netip.Addr{
		"one address": func(int) netip.Addr { return b.Local },
		"many addresses": func(n int) netip.Addr {
			a := netip.MustParseAddr("2001:db8:bad::1").As16()
			binary.BigEndian.PutUint32(a[4:], uint32(n))
			return netip.AddrFrom16(a)
		},
	} {
		mac := w.uplinkMAC(t) // once: asking takes longer than sending
		stop := flood(t, b, 400, func(n int) []byte {
			return frameTo(t, b, mac, udp6(netip.AddrPortFrom(from(n), 4000), to, "expired")...)
		})
		eventually(t, stepTimeout, func() error { // the budget of that side is used up
			e, err := w.icmpErrors()
			if err == nil && e.IPv6.Limited == 0 {
				err = fmt.Errorf("ICMP errors: %+v", e)
			}
			return err
		})
		var out string
		for range 10 {
			one, _ := w.try(t, "ping", onePing("-t", "1")...)
			out += one
		}
		stop()
		if n := strings.Count(out, "Time to live exceeded"); n != 10 {
			t.Errorf("from %s: %d of 10 errors came:\n%s", name, n, out)
		}
	}
	if e, err := w.icmpErrors(); err != nil || e.IPv4.Limited != 0 || e.IPv4.Sent < 20 {
		t.Errorf("ICMP errors: %+v, %v", e, err)
	}
}

// icmpErrors returns the counts of the translator's own ICMP errors.
func (w *world) icmpErrors() (control.ICMPErrors, error) {
	u, err := w.status(lab.Uplink)
	if err == nil && u.CLAT == nil {
		err = errors.New("there is no CLAT")
	}
	if err != nil {
		return control.ICMPErrors{}, err
	}
	return u.CLAT.Errors, nil
}

// TestHostileICMPFragments has a neighbour send first fragments of ICMP
// messages that never get complete, in the name of an IPv4 host beyond the
// PLAT, while a local program pings with fragments.
func TestHostileICMPFragments(t *testing.T) {
	t.Parallel()
	eachSteering(t, testHostileICMPFragments)
}

func testHostileICMPFragments(t *testing.T, config string) {
	t.Parallel()
	pref64 := netip.MustParsePrefix("3fff:64::/96")
	w := newWorld(t, lab.Options{PREF64: pref64}, config)
	b := w.neighbour(t)
	mac := w.uplinkMAC(t)
	stop := flood(t, b, 2000, func(n int) []byte {
		from := lab.Synthesize(pref64, netip.AddrFrom4([4]byte{198, 51, 100, byte(200 + n%3)}))
		fragment := make([]byte, 8, 16)
		fragment[0] = byte(layers.IPProtocolICMPv6)
		binary.BigEndian.PutUint16(fragment[2:], uint16(n%4*8)|1)
		binary.BigEndian.PutUint32(fragment[4:], uint32(n/4))
		return frameTo(t, b, mac,
			&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolIPv6Fragment, SrcIP: from.AsSlice(), DstIP: w.clat.IPv6.AsSlice()},
			gopacket.Payload(append(fragment, "12345678"...)))
	})
	time.Sleep(200 * time.Millisecond) // a few hundred fragments
	defer stop()
	w.pings(t, 10, "-s", "8000")
}
