package clat

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/clat/plan"
)

// restart replaces the Reconciler by that of another process, which inherits what
// the former one has left. What it takes away is removed from the host.
func (b *bench) restart(j *Journal) {
	b.rec.Leave()
	b.rec = NewReconciler(b.host, b.host, j, b.rec.log)
	b.host.text()
	b.host.inherits = true
	b.rec.Inherit(b.host.o, []Inherited{{TUN: "clat0", Index: tunIndex, Queues: 1}}, func(tun string) {
		must(b.t, b.host.do("inherited remove %q", tun))
		if tun != "" {
			b.host.dropLink(tunIndex)
		}
	})
}

func TestInherit(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b *bench)
		want   string // of the first passes
		gone   bool   // the TUN
	}{
		{"all fits", func(*bench) {}, `inherited remove ""`, false},
		{"another number of queues", func(b *bench) { b.conf.Queues = 3 }, `inherited remove "clat0"`, true},
		{"disabled", func(b *bench) { b.conf.Enable = plan.Never }, `inherited remove "clat0"`, true},
		{"native IPv4", func(b *bench) { b.host.addNative(2, 600) }, `inherited remove "clat0"`, true},
		{"the uplink is gone", func(b *bench) { b.host.dropLink(2) }, `inherited remove "clat0"`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "journal")
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, wlan)
				j := b.journaled(file)
				defer j.Close()
				b.up()
				addr := b.rec.Memory().Own[0]
				must(t, b.host.AddForeignRoute(tunIndex, endpoint))
				c.change(b)
				b.restart(j)
				if _, err := b.settled(); err != nil {
					t.Fatal(err)
				}
				done := b.host.text()
				if !strings.Contains(done, c.want) {
					t.Errorf("done:\n%s\nwant %s", done, c.want)
				}
				if !c.gone {
					for _, bad := range []string{"-6 addr add", "addr del", "route append", "route del", "rule del", restoreEndpoint, "ss -K"} {
						if strings.Contains(done, bad) {
							t.Errorf("%q in what was done:\n%s", bad, done)
						}
					}
					return
				}
				if i, k := strings.Index(done, "addr del "+addr.String()), strings.Index(done, c.want); i < 0 && c.name != "the uplink is gone" || i > k {
					t.Errorf("the address must go before the steering:\n%s", done)
				}
			})
		})
	}
}

// TestInheritWaitsForPREF64 starts on a network that has not told its PREF64 yet.
// What the former process has left carries packets for a minute, not longer.
func TestInheritWaitsForPREF64(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, wlan)
		j := b.journaled(file)
		defer j.Close()
		b.up()
		b.host.o.PREF64 = nil
		b.restart(j)
		time.Sleep(holdFor - time.Second)
		b.pass()
		b.expectDone(``)
		if after := b.rec.RetryAfter(); after != time.Second {
			t.Errorf("looks again after %v", after)
		}
		time.Sleep(time.Second)
		b.pass()
		done := b.host.text()
		if !strings.Contains(done, `inherited remove "clat0"`) || !strings.Contains(done, "addr del") {
			t.Errorf("after a minute:\n%s", done)
		}
		if e := j.Entries(); len(e) > 0 {
			t.Errorf("the journal has %v", e)
		}
	})
}
