package pref64

import (
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzNeighbours: nothing that stations other than the router send ends what
// the router says, or takes from the host the prefix that it has its addresses
// in, or grows the tables.
func FuzzNeighbours(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{3, 9, 200, 17, 3, 9, 201, 17, 255, 255, 255, 255})
	f.Add([]byte("\x00vvvvv\x01\x0e\x03")) // by a router that ranks higher, soon after the start
	f.Add([]byte{8, 64, 64, 64, 8, 65, 65, 65, 7, 1, 1, 1, 6, 2, 3, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) {
			tracker := NewTracker(nil, slog.New(slog.DiscardHandler))
			defer tracker.Close()
			own := []netip.Prefix{pio1}
			say := func(ra RouterAdvertisement) { tracker.Apply(ra.report(uplink, time.Now())) }
			speak := func() {
				ra := hourly(router1, 30*time.Minute, prefixC)
				ra.Prefixes = []PrefixInfo{pio(pio1)}
				say(ra)
			}
			tracker.SetOwn(own)
			speak()
			spoken := time.Now()
			for len(script) >= 4 {
				op, a, b, c := script[0], script[1], script[2], script[3]
				script = script[4:]
				from := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: 0xba, 15: a})
				lifetime := time.Duration(b) * time.Minute // may be 0
				prefixes := []netip.Prefix{prefixC, flooded(int(c)), prefixA, netip.MustParsePrefix("64:ff9b::/32")}
				onLink := []netip.Prefix{pio1, netip.MustParsePrefix("64:ff9b::/64"), netip.PrefixFrom(flooded(int(c)).Addr(), 64)}
				switch op % 6 {
				case 0:
					say(hourly(from, lifetime, prefixes[c%4]))
				case 1:
					say(RouterAdvertisement{Router: from, RouterLifetime: lifetime, PREF64: []PREF64{{prefixes[c%4], 0}}})
				case 2:
					p := pio(onLink[c%3])
					p.Valid = time.Duration(b) * time.Second
					p.Preferred = min(p.Preferred, p.Valid) * time.Duration(c>>7)
					say(RouterAdvertisement{Router: from, RouterLifetime: lifetime, Prefixes: []PrefixInfo{p}, Preference: Preference(c%3) - 1})
					if forAddresses(p) && len(own) < 16 {
						own = append(own, p.Prefix) // as the kernel does
						tracker.SetOwn(own)
					}
				case 3:
					tracker.Apply(Report{Observations: hourly(from, 0, prefixes[c%4]).observations()})
				case 4:
					tracker.SetRouters([]Gateway{{from, int(b)}, {router1, 1024}})
				case 5:
					time.Sleep(time.Duration(b) * time.Second)
				}
				if time.Since(spoken) > 5*time.Minute {
					speak()
					spoken = time.Now()
				}
				synctest.Wait()
				if o, _ := tracker.Current(); o.Prefix != prefixC {
					t.Fatalf("in use is %v", o.Prefix)
				}
				tracker.mu.Lock()
				if len(tracker.state.prefixes) > maxPrefixes || len(tracker.state.onLink) > maxOnLink || len(tracker.state.routers.heard) > maxRouters {
					t.Errorf("%d prefixes, %d on the link, %d routers", len(tracker.state.prefixes), len(tracker.state.onLink), len(tracker.state.routers.heard))
				}
				good := false
				for _, o := range tracker.state.onLink.valid(&tracker.state.routers, time.Now()) {
					good = good || o.Prefix == pio1 && o.Router == router1 && o.Default && o.Preferred
				}
				tracker.mu.Unlock()
				if !good {
					t.Fatal("the router's prefix for addresses is lost")
				}
			}
		})
	})
}

func (ra RouterAdvertisement) observations() []Observation {
	return ra.report(uplink, time.Now()).Observations
}
