package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestCLATAddressIsNoSource asks the kernel all the time which source address it
// chooses for native IPv6, while the laptop's own addresses come, go, are in DAD
// and are deprecated: it is never the CLAT's (RFC 6724 section 5).
func TestCLATAddressIsNoSource(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, stage{})
	w.moved = true
	sources := w.followSources(t)
	advert := w.Advert()
	again := func(t *testing.T) {
		t.Helper()
		if err := w.SetAdvert(advert); err != nil {
			t.Fatal(err)
		}
		w.wantState(t, lab.Uplink, control.Up)
		w.firstAnswer(t, "", startTimeout)
	}

	// The own addresses go; the next advertisement brings them back, through DAD.
	for range 3 {
		w.laptop(t, "sh", "-c", "ip -6 addr flush dev "+lab.Uplink+" scope global")
		again(t)
	}
	// A restart finds them in DAD.
	if err := w.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	w.laptop(t, "sh", "-c", "ip -6 addr flush dev "+lab.Uplink+" scope global")
	w.start(built(t, "tnat64d"), false)
	again(t)

	// They are deprecated, as the CLAT's is: only their labels differ.
	deprecated := advert
	deprecated.Preferred = 0
	if err := w.SetAdvert(deprecated); err != nil {
		t.Fatal(err)
	}
	eventually(t, startTimeout, w.allDeprecated)
	time.Sleep(time.Second) // for the sources that the kernel chooses meanwhile
	w.wantState(t, lab.Uplink, control.Up)
	w.firstAnswer(t, "", startTimeout)

	// Another prefix takes the place of this one (RFC 9096 section 3.5).
	other := advert
	other.Prefix = netip.MustParsePrefix("2001:db8:7::/64")
	other.MorePrefixes = []lab.AdvertPrefix{{Prefix: advert.Prefix}}
	if err := w.SetAdvert(other); err != nil {
		t.Fatal(err)
	}
	eventually(t, startTimeout, func() error {
		c, err := w.FindCLAT()
		if err == nil && !other.Prefix.Contains(c.IPv6) {
			err = net.InvalidAddrError("the CLAT address is still " + c.IPv6.String())
		}
		return err
	})
	w.firstAnswer(t, "", startTimeout)

	wantNoCLATSource(t, sources())
}

// TestConnectionFromCLATAddressEnds has a program whose native IPv6 got the CLAT
// address as its source, as the kernel chooses for a moment when another program
// removes the host's own addresses. Nothing of it leaves, and when the CLAT address
// goes, the program is told.
func TestConnectionFromCLATAddressEnds(t *testing.T) {
	t.Parallel()
	needProgram(t, "ss")
	w := newWorldOn(t, stage{})
	w.moved = true
	advert, was := w.Advert(), w.clat.IPv6
	ended := make(chan error, 1)
	go func() {
		c, err := connect(w.Laptop, "tcp6", "[2001:db8:ffff::1]:80", "", was)
		if err == nil {
			c.Close()
		}
		ended <- err
	}()
	eventually(t, soon, func() error {
		out, err := w.try(t, "ss", "-Htn6", "state", "syn-sent")
		if err == nil && !strings.Contains(out, was.String()) {
			err = errors.New("the program has not begun to connect")
		}
		return err
	})
	w.laptop(t, "ip", "-6", "addr", "flush", "dev", lab.Uplink, "scope", "global")
	select {
	case err := <-ended:
		if !errors.Is(err, unix.ECONNABORTED) {
			t.Errorf("the connection ends with %v, want %v", err, unix.ECONNABORTED)
		}
	case <-time.After(soon):
		t.Error("the program is still waiting")
	}
	if err := w.SetAdvert(advert); err != nil {
		t.Fatal(err)
	}
	w.wantState(t, lab.Uplink, control.Up)
	w.firstAnswer(t, "", startTimeout)
}

type chosen struct{ all, clat int }

// wantNoCLATSource checks that addresses were chosen, and none of them a CLAT's.
func wantNoCLATSource(t *testing.T, sources map[netip.Addr]chosen) {
	t.Helper()
	if len(sources) == 0 {
		t.Error("no address was ever chosen")
	}
	for a, n := range sources {
		if n.clat > 0 {
			t.Errorf("%s was chosen %d times while it was a CLAT address", a, n.clat)
		}
	}
}

// followSources asks the kernel of the laptop for the source address of native
// IPv6 until the returned function is called.
func (w *world) followSources(t *testing.T) (stop func() map[netip.Addr]chosen) {
	end, ended := make(chan struct{}), make(chan map[netip.Addr]chosen)
	go func() {
		seen := map[netip.Addr]chosen{}
		defer func() { ended <- seen }()
		for {
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
			clats := w.clatAddrs()
			// Beside a far destination those that resemble a CLAT address most.
			for _, to := range append(clats, netip.MustParseAddr("2001:db8:ffff::1")) {
				a := w.sourceTo(neighbourOf(to))
				if !a.IsValid() {
					continue
				}
				n := seen[a]
				n.all++
				for _, c := range clats {
					if c == a {
						n.clat++
					}
				}
				seen[a] = n
			}
		}
	}()
	return func() map[netip.Addr]chosen {
		close(end)
		return <-ended
	}
}

// neighbourOf differs from a in the last bit.
func neighbourOf(a netip.Addr) netip.Addr {
	b := a.As16()
	b[15] ^= 1
	return netip.AddrFrom16(b)
}

// allDeprecated returns an error while the laptop has a preferred address of its own.
func (w *world) allDeprecated() error {
	link, err := w.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		return err
	}
	addrs, err := w.Laptop.Netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.IP.IsGlobalUnicast() && a.PreferedLft != 0 {
			return fmt.Errorf("%s is preferred", a.IPNet)
		}
	}
	return nil
}

// clatAddrs lists the addresses that the laptop's kernel knows as a CLAT's.
func (w *world) clatAddrs() (as []netip.Addr) {
	link, err := w.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		return nil
	}
	addrs, err := w.Laptop.Netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		ones, _ := a.Mask.Size()
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ones == 128 && a.PreferedLft == 0 && ip.IsGlobalUnicast() {
			as = append(as, ip)
		}
	}
	return as
}

// sourceTo returns the source address that the laptop's kernel chooses, or the
// zero Addr where it has no route.
func (w *world) sourceTo(to netip.Addr) (from netip.Addr) {
	_ = w.Laptop.Do(func() error {
		c, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 53)))
		if err != nil {
			return err
		}
		defer c.Close()
		from = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		return nil
	})
	return from
}
