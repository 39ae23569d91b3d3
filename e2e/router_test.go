package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// wantUnreachable finds that new connections fail at once.
func (w *world) wantUnreachable(t *testing.T) {
	t.Helper()
	switch err := answered(w.Laptop, "", patience); {
	case err == nil:
		t.Error("IPv4 is still there")
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Errorf("IPv4 is gone, and programs wait for it: %v", err)
	}
}

// TestLifetimes lets what a router says end by itself, and routers go with and
// without a word. TUN, IPv4 address and connections wait for them.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	was, index := w.clat, w.index(t, w.clat.TUN)
	announced := w.Advert()
	for _, c := range []struct {
		name     string
		advert   func(a *lab.Advert)
		vanishes bool
		why      string
		lasts    time.Duration
		long     bool
	}{
		{"the router says that it goes", func(a *lab.Advert) { a.RouterLifetime = 0 }, true, "no IPv6 default route", 0, false},
		{"PREF64 for 8 seconds", func(a *lab.Advert) {
			a.PREF64 = []lab.PREF64{{Prefix: w.PREF64(), Lifetime: 8 * time.Second}}
		}, false, "waiting for a PREF64", 8 * time.Second, false},
		// The kernel looks every 30 seconds for routes whose time is over.
		{"the router disappears", func(a *lab.Advert) { a.RouterLifetime = 3 * time.Second }, true, "no IPv6 default route", 3 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && os.Getenv("TNAT64_LONG") == "" {
				t.Skip("takes half a minute: TNAT64_LONG=1 runs it")
			}
			flow := w.connection(t, "", netip.Addr{})
			last := w.Advert()
			c.advert(&last)
			sent := time.Now()
			if err := w.SetAdvert(last); err != nil {
				t.Fatal(err)
			}
			w.Silence(true)
			time.Sleep(100 * time.Millisecond) // what was said is on its way
			if err := w.Vanish(c.vanishes); err != nil {
				t.Fatal(err)
			}
			if c.long {
				time.Sleep(30 * time.Second)
			}
			w.wantState(t, lab.Uplink, control.Held, c.why)
			took := time.Since(sent)
			if t.Logf("over after %v", took.Round(10*time.Millisecond)); took < c.lasts-time.Second/2 {
				t.Errorf("over after %v, not %v", took, c.lasts)
			}
			w.wantUnreachable(t)
			w.Silence(false)
			if err := w.Vanish(false); err != nil {
				t.Fatal(err)
			}
			if err := w.SetAdvert(announced); err != nil {
				t.Fatal(err)
			}
			w.measure(t, "the router advertises again", time.Now())
			wantAlive(t, "in between", flow)
			w.wantSame(t, was, index)
		})
	}
}

// TestRouters has a second router with another PREF64 on the link, and a flood.
func TestRouters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	was, index := w.clat, w.index(t, w.clat.TUN)
	home := w.PREF64()
	flow := w.connection(t, "", netip.Addr{})
	other := netip.MustParsePrefix("3fff:64:b::/96")
	if err := w.AddPLAT(other); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddRouter(netip.MustParseAddr("fe80::b"), lab.Advert{
		RouterLifetime: 30 * time.Minute, PREF64: []lab.PREF64{{Prefix: other, Lifetime: 10 * time.Minute}},
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() error {
		u, err := w.status(lab.Uplink)
		if err == nil && len(u.PREF64) != 2 {
			err = fmt.Errorf("known are %+v", u.PREF64)
		}
		return err
	})
	w.wantPREF64(t, home)
	wantAlive(t, "while a second router comes", flow)

	t.Run("flood", func(t *testing.T) {
		// None of them is a default router: that would be the kernel's trouble.
		sent, err := w.Flood(t.Context(), lab.Flood{PerSecond: 2000, For: 2 * time.Second, Advert: func(i int) lab.Advert {
			return lab.Advert{PREF64: []lab.PREF64{{Prefix: floodPrefix(i), Lifetime: 10 * time.Minute}}}
		}})
		if err != nil {
			t.Fatal(err)
		}
		w.wantPREF64(t, home)
		wantAlive(t, "during a flood", flow)
		u, err := w.status(lab.Uplink)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d advertisements; %d prefixes are known, ignored: %d kinds", sent, len(u.PREF64), len(u.Ignored))
		if len(u.PREF64) > 20 || len(u.Ignored) == 0 {
			t.Errorf("of a flood: %d prefixes known, %+v ignored", len(u.PREF64), u.Ignored)
		}
	})
	t.Run("the first router withdraws", func(t *testing.T) {
		announced := w.Advert()
		if err := w.WithdrawPREF64(); err != nil {
			t.Fatal(err)
		}
		wantEnded(t, "by the first PLAT", flow, time.Now())
		w.wantPREF64(t, other)
		flow = w.connection(t, "", netip.Addr{})
		if err := w.SetAdvert(announced); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		w.wantPREF64(t, other)
		wantAlive(t, "by the second PLAT, when the first router is back", flow)
	})
	w.wantSame(t, was, index)
	wants(t, w.laptop(t, "curl", "-sS", url("/")), lab.Greeting)
}

// floodPrefix is the PREF64 of the i-th router of a flood.
func floodPrefix(i int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("3fff:f100:%x::/96", i))
}
