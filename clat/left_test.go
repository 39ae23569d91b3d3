package clat

import (
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An address that served until a moment ago serves again before its DAD is over,
// after a stop as after a kill, and only then.
func TestAddressThatHasJustLeftNeedNotWait(t *testing.T) {
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
			file := filepath.Join(t.TempDir(), "journal")
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, wlan)
				j, err := OpenJournal(file)
				must(t, err)
				b.rec = NewReconciler(b.host, b.host, j, b.rec.log)
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
					must(t, j.Close())
				}
				time.Sleep(c.wait)
				if c.change != nil {
					c.change(b)
				}
				j, err = OpenJournal(file)
				must(t, err)
				b.rec = NewReconciler(b.host, b.host, j, b.rec.log)
				b.rec.Resume(removed)
				if p, err := b.pass(); p != c.want || err != nil {
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
	b.rec.Resume([]Leftover{{"wlan0", netip.MustParseAddr(first), true}})
	if p, err := b.pass(); p != Up || err != nil {
		t.Fatalf("progress %d, %v", p, err)
	}
	b.host.text()
	b.host.dad(false)
	b.expect(Replan, "ss -K src 192.0.0.1\n"+noRoute+"\n"+delFirst+"\nsteer suspend")
	b.expect(Pending, "ip -6 addr add "+second+"/128 dev wlan0 preferred_lft 0 noprefixroute proto 64\nsteer ours ["+second+"/128]")
}

func TestJournalKeepsAddressesThatHaveLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(file)
	must(t, err)
	now := time.Unix(time.Now().Unix(), 0)
	left := map[JournalEntry]time.Time{
		{"wlan0", netip.MustParseAddr(first)}: now,
		{"eth0", netip.MustParseAddr(second)}: now.Add(-leftFor - time.Second),
	}
	must(t, j.SetLeft(left))
	must(t, j.Close())
	j, err = OpenJournal(file)
	must(t, err)
	if diff := cmp.Diff(map[string]bool{"wlan0": true}, links(j.Left())); diff != "" {
		t.Errorf("left (-want +got)\n%s", diff)
	}
	must(t, j.Close())
	if j, err = OpenJournal(file); err != nil || len(j.Left()) > 0 {
		t.Errorf("it is told again: %v", err)
	}
}

func links(left map[JournalEntry]time.Time) map[string]bool {
	m := map[string]bool{}
	for e := range left {
		m[e.Link] = true
	}
	return m
}
