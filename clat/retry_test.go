package clat

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A part of a complete CLAT that cannot be restored does not end it: the rest stays,
// and only that part is tried again, after 1, 2, 4 and at most 60 seconds.
func TestPartIsRetriedAlone(t *testing.T) {
	for _, c := range []struct {
		name, step, want string
		remove           func(*fakeHost)
	}{
		{"route", "route append", `ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64`,
			func(h *fakeHost) { h.o.Routes = h.o.Routes[:1] }},
		{"address", "addr add 2001", `ip -6 addr add ` + first + `/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`,
			func(h *fakeHost) { h.dropAddr(netip.MustParseAddr(first)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, wlan)
				b.up()
				want := b.shape()
				c.remove(b.host)
				b.host.failAt = c.step
				since := time.Now()
				var tried []time.Duration
				for len(tried) < 9 {
					_, missing := b.missing()
					if missing == nil || !strings.Contains(missing.Error(), "the test says no") {
						t.Fatalf("missing: %v", missing)
					}
					if out := b.host.text(); out != "" {
						if out != c.want+" # fails" {
							t.Fatalf("did more than try the part again:\n%s", out)
						}
						tried = append(tried, time.Since(since).Round(time.Second))
					}
					wait := b.rec.RetryAfter()
					if wait == 0 {
						t.Fatal("nothing is planned")
					}
					time.Sleep(wait)
				}
				for i, sum := range []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183} {
					if tried[i] != sum*time.Second {
						t.Fatalf("attempt %d after %v, want %v: %v", i+1, tried[i], sum*time.Second, tried)
					}
				}
				b.host.failAt = ""
				if _, missing := b.missing(); missing != nil {
					t.Fatalf("still missing: %v", missing)
				}
				b.host.dad(true)
				b.passes(t)
				if got := b.shape(); got != want {
					t.Errorf("the host is\n%s\nnot\n%s", got, want)
				}
				if out := b.host.text(); out != c.want {
					t.Errorf("did\n%s", out)
				}
			})
		})
	}
}

// What another part needs is removed even if an old route cannot be.
func TestOldRouteIsRemovedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, wlan)
		b.up()
		b.conf.Metric = 100
		b.host.failAt = "route del"
		if _, missing := b.missing(); missing == nil {
			t.Fatal("no error")
		}
		b.host.failAt = ""
		time.Sleep(b.rec.RetryAfter())
		if p, missing := b.missing(); p != Up || missing != nil {
			t.Fatalf("%v, missing %v", p, missing)
		}
		if n := len(b.host.o.Routes); n != 2 {
			t.Errorf("%d routes: %v", n, b.host.o.Routes)
		}
	})
}

// missing is pass, and returns what is missing of the first uplink's CLAT.
func (b *bench) missing() (Progress, error) {
	b.t.Helper()
	outs := b.outcomes()
	if outs[0].Err != nil {
		b.t.Fatal(outs[0].Err)
	}
	return outs[0].Progress, outs[0].Missing
}
