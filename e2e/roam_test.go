package e2e

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestRoam carries the laptop from network to network, as its user walks, and
// changes the network under it. Interface, IPv4 address and listening sockets
// of the CLAT stay; connections that cannot survive end, and others go on.
func TestRoam(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		testRoam(t, config)
	})
}

func testRoam(t *testing.T, config string) {
	w := newWorld(t, lab.Options{}, config)
	w.moved = true
	home := w.Network
	cafe, err := w.AddNetwork(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	was, index, serves := w.clat, w.index(t, w.clat.TUN), w.serves(t)
	for _, c := range []struct {
		name     string
		survives bool // what is connected
		change   func() (usable time.Time, err error)
	}{
		{"to another network", false, func() (time.Time, error) { return w.Roam(t.Context(), cafe) }},
		{"flap there", true, func() (time.Time, error) { return w.Flap(t.Context(), 300*time.Millisecond) }},
		{"and back", false, func() (time.Time, error) { return w.Roam(t.Context(), home) }},
		{"flap", true, func() (time.Time, error) { return w.Flap(t.Context(), 300*time.Millisecond) }},
		{"short flap", true, func() (time.Time, error) { return w.Flap(t.Context(), 0) }},
		{"carrier lost, nothing forgotten", true, func() (time.Time, error) {
			if _, err := home.SetCarrier(false); err != nil {
				return time.Time{}, err
			}
			time.Sleep(300 * time.Millisecond)
			return home.SetCarrier(true)
		}},
		{"PREF64 withdrawn and back", true, func() (time.Time, error) {
			announced := home.Advert()
			if err := home.WithdrawPREF64(); err != nil {
				return time.Time{}, err
			}
			w.wantState(t, lab.Uplink, control.Held, "waiting for a PREF64")
			return time.Now(), home.SetAdvert(announced)
		}},
		{"another PREF64", false, func() (time.Time, error) {
			return time.Now(), home.SetPREF64(netip.MustParsePrefix("3fff:64:9::/96"))
		}},
		{"renumbered", true, func() (time.Time, error) {
			return time.Now(), home.Renumber(netip.MustParsePrefix("2001:db8:101:1::/64"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			flow := w.connection(t, "", netip.Addr{})
			usable, err := c.change()
			if err != nil {
				t.Fatal(err)
			}
			if !c.survives {
				wantEnded(t, "what was connected", flow, usable)
			}
			w.measure(t, c.name, usable)
			w.ownAddress(t) // the CLAT's address comes after it
			w.wantState(t, lab.Uplink, control.Up)
			if c.survives {
				wantAlive(t, "what was connected", flow)
			}
			w.wantSame(t, was, index)
			serves(t)
			// An address that is still in DAD ends once more what begins now.
			w.wantState(t, lab.Uplink, control.Up)
		})
	}
	t.Run("page", func(t *testing.T) { wants(t, w.laptop(t, "curl", "-sS", url("/")), lab.Greeting) })
}

// TestNetworkGone takes the network away for longer than a walk: nothing of
// the CLAT is left, and it comes back.
func TestNetworkGone(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("takes more than a minute: TNAT64_LONG=1 runs it")
	}
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	if _, err := w.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	if err := w.Forget(lab.Uplink); err != nil {
		t.Fatal(err)
	}
	w.wantState(t, lab.Uplink, control.Held)
	time.Sleep(65 * time.Second)
	w.wantCLATs(t, 0)
	if _, err := w.Laptop.Netlink.LinkByName(w.clat.TUN); err == nil {
		t.Errorf("%s is still there", w.clat.TUN)
	}
	usable, err := w.SetCarrier(true)
	if err != nil {
		t.Fatal(err)
	}
	w.measure(t, "back after a minute", usable)
}

// TestCarrierOff takes the carrier away for ten seconds and compares when IPv4 is
// answered again with when the host's own IPv6 is. What is connected goes on.
func TestCarrierOff(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("measures: TNAT64_LONG=1 runs it")
	}
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	for range 5 {
		flow := w.connection(t, "", netip.Addr{})
		if _, err := w.SetCarrier(false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		usable, err := w.SetCarrier(true)
		if err != nil {
			t.Fatal(err)
		}
		own := make(chan time.Time, 1)
		go func() {
			defer close(own)
			to := netip.AddrPortFrom(lab.Synthesize(w.PREF64(), lab.ServerIPv4), lab.PortEcho).String()
			for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if conn, err := connect(w.Laptop, "udp6", to, "", netip.Addr{}); err == nil {
					conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
					err = roundTrip(conn, []byte("are you there?"))
					conn.Close()
					if err == nil {
						own <- time.Now()
						return
					}
				}
			}
		}()
		ipv4 := w.firstAnswer(t, "", soon)
		ipv6, ok := <-own
		if !ok {
			t.Fatal("the host's own IPv6 is not answered")
		}
		t.Logf("answered after %v by IPv4, %v by the host's own IPv6", ipv4.Sub(usable).Round(time.Millisecond), ipv6.Sub(usable).Round(time.Millisecond))
		if later := ipv4.Sub(ipv6); later > 3*time.Second {
			t.Errorf("IPv4 is %v later than the host's own IPv6", later)
		}
		wantAlive(t, "what was connected", flow)
		w.wantState(t, lab.Uplink, control.Up)
	}
}

// ownAddress waits until the laptop has a valid address of its own on the uplink.
func (w *world) ownAddress(t *testing.T) {
	t.Helper()
	eventually(t, startTimeout, func() error {
		out, err := w.try(t, "ip", "-6", "-o", "addr", "show", "dev", lab.Uplink, "scope", "global", "-tentative", "-deprecated")
		if err == nil && strings.TrimSpace(out) == "" {
			err = errors.New("the laptop has no address of its own")
		}
		return err
	})
}
