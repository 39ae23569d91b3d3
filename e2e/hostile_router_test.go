package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"tnat64d/internal/lab"
)

// advertise sends a router advertisement from a neighbour's own address.
func (w *world) advertise(t *testing.T, b *lab.Neighbour, a lab.Advert) {
	t.Helper()
	a.Source = b.MAC
	message, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	frame := frameTo(t, b, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1},
		&layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: b.Local.AsSlice(), DstIP: net.IPv6linklocalallnodes},
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(message[0], message[1])},
		gopacket.Payload(message[4:]))
	if err := b.Send(frame); err != nil {
		t.Fatal(err)
	}
}

// formed waits until the laptop's kernel has formed an address in p.
func (w *world) formed(t *testing.T, p netip.Prefix) {
	t.Helper()
	link, err := w.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, stepTimeout, func() error {
		addrs, err := w.Laptop.Netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if ip, _ := netip.AddrFromSlice(a.IP); p.Contains(ip) {
				return nil
			}
		}
		return fmt.Errorf("no address in %s", p)
	})
}

const forever = time.Duration(0xffffffff) * time.Second

// TestHostileRouter has a station on the link advertise prefixes. What
// the router says stays in use, and so does every connection.
func TestHostileRouter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true // the kernel has believed the neighbour
	was, index := w.clat, w.index(t, w.clat.TUN)
	flow := w.connection(t, "", netip.Addr{})
	b := w.neighbour(t)
	planted := []lab.PREF64{{Prefix: netip.MustParsePrefix("2001:db8:bad::/96"), Lifetime: 65528 * time.Second}}
	part := netip.PrefixFrom(lab.Synthesize(w.PREF64(), lab.ServerIPv4), 120).Masked()
	for _, c := range []struct {
		name   string
		advert lab.Advert
		forms  bool // the kernel forms an address in advert.Prefix
	}{
		{"a prefix for addresses that matches PREF64 better", lab.Advert{
			Prefix: netip.MustParsePrefix("64:ff9b:0:1::/64"), Valid: forever, Preferred: forever}, true},
		{"a prefix for addresses that contains PREF64", lab.Advert{
			Prefix: netip.MustParsePrefix("64:ff9b::/64"), Valid: forever, Preferred: forever}, true},
		{"and takes it back", lab.Advert{Prefix: netip.MustParsePrefix("64:ff9b::/64")}, false},
		{"the end of the router's prefix", lab.Advert{
			Prefix: netip.PrefixFrom(was.IPv6, 64).Masked(), Valid: 2 * time.Hour}, false},
		{"a prefix on the link that is PREF64", lab.Advert{
			Prefix: w.PREF64(), Valid: forever, Preferred: forever}, false},
		{"a prefix on the link that is a part of PREF64", lab.Advert{
			Prefix: part, Valid: forever, Preferred: forever}, false},
		{"a prefix on the link that is everything", lab.Advert{
			Prefix: netip.MustParsePrefix("::/0"), Valid: forever, Preferred: forever}, false},
		{"a PREF64", lab.Advert{PREF64: planted}, false},
		{"the end of the router's PREF64", lab.Advert{PREF64: []lab.PREF64{{Prefix: w.PREF64()}}}, false},
		{"as a default router", lab.Advert{RouterLifetime: 9000 * time.Second, PREF64: planted,
			Prefix: netip.MustParsePrefix("2001:db8:bad:1::/64"), Valid: forever, Preferred: forever}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.advertise(t, b, c.advert)
			if c.forms {
				w.formed(t, c.advert.Prefix)
			}
			time.Sleep(2 * time.Second) // an address in DAD
			w.wantPREF64(t, w.PREF64())
			wantAlive(t, "after that", flow)
			w.connection(t, "", netip.Addr{})
			w.wantSame(t, was, index)
		})
	}
	w.page(t)
}

// TestHostileSilence has a local user send to hosts that do not answer, and
// somebody on the link advertise another PREF64.
func TestHostileSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	flow := w.connection(t, "", netip.Addr{})
	b := w.neighbour(t)
	planted := []lab.PREF64{{Prefix: netip.MustParsePrefix("2001:db8:bad::/96"), Lifetime: 65528 * time.Second}}
	w.advertise(t, b, lab.Advert{PREF64: planted})
	if _, err := w.asUser(t, "silence", "20"); err != nil {
		t.Fatal(err)
	}
	w.wantPREF64(t, w.PREF64())
	wantAlive(t, "after the silence", flow)
	w.page(t)
}

// The act "silence" sends UDP datagrams and TCP SYNs to 50 hosts that do not
// exist, for so many seconds.
var _ = addAct("silence", func(args []string) (string, error) {
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for n := 0; time.Now().Before(end); n++ {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 7, byte(n%50 + 1)}), 9)
		if conn, err := net.Dial("udp4", to.String()); err == nil {
			conn.Write([]byte("is anybody there?"))
			conn.Close()
		}
		if conn, err := net.DialTimeout("tcp4", to.String(), 50*time.Millisecond); err == nil {
			conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", nil
})

// TestRenumberedWithoutZeroLifetime is a router that restarts with another /64 and
// another PREF64, and never deprecates the old ones (RFC 8978).
func TestRenumberedWithoutZeroLifetime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	a := w.Advert()
	a.Prefix = netip.MustParsePrefix("2001:db8:7:7::/64")
	a.PREF64 = []lab.PREF64{{Prefix: anotherPREF64, Lifetime: 10 * time.Minute}}
	if err := w.MovePLAT(anotherPREF64); err != nil {
		t.Fatal(err)
	}
	if err := w.SetAdvert(a); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	w.wantPREF64(t, anotherPREF64)
	eventually(t, soon, func() error {
		c, err := w.FindCLAT()
		if err == nil && !a.Prefix.Contains(c.IPv6) {
			err = fmt.Errorf("the CLAT address is %s", c.IPv6)
		}
		return err
	})
	w.firstAnswer(t, "", soon)
	t.Logf("recovered after %v", time.Since(begun).Round(100*time.Millisecond))
}

// TestPREF64RenewedInTime is a PREF64 that lives for 16 s on a link whose router
// speaks only when it is asked.
func TestPREF64RenewedInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	a := w.Advert()
	a.PREF64 = []lab.PREF64{{Prefix: w.PREF64(), Lifetime: 16 * time.Second}}
	if err := w.SetAdvert(a); err != nil {
		t.Fatal(err)
	}
	flow := w.connection(t, "", netip.Addr{})
	asked := w.Solicited()
	time.Sleep(20 * time.Second)
	if w.Solicited() == asked {
		t.Error("the router has not been asked")
	}
	w.wantPREF64(t, w.PREF64())
	wantAlive(t, "beyond the lifetime", flow)
}
