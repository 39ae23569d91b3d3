package clat

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An address that served until a moment ago serves again before its DAD is over,
// after a stop as after a kill, and only then.
func TestRecentAddressSkipsDAD(t *testing.T) {
	for _, c := range []struct {
		name   string
		kill   bool
		inDAD  bool // it has not served
		wait   time.Duration
		change func(b *bench)
		want   Progress
	}{
		{name: "stop", wait: time.Second, want: Up},
		{name: "kill", kill: true, wait: time.Second, want: Up},
		{name: "kill long ago", kill: true, wait: time.Hour, want: Up}, // the address was there all the time
		{name: "stop long ago", wait: leftFor + 2*time.Second, want: Pending},
		{name: "stop during DAD", inDAD: true, wait: time.Second, want: Pending},
		{name: "kill during DAD", kill: true, inDAD: true, wait: time.Second, want: Pending},
		{name: "another network", wait: time.Second, change: func(b *bench) {
			b.host.o.Addrs[0].Prefix = netip.MustParsePrefix("2001:db8:7::10/64")
		}, want: Pending},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file, left := filepath.Join(dir, "journal"), filepath.Join(dir, "left")
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, wlan)
				j := b.journaled(file)
				b.pass()
				if !c.inDAD {
					b.host.dad(true)
					b.pass()
				}
				var removed []Leftover
				if c.kill {
					b.host.dropLink(tunIndex)
					b.host.dropAddr(netip.MustParseAddr(first))
					b.host.o.Routes = b.host.o.Routes[:1]
					must(t, j.f.Close())
					removed = []Leftover{{"wlan0", netip.MustParseAddr(first), !c.inDAD}}
				} else {
					must(t, b.rec.Down())
					must(t, b.rec.Left().Save(left))
					must(t, j.Close())
				}
				time.Sleep(c.wait)
				if c.change != nil {
					c.change(b)
				}
				j = b.journaled(file)
				b.rec.Left().Load(left)
				b.rec.Left().Resume(removed)
				if p, err := b.settled(); p != c.want || err != nil {
					t.Errorf("progress %d, %v, want %d\n%s", p, err, c.want, b.host.text())
				}
				must(t, b.rec.Down())
				must(t, j.Close())
			})
		})
	}
}

// When DAD of an address that serves meanwhile finds another owner, the address
// goes at once, and does not come back.
func TestOptimisticAddressIsRefused(t *testing.T) {
	b := newBench(t, wlan)
	b.rec.Left().Resume([]Leftover{{"wlan0", netip.MustParseAddr(first), true}})
	if p, err := b.settled(); p != Up || err != nil {
		t.Fatalf("progress %d, %v", p, err)
	}
	b.host.text()
	b.host.dad(false)
	b.expect(Replan, "ss -K src 192.0.0.1\n"+noRoute+"\n"+delFirst+"\nsteer suspend")
	b.expect(Pending, "steer ours ["+second+"/128]\nip -6 addr add "+second+"/128 dev wlan0 preferred_lft 0 noprefixroute proto 64")
}

// Where the kernel uses addresses that are in DAD the CLAT does so too. Until the
// end of DAD it does not count as the address that served.
func TestOptimisticDAD(t *testing.T) {
	for name, passes := range map[string]bool{"passes": true, "refused": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, wlan)
			b.host.optDAD = true
			b.expect(Pending, addFirst)
			if p, err := b.pass(); p != Up || err != nil {
				t.Fatalf("progress %d, %v", p, err)
			}
			b.host.text()
			b.host.dad(passes)
			if passes {
				b.expect(Up, ``)
			} else {
				b.expect(Replan, "ss -K src 192.0.0.1\n"+noRoute+"\n"+delFirst+"\nsteer suspend")
			}
			must(t, b.rec.Down())
			if got := b.rec.left.has("wlan0", netip.MustParseAddr(first)); got != passes {
				t.Errorf("counts as having served: %t", got)
			}
		})
	}
}

func TestLeftAddressesOverRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "left")
	now := time.Unix(time.Now().Unix(), 0)
	a := newBench(t, wlan).rec
	a.left.add("wlan0", netip.MustParseAddr(first), now)
	a.left.add("eth0", netip.MustParseAddr(second), now.Add(-leftFor-time.Second))
	must(t, os.WriteFile(file, []byte(fmt.Sprintf("1 wlan9 %s %d\nrubbish\n1 wlan9 192.0.2.1 %d\n", second, now.Unix(), now.Unix())), 0o600))
	must(t, a.Left().Save(file))
	b := newBench(t, wlan).rec
	b.Left().Load(file)
	if !b.left.has("wlan0", netip.MustParseAddr(first)) || len(b.left) != 1 {
		t.Errorf("left: %v", b.left)
	}
	// That of another network namespace is still there.
	if got, _ := os.ReadFile(file); !strings.Contains(string(got), "1 wlan9 "+second) || strings.Contains(string(got), "192.0.2.1") {
		t.Errorf("the file: %q", got)
	}
	b = newBench(t, wlan).rec
	b.Left().Load(filepath.Join(t.TempDir(), "missing"))
	if len(b.left) != 0 {
		t.Errorf("left: %v", b.left)
	}
}
