package clat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/soak"
)

// drifts are what other programs do to the configuration of the CLAT on wlan.
var drifts = []struct {
	what string
	do   func(b *bench)
}{
	{"ip route flush table main", func(b *bench) {
		b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return !r.IPv6 && r.Table == plan.TableMain })
	}},
	{"ip route flush table all", func(b *bench) {
		b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return !r.IPv6 })
		for i, a := range b.host.o.Addrs {
			b.host.o.Addrs[i].NotLocal = a.Link >= 100 && a.Prefix.Addr().Is4()
		}
	}},
	{"ip addr flush dev clat0", func(b *bench) {
		// The kernel removes the routes that have the address as their source.
		b.host.dropAddr(netip.MustParseAddr("192.0.0.1"))
		b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return !r.IPv6 })
	}},
	{"ip link set clat0 down", func(b *bench) {
		for i, l := range b.host.o.Links {
			b.host.o.Links[i].Up = l.Up && l.Index < 100
		}
		b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return !r.IPv6 })
	}},
	{"ip link del clat0", func(b *bench) {
		for _, l := range slices.Clone(b.host.o.Links) {
			if l.Index >= 100 {
				b.host.dropLink(l.Index)
			}
		}
	}},
	{"remove the CLAT address", func(b *bench) { b.host.dropAddr(netip.MustParseAddr(first)) }},
	{"detach BPF programs", func(b *bench) { b.host.broken = true }},
}

// Several kinds of drift at once and again and again, between two passes and in
// the middle of one: each is restored as soon as the limit allows, which is
// after ten seconds and DAD, no step fails, and the CLAT is never taken down.
func TestDriftIsRestoredWithinTheLimit(t *testing.T) {
	const dad = time.Second
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, soak.Seed(t)))
			b := newBench(t, wlan)
			b.up()
			want := b.shape()
			var story []string
			for range 40 {
				for range 1 + r.IntN(3) {
					d := drifts[r.IntN(len(drifts))]
					story = append(story, d.what)
					if r.IntN(3) == 0 {
						b.host.meanwhile = func() { d.do(b) }
						b.passes(t)
					} else {
						d.do(b)
					}
					if r.IntN(2) == 0 {
						b.passes(t)
					}
				}
				b.host.meanwhile = nil
				since := time.Now()
				for {
					wait := b.passes(t)
					if b.shape() == want {
						break
					}
					if slices.ContainsFunc(b.host.o.Addrs, func(a plan.Addr) bool { return a.Tentative }) {
						time.Sleep(dad)
						b.host.dad(true)
						continue
					}
					if wait == 0 {
						t.Fatalf("seed %d: %s: nothing is planned, and the host is\n%s", seed, strings.Join(story, "; "), b.shape())
					}
					time.Sleep(wait)
				}
				if took := time.Since(since); took > restoreEvery+2*dad {
					t.Fatalf("seed %d: %s: restored after %v", seed, strings.Join(story, "; "), took)
				}
				time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			}
			if did := b.host.text(); strings.Contains(did, "ip -6 addr del") {
				t.Log(did)
				t.Errorf("seed %d: the CLAT was taken down", seed)
			}
		})
	}
}

// passes reconciles until nothing is to be planned again, and returns when to
// call it again although nothing changes.
func (b *bench) passes(t *testing.T) time.Duration {
	t.Helper()
	for range 8 {
		p, err := b.pass()
		if err != nil {
			t.Fatal(err)
		}
		if p != Replan {
			return b.rec.RetryAfter()
		}
	}
	return time.Second
}

// shape is what the host looks like, but for the index of the TUN.
func (b *bench) shape() string {
	o := b.host.o
	var s []string
	for _, l := range o.Links {
		s = append(s, fmt.Sprintf("link %s %t %d %s", l.Name, l.Up, l.MTU, l.Alias))
	}
	for _, a := range o.Addrs {
		s = append(s, fmt.Sprintf("addr %s %s %t %t", o.LinkName(a.Link), a.Prefix, a.Tentative, a.NotLocal))
	}
	for _, r := range o.Routes {
		s = append(s, fmt.Sprintf("route %s %s %d %d", o.LinkName(r.Link), r.Source, r.Metric, r.Table))
	}
	slices.Sort(s)
	return strings.Join(append(s, fmt.Sprintf("steering %t", !b.host.broken)), "\n")
}
