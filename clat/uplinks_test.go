package clat

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tnat64d/clat/plan"
)

// two uplinks, of which wlan0 comes first.
const two = wlan + `
	link 3 eth0
	addr eth0 2001:db8:9::10/64
	route6 default dev eth0 metric 5
	pref64 eth0 64:ff9b::/96
`

const onEth = "2001:db8:9:0:906d:a3cf:ef7f:6e84"

// expectAll is expect for several uplinks.
func (b *bench) expectAll(progress []Progress, want string) {
	b.t.Helper()
	ps, err := b.passAll()
	if err != nil {
		b.t.Fatalf("reconcile: %v", err)
	}
	if !slices.Equal(ps, progress) {
		b.t.Errorf("progress %v, want %v", ps, progress)
	}
	b.expectDone(want)
}

const upOnWLAN = `
	tun open clat0 queues 1
	ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
	steer wlan0 and clat0 ours [` + first + `/128]
	engine start on clat0
	guard eth0
	ip route append default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
	ip rule add from 192.0.0.1 lookup 65
	ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
`

// upTwo brings up a CLAT on each of two uplinks, one after the other.
func upTwo(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, two)
	b.expectAll([]Progress{Pending, Pending}, addFirst+`
		ip -6 addr add `+onEth+`/128 dev eth0 preferred_lft 0 noprefixroute proto 64
	`)
	b.host.o.Addrs[slices.IndexFunc(b.host.o.Addrs, func(a plan.Addr) bool { return a.Prefix.Addr().String() == first })].Tentative = false
	b.expectAll([]Progress{Up, Pending}, upOnWLAN)
	b.host.dad(true)
	b.expectAll([]Progress{Up, Up}, `
		tun open clat1 queues 1
		ip link set clat1 mtu 1500 alias "tnat64d: CLAT on eth0" up; ip addr add 192.0.0.3/32 dev clat1
		steer eth0 and clat1 ours [`+onEth+`/128]
		engine start on clat1
		unguard eth0
		ip route append default dev clat1 src 192.0.0.3 table 67 metric 64 mtu 1480 proto 64
		ip rule add from 192.0.0.3 lookup 67
		ip route append default dev clat1 src 192.0.0.3 metric 2049 mtu 1480 proto 64
	`)
	b.expectAll([]Progress{Up, Up}, ``)
	return b
}

func TestTwoUplinks(t *testing.T) {
	b := upTwo(t)
	if err := b.rec.Down(); err != nil {
		t.Error(err)
	}
	b.expectDone(`
		ip route del default dev clat1 src 192.0.0.3 metric 2049 mtu 1480 proto 64
		ip route del default dev clat1 src 192.0.0.3 table 67 metric 64 mtu 1480 proto 64
		ip rule del from 192.0.0.3 lookup 67
		ip -6 addr del ` + onEth + `/128 dev eth0
		engine close
		steer close
		tun close clat1
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		ip rule del from 192.0.0.1 lookup 65
		ip -6 addr del ` + first + `/128 dev wlan0
		engine close
		steer close
		tun close clat0
	`)
	if o := b.host.o; len(o.Links) != 2 || len(o.Addrs) != 2 || len(o.Routes) != 2 || len(o.Rules) != 0 {
		t.Errorf("left behind: %+v", o)
	}
}

// The second network goes: its CLAT is held, and its connections do not leave
// by the other's. Then it ends, and the one that is alone needs no rule.
func TestTwoUplinksOneGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := upTwo(t)
		b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return r.IPv6 && r.Link == 3 })
		b.expectAll([]Progress{Up, Held}, `
			ip route del default dev clat1 src 192.0.0.3 metric 2049 mtu 1480 proto 64
			ip route del default dev clat1 src 192.0.0.3 table 67 metric 64 mtu 1480 proto 64
		`)
		time.Sleep(b.rec.RetryAfter())
		b.expectAll([]Progress{Up, Down}, `
			ss -K src 192.0.0.3
			ip rule del from 192.0.0.3 lookup 67
			ip -6 addr del `+onEth+`/128 dev eth0
			engine close
			steer close
			tun close clat1
			ss -K src 192.0.0.3
		`)
		b.expectAll([]Progress{Up}, `
			ip rule del from 192.0.0.1 lookup 65
			ip route del default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		`)
		b.expectAll([]Progress{Up}, ``)
	})
}

// The first goes and comes back: names and addresses stay, metrics follow.
func TestTwoUplinksKeepNames(t *testing.T) {
	b := upTwo(t)
	i := slices.IndexFunc(b.host.o.Routes, func(r plan.Route) bool { return r.IPv6 && r.Link == 2 })
	wlan := b.host.o.Routes[i]
	b.host.o.Routes = slices.Delete(b.host.o.Routes, i, i+1)
	b.expectAll([]Progress{Up, Held}, `
		ip route append default dev clat1 src 192.0.0.3 metric 2048 mtu 1480 proto 64
		ip route del default dev clat1 src 192.0.0.3 metric 2049 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
	`)
	wlan.Metric = 10 // it comes second now
	b.host.o.Routes = append(b.host.o.Routes, wlan)
	b.expectAll([]Progress{Up, Up}, `
		ip route append default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		ip route append default dev clat0 src 192.0.0.1 metric 2049 mtu 1480 proto 64
	`)
	b.expectAll([]Progress{Up, Up}, ``)
}

// What fails on one uplink takes down that one only.
func TestTwoUplinksOneFails(t *testing.T) {
	for _, step := range []string{"SetTUN", "steer eth0", "engine start on clat1", "append default dev clat1", "table 67", "rule add from 192.0.0.3"} {
		t.Run(step, func(t *testing.T) {
			b := newBench(t, two)
			b.passAll()
			b.host.dad(true)
			b.host.failAt = step
			if step == "SetTUN" {
				b.host.failAt = "link set clat1"
			}
			ps, err := b.passAll()
			if err == nil || !slices.Equal(ps, []Progress{Up, Down}) {
				t.Errorf("progress %v, %v", ps, err)
			}
			if m := b.rec.Memory(); len(m.CLATs) != 1 || m.CLATs[0].TUN != "clat0" {
				t.Errorf("memory %+v", m)
			}
			for _, r := range b.host.o.Routes {
				if b.host.o.LinkName(r.Link) == "clat1" {
					t.Errorf("left behind: %+v", r)
				}
			}
			b.host.failAt = ""
			b.host.text()
			for range 2 {
				if _, err := b.passAll(); err != nil {
					t.Fatal(err)
				}
				b.host.dad(true)
			}
			b.host.text()
			b.expectAll([]Progress{Up, Up}, ``)
		})
	}
}

// Native IPv4 on another link: new connections go there, those of the CLAT
// keep to it.
func TestNativeIPv4Elsewhere(t *testing.T) {
	b := newBench(t, wlan+"\nlink 3 eth0\n")
	b.up()
	b.host.addNative(3, 3000)
	b.expect(Up, `
		engine translator
		guard eth0
		ip route append default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		ip rule add from 192.0.0.1 lookup 65
		ip route append default dev clat0 src 192.0.0.1 metric 3001 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
	`)
	b.expect(Up, ``)
	b.host.dropNative()
	b.expect(Up, `
		engine translator
		unguard eth0
		ip rule del from 192.0.0.1 lookup 65
		ip route del default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 metric 3001 mtu 1480 proto 64
	`)
	b.expect(Up, ``)
}

// Rules are restored as everything is, and a kernel without them still has
// CLATs.
func TestRemovedSourceRuleIsRestored(t *testing.T) {
	b := upTwo(t)
	b.host.o.Rules = b.host.o.Rules[:1]
	b.expectAll([]Progress{Up, Up}, `ip rule add from 192.0.0.3 lookup 67`)
	b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return r.Table == 67 })
	b.expectAll([]Progress{Up, Up}, `ip route append default dev clat1 src 192.0.0.3 table 67 metric 64 mtu 1480 proto 64`)

	b = newBench(t, two)
	b.host.nodad, b.host.norules = true, true
	for range 3 {
		b.passAll()
	}
	b.host.text()
	b.expectAll([]Progress{Up, Up}, ``)
	if n := strings.Count(b.log.String(), "no policy routing"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, b.log)
	}
	if len(b.host.o.Routes) != 4 {
		t.Errorf("routes %+v", b.host.o.Routes)
	}
}

// The rules move before a rule that leads to a useless default route, beside which
// both CLATs have theirs, and back.
func TestSourceRulesMove(t *testing.T) {
	b := upTwo(t)
	useless := plan.Route{Link: 2, Table: 1234, Metric: 100}
	b.host.o.Routes = append(b.host.o.Routes, useless)
	b.host.o.DefaultTables4 = []plan.DefaultTable{{Table: 1234, Rule: 1000}}
	b.expectAll([]Progress{Up, Up}, `
		ip rule add from 192.0.0.1 lookup 65 pref 999
		ip route append default dev clat0 src 192.0.0.1 table 1234 metric 98 mtu 1480 proto 64
		ip rule add from 192.0.0.3 lookup 67 pref 999
		ip route append default dev clat1 src 192.0.0.3 table 1234 metric 99 mtu 1480 proto 64
	`)
	b.expectAll([]Progress{Up, Up}, ``)
	b.host.o.Rules = b.host.o.Rules[:1]
	b.expectAll([]Progress{Up, Up}, `ip rule add from 192.0.0.3 lookup 67 pref 999`)
	b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return r == useless })
	b.host.o.DefaultTables4 = nil
	b.expectAll([]Progress{Up, Up}, `
		ip rule add from 192.0.0.1 lookup 65
		ip route del default dev clat0 src 192.0.0.1 table 1234 metric 98 mtu 1480 proto 64
		ip rule add from 192.0.0.3 lookup 67
		ip route del default dev clat1 src 192.0.0.3 table 1234 metric 99 mtu 1480 proto 64
	`)
	if len(b.host.o.Rules) != 2 {
		t.Errorf("rules %v", b.host.o.Rules)
	}
}

// A link that cannot be guarded is worth one warning, and tried again.
func TestGuardRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, wlan+"\nlink 3 eth0\nroute4 default dev eth0\n")
		b.host.nodad = true
		b.host.failAt = "guard eth0"
		for range 3 {
			b.pass()
		}
		b.host.text()
		b.expect(Up, ``)
		if n := strings.Count(b.log.String(), "no guard on eth0: untranslated IPv4 of the CLAT may leave there"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, b.log)
		}
		if b.rec.RetryAfter() != 0 {
			t.Error("it does not rest")
		}
		b.host.failAt = ""
		time.Sleep(tryAgain)
		b.expect(Up, `guard eth0`)
		b.expect(Up, ``)
		b.host.dropLink(3)
		b.pass()
		if got := b.host.text(); !strings.Contains(got, "unguard eth0") {
			t.Errorf("commands %s", got)
		}
	})
}

// A guard that another program detaches is made again, as often as other things.
func TestDetachedGuardIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, wlan+"\nlink 3 eth0\nroute4 default dev eth0\n")
		b.host.nodad = true
		for range 3 {
			b.pass()
		}
		b.host.text()
		const again = `
			unguard eth0
			guard eth0
		`
		for range restoreBurst {
			b.host.detached = "eth0"
			b.expect(Up, again)
			b.expect(Up, ``)
		}
		b.host.detached = "eth0"
		for range 10 {
			b.expect(Up, ``)
		}
		wait := b.rec.RetryAfter()
		if wait <= 0 || wait > restoreEvery {
			t.Fatalf("retry after %s", wait)
		}
		time.Sleep(wait)
		b.expect(Up, again)
		if n := strings.Count(b.log.String(), `object="guard on eth0"`); n != restoreBurst+1 {
			t.Errorf("%d lines in the log:\n%s", n, b.log)
		}
	})
}

// Programs whose native IPv6 got the CLAT address as its source are told that it
// is gone.
func TestAbortFromRemovedAddress(t *testing.T) {
	b := newBench(t, wlan)
	b.pass()
	b.host.dad(true)
	b.pass()
	own := b.rec.Memory().Own
	if len(own) != 1 || len(b.host.aborted6) != 0 {
		t.Fatalf("CLAT addresses %v, aborted %v", own, b.host.aborted6)
	}
	b.conf.Enable = plan.Never
	b.pass()
	if !slices.Equal(b.host.aborted6, own) {
		t.Errorf("aborted from %v, want %v", b.host.aborted6, own)
	}
}

// Connections that cannot be aborted are worth one line.
func TestAbortUnsupported(t *testing.T) {
	b := newBench(t, wlan)
	b.host.noabort = true
	for range 2 {
		b.conf.Enable = plan.Auto
		b.pass()
		b.host.dad(true)
		b.pass()
		b.conf.Enable = plan.Never
		b.pass()
	}
	if n := strings.Count(b.log.String(), "they end when they time out"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, b.log)
	}
}

// A link that has vanished since the observation is no failure.
func TestHostChangedMeanwhile(t *testing.T) {
	b := newBench(t, wlan)
	b.host.nodad = true
	b.pass()
	b.host.vanish = "link set clat0"
	b.host.text()
	for range maxStale {
		if p, err := b.pass(); p != Replan || err != nil {
			t.Errorf("progress %d, %v", p, err)
		}
	}
	if p, err := b.pass(); p != Down || !errors.Is(err, errVanished) {
		t.Errorf("progress %d, %v", p, err)
	}
	b.host.vanish = ""
	b.pass()
	if p, err := b.pass(); p != Up || err != nil {
		t.Errorf("progress %d, %v", p, err)
	}
}

// A configured address that DAD refuses is tried again after a minute, and on
// the next network.
func TestRefusedFixedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, wlan+"\nconfig ipv6 2001:db8:1::c1a7\n")
		const add = `ip -6 addr add 2001:db8:1::c1a7/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`
		b.expect(Pending, add)
		b.host.dad(false)
		b.expect(Replan, `ip -6 addr del 2001:db8:1::c1a7/128 dev wlan0`)
		b.expect(Down, ``)
		b.expect(Down, ``)
		if got := b.rec.RetryAfter(); got != tryAgain {
			t.Errorf("retry after %s", got)
		}
		time.Sleep(b.rec.RetryAfter())
		b.expect(Down, ``) // forgets
		if b.rec.RetryAfter() != time.Millisecond {
			t.Errorf("retry after %s", b.rec.RetryAfter())
		}
		b.expect(Pending, add)
		b.host.dad(false)
		b.expect(Replan, `ip -6 addr del 2001:db8:1::c1a7/128 dev wlan0`)
		b.expect(Down, ``)
		b.host.o.Links[0].Carrier = false
		b.expect(Down, ``)
		b.host.o.Links[0].Carrier = true
		b.expect(Pending, add)
	})
}

// An uplink whose route is gone stays in the plan while the Reconciler remembers its CLAT.
func TestRememberedUplinkStaysInThePlan(t *testing.T) {
	b := upTwo(t)
	for range 2 {
		var got []string
		for _, d := range plan.Make(b.host.o, b.conf).Uplinks {
			got = append(got, d.Uplink.Name)
		}
		if diff := cmp.Diff([]string{"wlan0", "eth0"}, got); diff != "" {
			t.Errorf("uplinks (-want +got)\n%s", diff)
		}
		b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return r.Link == 3 })
		b.host.o.Memory = b.rec.Memory()
	}
	want := plan.Remembered{Uplink: plan.Uplink{Name: "eth0", Index: 3}, TUN: "clat1", TUNIndex: 101, IPv4: netip.MustParseAddr("192.0.0.3"), IPv6: netip.MustParseAddr(onEth)}
	if got := b.rec.Memory().CLAT(3); got != want {
		t.Errorf("memory\n got %+v\nwant %+v", got, want)
	}
}
