package lab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// TestAdvertMessage reads an Advert back with another decoder.
func TestAdvertMessage(t *testing.T) {
	a := Advert{
		RouterLifetime: 30 * time.Minute,
		Prefix:         LaptopLink, Valid: 2 * time.Hour, Preferred: time.Hour,
		PREF64: []PREF64{{WellKnownPrefix, 10 * time.Minute}, {netip.MustParsePrefix("3fff:64::/32"), 0}},
		MTU:    1400,
		RDNSS:  []netip.Addr{RouterIPv6},
	}
	b, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ndp.ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	ra, ok := m.(*ndp.RouterAdvertisement)
	if !ok {
		t.Fatalf("decoded as %T", m)
	}
	want := []ndp.Option{
		&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: hardwareAddr(1)},
		&ndp.PrefixInformation{
			PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true,
			ValidLifetime: 2 * time.Hour, PreferredLifetime: time.Hour, Prefix: LaptopLink.Addr(),
		},
		ndp.NewMTU(1400),
		&ndp.RecursiveDNSServer{Lifetime: 30 * time.Minute, Servers: []netip.Addr{RouterIPv6}},
		&ndp.PREF64{Prefix: WellKnownPrefix, Lifetime: 10 * time.Minute},
		&ndp.PREF64{Prefix: netip.MustParsePrefix("3fff:64::/32"), Lifetime: 0},
	}
	byText := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	byPrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, ra.Options, byText, byPrefix); diff != "" {
		t.Error(diff)
	}
}

// hearRA waits on the laptop for an RA that has the property. With solicit
// it asks for one first.
func hearRA(t *testing.T, l *Lab, solicit bool, has func(*ndp.RouterAdvertisement) bool) error {
	t.Helper()
	link, err := l.Laptop.Netlink.LinkByName(Uplink)
	if err != nil {
		t.Fatal(err)
	}
	var raw net.PacketConn
	err = l.Laptop.Do(func() (err error) {
		raw, err = net.ListenPacket("ip6:ipv6-icmp", "::")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := ipv6.NewPacketConn(raw)
	ifi := &net.Interface{Index: link.Attrs().Index}
	if err := errors.Join(
		conn.SetMulticastInterface(ifi), conn.SetMulticastHopLimit(255),
		conn.JoinGroup(ifi, &net.IPAddr{IP: net.IPv6linklocalallnodes}),
	); err != nil {
		t.Fatal(err)
	}
	if solicit {
		b, err := ndp.MarshalMessage(&ndp.RouterSolicitation{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteTo(b, nil, &net.IPAddr{IP: net.IPv6linklocalallrouters}); err != nil {
			t.Fatal(err)
		}
	} else if err := l.sendAdvert(); err != nil {
		t.Fatal(err)
	}
	raw.SetReadDeadline(time.Now().Add(60 * time.Second))
	buf := make([]byte, 1500)
	for {
		n, _, err := raw.ReadFrom(buf)
		if err != nil {
			return err
		}
		if m, err := ndp.ParseMessage(buf[:n]); err == nil {
			if ra, ok := m.(*ndp.RouterAdvertisement); ok && has(ra) {
				return nil
			}
		}
	}
}

func announces(p netip.Prefix, lifetime time.Duration) func(*ndp.RouterAdvertisement) bool {
	return func(ra *ndp.RouterAdvertisement) bool {
		return slices.ContainsFunc(ra.Options, func(o ndp.Option) bool {
			q, ok := o.(*ndp.PREF64)
			return ok && q.Prefix == p && q.Lifetime == lifetime
		})
	}
}

// TestRouterAdvertisements hears on the laptop what the router says: solicited,
// after a change of PREF64, after its withdrawal, and in silence.
func TestRouterAdvertisements(t *testing.T) {
	l := newTestLab(t, Options{PREF64Lifetime: 80 * time.Second})
	if err := hearRA(t, l, true, announces(WellKnownPrefix, 80*time.Second)); err != nil {
		t.Errorf("solicited: %v", err)
	}
	other, err := PREF64OfLength(48)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetPREF64(other); err != nil {
		t.Fatal(err)
	}
	both := func(ra *ndp.RouterAdvertisement) bool {
		return announces(other, 80*time.Second)(ra) && announces(WellKnownPrefix, 0)(ra)
	}
	if err := hearRA(t, l, false, both); err != nil {
		t.Errorf("after SetPREF64: %v", err)
	}
	if err := l.WithdrawPREF64(); err != nil {
		t.Fatal(err)
	}
	if err := hearRA(t, l, false, announces(other, 0)); err != nil {
		t.Errorf("after WithdrawPREF64: %v", err)
	}
	l.Silence(true)
	if err := hearRA(t, l, true, announces(other, 0)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("in silence: %v", err)
	}
}

// TestOptionsRefused names what is wrong before anything is built.
func TestOptionsRefused(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{PREF64: netip.MustParsePrefix("64:ff9b::/95")}, "length 95"},
		{Options{PREF64: netip.MustParsePrefix("192.0.2.0/24")}, "not an IPv6 prefix"},
		{Options{PREF64: netip.MustParsePrefix("64:ff9b::1/96")}, "beyond its length"},
		{Options{PREF64: netip.MustParsePrefix("2001:db8::/32")}, "overlaps"},
		{Options{PREF64: netip.MustParsePrefix("3fff:0:0:0:1::/96")}, ""},
		{Options{PREF64: netip.MustParsePrefix("3fff::100:0:0:0/96")}, "bits 64 to 71"},
		{Options{MTU: 1279}, "laptop - router"},
		{Options{MTUISP: 67}, "router - isp"},
		{Options{MTUISP: 1000, NoPLAT: true}, "too small for IPv6"},
		{Options{}, ""},
	} {
		err := c.o.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, not %q", c.o, err, c.want)
		}
	}
	if _, err := New(context.Background(), Options{MTU: 1}); err == nil {
		t.Error("New takes what Check refuses")
	}
}
