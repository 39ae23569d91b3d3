package lab

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
)

func online(t *testing.T, n *Network) netip.Addr {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := n.WaitOnline(ctx); err != nil {
		t.Fatal(err)
	}
	own, err := n.LaptopAddress()
	if err != nil || !own.IsValid() {
		t.Fatalf("address on %s: %s, %v", n.Name, own, err)
	}
	return own
}

// TestRoam walks to another network and back: other router, other prefix,
// other PREF64, the same interface.
func TestRoam(t *testing.T) {
	l := newTestLab(t, Options{})
	before, err := l.Laptop.Netlink.LinkByName(Uplink)
	if err != nil {
		t.Fatal(err)
	}
	cafe, err := l.AddNetwork(Options{DNS: &DNS{}})
	if err != nil {
		t.Fatal(err)
	}
	home := l.Network
	for _, to := range []*Network{cafe, home} {
		start := time.Now()
		usable, err := l.Roam(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		if usable.Before(start) || time.Since(usable) < 0 {
			t.Errorf("usable at %s, begun at %s", usable, start)
		}
		own := online(t, to)
		t.Logf("online on %s as %s after %v", to.Name, own, time.Since(usable))
		wantEcho(t, to.Name, l, to.PREF64(), 10, nil)
	}
	if home.PREF64() == cafe.PREF64() || home.Local == cafe.Local || home.Link == cafe.Link {
		t.Error("the networks are the same")
	}
	if got := cafe.Advert().RDNSS; !slices.Equal(got, []netip.Addr{cafe.IPv6}) {
		t.Errorf("RDNSS of the second network: %s", got)
	}
	after, err := l.Laptop.Netlink.LinkByName(Uplink)
	if err != nil || after.Attrs().Index != before.Attrs().Index {
		t.Errorf("the interface has changed: %v", err)
	}
	if _, err := l.Flap(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	online(t, home)
	wantEcho(t, "after a flap", l, home.PREF64(), 10, nil)
	if _, err := l.Attach(cafe); err == nil {
		t.Error("on two networks at once")
	}
}

// TestTwoUplinks is on two networks with two interfaces, and loses the carrier
// of each.
func TestTwoUplinks(t *testing.T) {
	l := newTestLab(t, Options{NativeIPv4: true, Second: &Options{PREF64: WellKnownPrefix, NativeIPv4: true}})
	if one, two := online(t, l.Network), online(t, l.Second); one == two || !l.Second.Link.Contains(two) {
		t.Errorf("addresses %s and %s", one, two)
	}
	for _, n := range []*Network{l.Network, l.Second} {
		other := l.Second
		if n == l.Second {
			other = l.Network
		}
		if _, err := n.SetCarrier(false); err != nil {
			t.Fatal(err)
		}
		if err := l.Forget(n.Attached()); err != nil {
			t.Fatal(err)
		}
		wantEcho(t, "by "+other.Name, l, WellKnownPrefix, 10, nil)
		addrs, err := l.Laptop.Addresses(n.Attached())
		if err != nil || len(addrs) != 1 {
			t.Errorf("left on %s: %s, %v", n.Attached(), addrs, err)
		}
		if _, err := n.SetCarrier(true); err != nil {
			t.Fatal(err)
		}
		online(t, n)
	}
}

// TestRenumberAndRouters renumbers the link, and has a second router on it
// that goes away, and a flood.
func TestRenumberAndRouters(t *testing.T) {
	l := newTestLab(t, Options{})
	first := online(t, l.Network)
	if err := l.Renumber(netip.MustParsePrefix("2001:db8:101:1::/64")); err != nil {
		t.Fatal(err)
	}
	var second netip.Addr
	for range 100 {
		if second, _ = l.LaptopAddress(); second.IsValid() && second != first {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !second.IsValid() || l.Link.Contains(second) {
		t.Fatalf("renumbered from %s to %s", first, second)
	}
	wantEcho(t, "renumbered", l, WellKnownPrefix, 10, nil)

	other := netip.MustParsePrefix("3fff:64:b::/96")
	if err := l.AddPLAT(other); err != nil {
		t.Fatal(err)
	}
	local := netip.MustParseAddr("fe80::b")
	router, err := l.AddRouter(local, Advert{
		RouterLifetime: time.Minute,
		Prefix:         netip.MustParsePrefix("2001:db8:10b::/64"), Valid: time.Hour, Preferred: time.Hour,
		PREF64: []PREF64{{other, 80 * time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := hearRA(t, l, true, announces(other, 80*time.Second)); err != nil {
		t.Errorf("second router: %v", err)
	}
	if has, err := l.Laptop.routesVia(Uplink, local); err != nil || !has {
		t.Errorf("default route to the second router: %v, %v", has, err)
	}
	wantEcho(t, "second PLAT", l, other, 10, nil)
	// What was heard may have been the advertisement before the answer.
	for end := time.Now().Add(60 * time.Second); router.Solicited() == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("no solicitation was counted")
			break
		}
	}
	router.Silence(true)

	heard := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_, err := l.Flood(ctx, Flood{For: time.Minute}) // until it has been heard
		heard <- err
	}()
	if err := hearRA(t, l, false, func(ra *ndp.RouterAdvertisement) bool {
		return announces(netip.MustParsePrefix("3fff:f100:63::/96"), 10*time.Minute)(ra)
	}); err != nil {
		t.Errorf("the hundredth router of the flood: %v", err)
	}
	stop()
	if err := <-heard; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
