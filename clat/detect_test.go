package clat

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDetect has the host's own address in DAD: the CLAT address is looked for on
// the link meanwhile, and the uplink gets it without DAD afterwards.
func TestDetect(t *testing.T) {
	const detect = "detect " + first + " on wlan0"
	addNoDAD := strings.Replace(addFirst, "noprefixroute", "noprefixroute nodad", 1)
	inDAD := func(t *testing.T) *bench {
		b := newBench(t, wlan)
		b.host.o.Addrs[0].Tentative = true
		b.expect(Down, detect)
		if wait := b.rec.RetryAfter(); wait != time.Second {
			t.Errorf("retry after %v", wait)
		}
		return b
	}
	for _, c := range []struct {
		name    string
		between func(b *bench)
		passes  int // with the host's own address in DAD
		first   string
	}{
		{"over before the host's own", func(*bench) {}, 1, addNoDAD},
		{"over after the host's own", func(*bench) {}, 0, addNoDAD},
		{"another network meanwhile", func(b *bench) { b.host.o.Links[0].CarrierChanges++ }, 0, addFirst},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := inDAD(t)
			for range c.passes {
				b.expect(Down, ``)
			}
			c.between(b)
			b.host.o.Addrs[0].Tentative = false
			b.pass()
			if got := b.host.text(); !strings.Contains(got, c.first) {
				t.Errorf("did\n%s\nwant\n%s", got, c.first)
			}
			if c.first == addNoDAD && b.host.detecting.IsValid() {
				t.Error("the detection goes on")
			}
		})
	}
	t.Run("another host has it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := inDAD(t)
			b.host.inUse = true
			b.expect(Replan, ``)
			b.host.inUse = false
			b.expect(Down, strings.Replace(detect, first, second, 1))
			b.host.o.Addrs[0].Tentative = false
			b.pass()
			if got := b.host.text(); !strings.Contains(got, strings.Replace(addNoDAD, first, second, 1)) {
				t.Errorf("did %s", got)
			}
		})
	})
	t.Run("another host has it at the end", func(t *testing.T) {
		b := inDAD(t)
		b.host.inUse = true
		b.host.o.Addrs[0].Tentative = false
		b.expect(Replan, ``)
	})
	t.Run("stop", func(t *testing.T) {
		b := inDAD(t)
		must(t, b.rec.Down())
		if b.host.detecting.IsValid() {
			t.Error("the detection goes on")
		}
	})
	t.Run("the address is gone", func(t *testing.T) {
		b := inDAD(t)
		b.host.dropAddr(b.host.o.Addrs[0].Prefix.Addr())
		b.expect(Down, ``)
		if b.host.detecting != (netip.Addr{}) {
			t.Error("the detection goes on")
		}
	})
}
