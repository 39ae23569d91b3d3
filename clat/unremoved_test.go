package clat

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/clat/plan"
)

// stuckBench is a host whose CLAT has ended, with its address still there.
func stuckBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, wlan)
	b.up()
	b.host.failAt = "addr del " + first
	b.host.o.Links[0].MTU6 = plan.MinMTU6 - 1
	if p, err := b.pass(); p != Down || err == nil {
		t.Fatalf("progress %v, %v", p, err)
	}
	b.host.text()
	if own := b.rec.Memory().Own; !slices.Equal(own, []netip.Addr{netip.MustParseAddr(first)}) {
		t.Errorf("own addresses %v", own)
	}
	return b
}

// An address that cannot be removed at the end remains ours, and is tried again
// once in a while.
func TestStuckAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stuckBench(t)
		for range 3 {
			b.expect(Down, ``)
			if wait := b.rec.RetryAfter(); wait != tryAgain {
				t.Fatalf("retry after %s", wait)
			}
			time.Sleep(b.rec.RetryAfter())
			b.expect(Down, `ip -6 addr del `+first+`/128 dev wlan0 # fails`)
		}
		b.host.failAt = ""
		time.Sleep(b.rec.RetryAfter())
		b.expect(Down, `ip -6 addr del `+first+`/128 dev wlan0`)
		b.expect(Down, ``)
		if own := b.rec.Memory().Own; len(own) != 0 || b.rec.RetryAfter() != 0 {
			t.Errorf("own addresses %v, retry after %s", own, b.rec.RetryAfter())
		}
	})
}

// The next CLAT that wants the address removes it at its end.
func TestStuckAddressAdopted(t *testing.T) {
	b := stuckBench(t)
	b.host.o.Links[0].MTU6 = 0
	if p, err := b.pass(); p != Up || err != nil {
		t.Fatalf("progress %v, %v", p, err)
	}
	if own := b.rec.Memory().Own; len(own) != 1 || b.rec.RetryAfter() != 0 {
		t.Errorf("own addresses %v, retry after %s", own, b.rec.RetryAfter())
	}
	b.host.failAt = ""
	b.host.text()
	if err := b.rec.Down(); err != nil {
		t.Error(err)
	}
	b.expectDone(down)
}

// The end of the program is one more try.
func TestStuckAddressDown(t *testing.T) {
	b := stuckBench(t)
	if err := b.rec.Down(); err == nil || len(b.rec.Memory().Own) != 1 {
		t.Errorf("error %v, own addresses %v", err, b.rec.Memory().Own)
	}
	b.host.failAt = ""
	b.host.text()
	if err := b.rec.Down(); err != nil || len(b.rec.Memory().Own) != 0 {
		t.Errorf("error %v, own addresses %v", err, b.rec.Memory().Own)
	}
	b.expectDone(`ip -6 addr del ` + first + `/128 dev wlan0`)
}

// Somebody else has removed it.
func TestStuckAddressGone(t *testing.T) {
	b := stuckBench(t)
	b.host.failAt = ""
	b.host.dropAddr(netip.MustParseAddr(first))
	b.pass()
	if own := b.rec.Memory().Own; len(own) != 0 || b.rec.RetryAfter() != 0 {
		t.Errorf("own addresses %v, retry after %s", own, b.rec.RetryAfter())
	}
}

// What fails while a CLAT makes room for its successor is said once, although
// the outcome is to plan again.
func TestReplanLosesNoError(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	b.conf.TUN = "elsewhere0"
	b.host.failAt = "tun close"
	if p, err := b.pass(); p != Replan || err != nil {
		t.Fatalf("progress %v, %v", p, err)
	}
	b.host.failAt = ""
	b.pass()
	if got := b.log.String(); strings.Count(got, "cannot undo all changes to the host") != 1 || !strings.Contains(got, "close clat0: the test says no") {
		t.Errorf("log:\n%s", got)
	}
}
