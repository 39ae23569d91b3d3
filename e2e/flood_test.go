package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/lab"
	"tnat64d/internal/soak"
)

// TestHostileFlood floods the laptop with Router Advertisements of routers that
// do not exist, and with such that are wrong. Traffic goes on, and log, status
// and memory stay small.
func TestHostileFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	flow := w.connection(t, "", netip.Addr{})
	good, err := w.Advert().Encode()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() {
		sent, err := w.Flood(t.Context(), lab.Flood{
			Routers: 500, PerSecond: 4000, For: 3 * time.Second,
			Advert: func(i int) lab.Advert {
				// No default routers, or the kernel itself would be lost.
				var a lab.Advert
				for j := range 10 {
					p := netip.MustParsePrefix(fmt.Sprintf("3fff:f%x:%x::/96", j, i))
					a.PREF64 = append(a.PREF64, lab.PREF64{Prefix: p, Lifetime: time.Duration(i%2) * 10 * time.Minute})
					a.RDNSS = append(a.RDNSS, p.Addr().Next())
				}
				return a
			},
		})
		t.Logf("%d hostile advertisements of other routers", sent)
		done <- err
	}()
	go func() {
		random := rand.New(rand.NewPCG(3, soak.Seed(t)))
		var errs []error
		sent := 0
		for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			// The good one of the good router, and nonsense behind it.
			message := append([]byte(nil), good...)
			for range 1 + random.IntN(5) {
				option := pref64Option(fmt.Sprintf("3fff:bad:%x::/96", random.IntN(1<<16)), byte(random.IntN(8)), 600)
				option[random.IntN(2)] = byte(random.Uint32())
				message = append(message, option[:random.IntN(len(option)+1)]...)
			}
			errs = append(errs, w.SendRA(message))
			sent++
		}
		t.Logf("%d broken advertisements of the right router", sent)
		done <- errors.Join(errs...)
	}()
	for range 6 {
		wantAlive(t, "a connection", flow)
		time.Sleep(500 * time.Millisecond)
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	w.page(t)
	wantAlive(t, "a connection", flow)
	// Last, default routers, by which the kernel itself loses its way.
	if _, err := w.Flood(t.Context(), lab.Flood{Routers: 300, PerSecond: 3000, For: time.Second}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(w.book.String(), "\n")
	status, err := w.daemon.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := status.Uplinks[0]
	t.Logf("%d lines of log; status has %d prefixes, %d resolvers, %d ignored, %d changes", lines, len(u.PREF64), len(u.Resolvers), len(u.Ignored), len(u.History))
	if lines > 40 {
		t.Errorf("%d lines of log:\n%s", lines, w.book.String())
	}
	if len(u.PREF64) > 64 || len(u.Resolvers) > 32 || len(u.Ignored) > 64 {
		t.Error("status is not bounded")
	}
	if u.PREF64[0].Prefix != lab.WellKnownPrefix {
		t.Errorf("PREF64 is %+v", u.PREF64[0])
	}
}
