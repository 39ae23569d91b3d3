package clat

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tnat64d/clat/plan"
	"tnat64d/clat/plan/plantest"
)

// bench is a fake host with a Reconciler on it.
type bench struct {
	t    *testing.T
	host *fakeHost
	rec  *Reconciler
	conf plan.Config
	log  *bytes.Buffer
	done []string // what quiet has seen
}

const wlan = `
	link 2 wlan0
	addr wlan0 2001:db8:2::10/64
	route6 default dev wlan0
	pref64 wlan0 64:ff9b::/96
`

// The first three candidates on wlan, as TestPlan has them.
const (
	first  = "2001:db8:2:0:f816:7c82:be0:11cd"
	second = "2001:db8:2:0:f4cc:cce5:1a48:b64b"
)

func newBench(t *testing.T, text string) *bench {
	t.Helper()
	o, conf, err := plantest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, host: &fakeHost{o: o}, conf: conf, log: new(bytes.Buffer)}
	b.rec = NewReconciler(b.host, b.host, nil, slog.New(slog.NewTextHandler(b.log, nil)))
	return b
}

// journaled begins again with a Reconciler that writes the journal in file.
func (b *bench) journaled(file string) *Journal {
	b.t.Helper()
	j, err := OpenJournal(file)
	must(b.t, err)
	b.rec = NewReconciler(b.host, b.host, j, b.rec.log)
	return j
}

// pass does what the daemon does after a change.
func (b *bench) pass() (Progress, error) {
	outs, err := b.passAll()
	if len(outs) == 0 {
		return Down, err
	}
	return outs[0], err
}

// settled passes as often as the daemon does after one change.
func (b *bench) settled() (Progress, error) {
	for range 8 {
		if p, err := b.pass(); p != Replan || err != nil {
			return p, err
		}
	}
	return Replan, nil
}

// quiet passes until nothing more is done, and forgets what was.
func (b *bench) quiet() {
	b.t.Helper()
	for {
		if _, err := b.settled(); err != nil {
			b.t.Fatalf("reconcile: %v", err)
		}
		b.done = append(b.done, b.host.out...)
		if b.host.text() == "" {
			return
		}
	}
}

// passAll is pass for several uplinks.
func (b *bench) passAll() (ps []Progress, err error) {
	for _, out := range b.outcomes() {
		ps, err = append(ps, out.Progress), errors.Join(err, out.Err)
	}
	return ps, err
}

func (b *bench) outcomes() []Outcome {
	b.host.o.Memory = b.rec.Memory()
	o := b.host.o
	o.Links, o.Addrs, o.Routes, o.Rules = slices.Clone(o.Links), slices.Clone(o.Addrs), slices.Clone(o.Routes), slices.Clone(o.Rules)
	return b.rec.Reconcile(o, plan.Make(o, b.conf))
}

// expect passes and compares what was done.
func (b *bench) expect(progress Progress, want string) {
	b.t.Helper()
	p, err := b.pass()
	if err != nil {
		b.t.Fatalf("reconcile: %v", err)
	}
	if p != progress {
		b.t.Errorf("progress %d, want %d", p, progress)
	}
	if diff := cmp.Diff(lines(want), b.host.text()); diff != "" {
		b.t.Errorf("commands (-want +got)\n%s", diff)
	}
}

// expectDone compares what was done since the last comparison.
func (b *bench) expectDone(want string) {
	b.t.Helper()
	if diff := cmp.Diff(lines(want), b.host.text()); diff != "" {
		b.t.Errorf("commands (-want +got)\n%s", diff)
	}
}

func lines(s string) string {
	var out []string
	for _, l := range strings.Split(s, "\n") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// up brings a CLAT up on wlan.
func (b *bench) up() {
	b.t.Helper()
	b.expect(Pending, `ip -6 addr add `+first+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`)
	b.expect(Pending, ``)
	b.host.dad(true)
	b.expect(Up, `
		tun open clat0 queues 1
		ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
		steer wlan0 and clat0 ours [`+first+`/128]
		engine start on clat0
		ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
	`)
}

// down is what becomes of it at the end of the program; gone is the same when
// programs have to hear of it.
const (
	down = `
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip -6 addr del ` + first + `/128 dev wlan0
		engine close
		steer close
		tun close clat0
	`
	gone = "ss -K src 192.0.0.1" + down + "ss -K src 192.0.0.1"
)

func TestUpAndDown(t *testing.T) {
	b := newBench(t, wlan)
	before := b.host.o
	b.up()
	b.expect(Up, ``) // twice is nothing
	b.expect(Up, ``)
	b.conf.Enable = plan.Never
	b.expect(Down, gone)
	b.expect(Down, ``)
	b.host.o.Memory = before.Memory
	if diff := cmp.Diff(before, b.host.o, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("the host is not as before (-before +after)\n%s", diff)
	}
}

// While there is native IPv4 the address of the CLAT is in reserve, past DAD, and
// the CLAT is up in one pass when native IPv4 goes.
func TestNativeIPv4ComesAndGoes(t *testing.T) {
	const bringUp = `
		tun open clat0 queues 1
		ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
		steer wlan0 and clat0 ours [` + first + `/128]
		engine start on clat0
		ip route append ` + mainRoute
	b := newBench(t, wlan)
	b.host.addNative(2, 0)
	b.expect(Down, addFirst)
	b.expect(Down, ``)
	b.host.dad(true)
	b.expect(Down, ``)
	b.host.dropNative()
	b.expect(Up, bringUp)
	b.expect(Up, ``)
	b.host.addNative(2, 0)
	b.expect(Replan, gone)
	b.expect(Down, addFirst)
	b.expect(Down, ``)
	b.host.dad(true)
	b.host.dropNative()
	if p, err := b.settled(); p != Up || err != nil {
		t.Errorf("progress %d, %v", p, err)
	}
}

// What ends the reserve, and what becomes of an address in it.
func TestReserve(t *testing.T) {
	reserved := func(t *testing.T) *bench {
		b := newBench(t, wlan)
		b.host.addNative(2, 0)
		b.expect(Down, addFirst)
		b.host.dad(true)
		b.expect(Down, ``)
		if own := b.rec.Memory().Own; len(own) != 1 {
			t.Fatalf("own addresses %v", own)
		}
		if q := b.host.prepared[b.rec.reserves.all[0].uplink]; q != 1 {
			t.Fatalf("packet path prepared with %d queues", q)
		}
		return b
	}
	for name, end := range map[string]func(*bench){
		"stop":                      func(b *bench) { must(b.t, b.rec.Down()) },
		"never":                     func(b *bench) { b.conf.Enable = plan.Never },
		"no PREF64":                 func(b *bench) { b.host.o.PREF64 = nil },
		"no IPv6 default route":     func(b *bench) { b.host.o.Routes = b.host.o.Routes[1:] },
		"no source for native IPv6": func(b *bench) { b.host.dropAddr(b.host.o.Addrs[0].Prefix.Addr()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := reserved(t)
			end(b)
			if name == "stop" {
				b.expectDone(delFirst)
				return
			}
			b.expect(Down, delFirst)
			b.expect(Down, ``)
			if own := b.rec.Memory().Own; len(own)+len(b.host.prepared) != 0 {
				t.Errorf("own addresses %v, prepared %v", own, b.host.prepared)
			}
		})
	}
	t.Run("another host has it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, wlan)
			b.host.addNative(2, 0)
			b.expect(Down, addFirst)
			b.host.dad(false)
			b.expect(Replan, delFirst)
			b.expect(Down, strings.ReplaceAll(addFirst, first, second))
			b.host.dad(true)
			time.Sleep(2 * tryAgain)
			b.expect(Down, ``)
		})
	})
	t.Run("another program removes it", func(t *testing.T) {
		b := reserved(t)
		b.host.dropAddr(netip.MustParseAddr(first))
		b.expect(Down, addFirst)
		b.host.dropNative()
		if p, err := b.settled(); p != Up || err != nil {
			t.Errorf("in DAD once more: progress %d, %v", p, err)
		}
	})
	t.Run("another program removes it in DAD", func(t *testing.T) {
		b := newBench(t, wlan)
		b.host.addNative(2, 0)
		b.expect(Down, addFirst)
		b.host.dropAddr(netip.MustParseAddr(first))
		b.expect(Down, addFirst)
		b.host.dropNative()
		if p, err := b.settled(); p != Pending || err != nil {
			t.Errorf("progress %d, %v", p, err)
		}
	})
	t.Run("it cannot be removed", func(t *testing.T) {
		b := reserved(t)
		b.host.failAt = "addr del " + first
		b.host.o.PREF64 = nil
		b.pass()
		if own := b.rec.Memory().Own; len(own) != 1 || b.rec.RetryAfter() != tryAgain {
			t.Errorf("own addresses %v, retry after %s", own, b.rec.RetryAfter())
		}
	})
	t.Run("it cannot be added", func(t *testing.T) {
		b := newBench(t, wlan)
		b.host.addNative(2, 0)
		b.host.failAt = "addr add " + first
		if p, err := b.pass(); p != Down || err != nil || b.rec.RetryAfter() != tryAgain {
			t.Errorf("progress %d, %v, retry after %s: it is only a reserve", p, err, b.rec.RetryAfter())
		}
		b.host.failAt = ""
		b.host.text()
		b.expect(Down, addFirst)
	})
	t.Run("another prefix", func(t *testing.T) {
		b := reserved(t)
		b.host.o.Addrs[0].Prefix = netip.MustParsePrefix("2001:db8:3::10/64")
		b.expect(Down, delFirst+"\nip -6 addr add 2001:db8:3:0:b03c:9d87:e76:360b/128 dev wlan0 preferred_lft 0 noprefixroute proto 64")
	})
	t.Run("clat.enable becomes always", func(t *testing.T) {
		b := reserved(t)
		b.conf.Enable = plan.Always
		if p, err := b.pass(); p != Up || err != nil {
			t.Errorf("progress %d, %v", p, err)
		}
	})
}

// A default route by which nothing is reached goes before ours, and ours before
// that.
func TestUselessDefaultRoute(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	useless := plan.Route{Link: 2, Table: plan.TableMain, Metric: 100}
	b.host.o.Routes = append(b.host.o.Routes, useless)
	b.expect(Up, `
		ip route append default dev clat0 src 192.0.0.1 metric 99 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
	`)
	b.host.dropNative()
	b.expect(Up, `
		ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 metric 99 mtu 1480 proto 64
	`)
}

// A default route by which nothing is reached may be in a table that a rule selects
// before main. Ours goes there too, before that, and nowhere else.
func TestUselessDefaultRouteBeforeMain(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	useless := plan.Route{Link: 2, Table: 1234, Metric: 100}
	b.host.o.Routes = append(b.host.o.Routes, useless, plan.Route{Link: 2, Table: 99, Metric: 100})
	b.expect(Up, ``)
	b.host.o.DefaultTables4 = []plan.DefaultTable{{Table: 1234, Rule: 1000}}
	b.expect(Up, `ip route append default dev clat0 src 192.0.0.1 table 1234 metric 99 mtu 1480 proto 64`)
	b.expect(Up, ``)

	ours := plan.Route{Link: tunIndex, Source: netip.MustParseAddr("192.0.0.1"), Metric: 99, MTU: 1480, Table: 1234, Protocol: plan.Protocol}
	if !slices.Contains(b.host.o.Routes, ours) {
		t.Fatalf("routes %+v", b.host.o.Routes)
	}
	b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return r == ours })
	b.expect(Up, `ip route append default dev clat0 src 192.0.0.1 table 1234 metric 99 mtu 1480 proto 64`)

	b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r plan.Route) bool { return r == useless })
	b.expect(Up, `ip route del default dev clat0 src 192.0.0.1 table 1234 metric 99 mtu 1480 proto 64`)
}

// The same in halves, in main and in that table.
func TestUselessHalves(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	half := func(p string, table int) plan.Route {
		return plan.Route{Link: 2, Part: netip.MustParsePrefix(p), Table: table, Metric: 100}
	}
	b.host.o.Routes = append(b.host.o.Routes, half("128.0.0.0/1", plan.TableMain), half("0.0.0.0/1", plan.TableMain), half("0.0.0.0/1", 1234))
	b.expect(Up, `
		ip route append 0.0.0.0/1 dev clat0 src 192.0.0.1 metric 99 mtu 1480 proto 64
		ip route append 128.0.0.0/1 dev clat0 src 192.0.0.1 metric 99 mtu 1480 proto 64
	`)
	b.host.o.DefaultTables4 = []plan.DefaultTable{{Table: 1234, Rule: 1000}}
	b.expect(Up, `ip route append 0.0.0.0/1 dev clat0 src 192.0.0.1 table 1234 metric 99 mtu 1480 proto 64`)
	b.expect(Up, ``)
	b.host.dropNative()
	b.expect(Up, `
		ip route del 0.0.0.0/1 dev clat0 src 192.0.0.1 metric 99 mtu 1480 proto 64
		ip route del 128.0.0.0/1 dev clat0 src 192.0.0.1 metric 99 mtu 1480 proto 64
		ip route del 0.0.0.0/1 dev clat0 src 192.0.0.1 table 1234 metric 99 mtu 1480 proto 64
	`)
}

func TestConflictGivesAnotherAddress(t *testing.T) {
	b := newBench(t, wlan)
	b.expect(Pending, `ip -6 addr add `+first+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`)
	b.host.dad(false)
	b.expect(Replan, `ip -6 addr del `+first+`/128 dev wlan0`)
	b.expect(Pending, `ip -6 addr add `+second+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`)
	b.host.dad(false)
	b.expect(Replan, `ip -6 addr del `+second+`/128 dev wlan0`)
	if p, _ := b.pass(); p != Pending {
		t.Fatal("no third try")
	}
	b.host.text()
	b.host.dad(false)
	b.pass()
	b.host.text()
	b.expect(Down, ``)
	d := plan.Make(b.host.o, b.conf).Uplinks[0]
	if want := "3 addresses in 2001:db8:2::/64 on wlan0 are in use by other hosts: set clat.ipv6 to a free one"; d.Why.Text != want {
		t.Errorf("why %q, want %q", d.Why, want)
	}
	// Gone from the network and back: try again.
	routes := b.host.o.Routes
	b.host.o.Routes = nil
	b.expect(Down, ``)
	b.host.o.Routes = routes
	b.expect(Pending, `ip -6 addr add `+first+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`)
}

// Connections from before a restart survive if the kernel never answers for the
// address: packets are steered before the uplink has it, however long that takes.
func TestRestartWithConnections(t *testing.T) {
	steered := `
		tun open clat0 queues 1
		ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
		steer wlan0 and clat0 ours [` + first + `/128]
		engine start on clat0
	`
	b := newBench(t, wlan)
	b.host.connected = true
	b.expect(Replan, steered)
	b.expect(Pending, addFirst)
	b.expect(Pending, ``)
	b.host.dad(true)
	b.expect(Up, `ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64`)
	b.expect(Up, ``)

	// The address has just left, and serves while it is in DAD.
	b = newBench(t, wlan)
	b.rec.Left().Resume([]Leftover{{"wlan0", netip.MustParseAddr(first), true}})
	b.expect(Replan, steered)
	b.expect(Up, addFirst+`
		ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64`)
	b.host.dad(true)
	b.expect(Up, ``)
}

// A start that fails at any step leaves nothing behind.
func TestFailedStartLeavesNothing(t *testing.T) {
	for _, step := range []string{"addr add 2001", "tun open", "link set", "steer wlan0", "engine start", "route append"} {
		t.Run(step, func(t *testing.T) {
			b := newBench(t, wlan)
			b.host.failAt = step
			b.host.nodad = true
			_, err := b.pass()
			if err == nil {
				_, err = b.pass()
			}
			if err == nil {
				t.Fatal("no error")
			}
			if len(b.host.o.Links) != 1 || len(b.host.o.Addrs) != 1 || len(b.host.o.Routes) != 1 {
				t.Errorf("left behind after %v: %+v", err, b.host.o)
			}
			if m := b.rec.Memory(); len(m.Own) != 0 {
				t.Errorf("still believes to own %v", m.Own)
			}
			b.host.failAt = ""
			for range 2 {
				if _, err := b.pass(); err != nil {
					t.Fatal(err)
				}
			}
			b.host.text()
			b.expect(Up, ``)
		})
	}
}

// The kernel says EINVAL of a route whose source address has gone since the
// host was looked at: that is for the next look, and for the third an error.
func TestSourceGoneMeanwhile(t *testing.T) {
	b := newBench(t, wlan)
	b.host.nodad = true
	b.pass()
	b.host.source = "route append"
	for range maxStale {
		if p, err := b.pass(); p != Replan || err != nil {
			t.Fatalf("%v, %v", p, err)
		}
	}
	if _, err := b.pass(); err == nil {
		t.Error("no error, ever")
	}
	b.host.source = ""
	b.pass()
	if p, err := b.pass(); p != Up || err != nil {
		t.Errorf("afterwards %v, %v", p, err)
	}
}

func TestMTUFollowsUplink(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	b.host.o.Links[0].MTU6 = 1280
	b.expect(Up, `
		ip link set clat0 mtu 1280 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
		engine translator
		ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1260 proto 64
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
	`)
	b.expect(Up, ``)
}

// Another PREF64 may use the address, although it is no longer neutral: there is
// one cut, and no DAD.
func TestPREF64Changes(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	b.host.o.PREF64[0].Prefix = netip.MustParsePrefix("2001:db8:64::/96")
	b.expect(Up, `
		ss -K src 192.0.0.1
		engine translator
	`)
	b.expect(Up, ``)
	b.host.o.PREF64[0].Prefix = netip.MustParsePrefix("64:ff9b::/96")
	b.expect(Up, `
		ss -K src 192.0.0.1
		engine translator
	`)
}

// The PREF64 of another router takes that router's prefix for addresses (RFC
// 8028). Everything stays as it is until the new address has passed DAD: one cut.
func TestPREF64AndPrefixChange(t *testing.T) {
	const other = "2001:db8:3:0:b03c:9d87:e76:7ee"
	b := newBench(t, `
		link 2 wlan0
		addr wlan0 2001:db8:2::10/64
		addr wlan0 2001:db8:3::10/64
		advertised wlan0 2001:db8:2::/64 by fe80::1 2001:db8:3::/64 by fe80::2
		route6 default dev wlan0
		pref64 wlan0 64:ff9b::/96 from fe80::1`)
	b.up()
	b.host.o.PREF64[0].Prefix = netip.MustParsePrefix("2001:db8:64::/96")
	b.host.o.PREF64[0].Routers = []netip.Addr{netip.MustParseAddr("fe80::2")}
	b.expect(Moving, `ip -6 addr add `+other+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`)
	b.expect(Moving, ``)
	b.host.dad(true)
	b.expect(Up, `
		ss -K src 192.0.0.1
		steer ours [`+other+`/128]
		engine translator
		ip -6 addr del `+first+`/128 dev wlan0
	`)
	b.expect(Up, ``)
}

// renumbered returns a bench whose router has deprecated the prefix of the CLAT
// address, for another one, and the new address.
func renumbered(t *testing.T) (b *bench, next string) {
	t.Helper()
	b = newBench(t, wlan)
	b.up()
	b.host.o.Addrs[0].Deprecated, b.host.o.Addrs[0].Valid = true, 2*time.Hour
	b.host.o.Addrs = append(b.host.o.Addrs, plan.Addr{Link: 2, Prefix: netip.MustParsePrefix("2001:db8:3::10/64"), Valid: plan.Forever})
	return b, "2001:db8:3:0:b03c:9d87:e76:360b"
}

// The router renumbers: flows that exist keep the address in the deprecated prefix
// until that is about to end, and those that begin have one in the new prefix as soon
// as it has passed DAD.
func TestUplinkPrefixDeprecated(t *testing.T) {
	b, next := renumbered(t)
	old := plan.Connection{Protocol: 6, Port: 1, Remote: netip.MustParseAddrPort("192.0.2.1:80")}
	fresh := plan.Connection{Protocol: 6, Port: 2, Remote: netip.MustParseAddrPort("192.0.2.1:80")}
	b.host.began, b.host.flowing = []plan.Connection{old}, []plan.Connection{old, fresh}
	b.expect(Up, `
		steer ours [`+first+`/128 `+next+`/128]
		ip -6 addr add `+next+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64
	`)
	b.expect(Up, ``)
	b.host.dad(true)
	b.expect(Up, `steer next `+next+` for new flows to 64:ff9b::/96`)
	b.expect(Up, ``)
	if g := fmt.Sprint(b.host.guarded.IPv6); !strings.Contains(g, first) || !strings.Contains(g, next) {
		t.Errorf("guarded: %s", g)
	}
	b.host.o.Memory = b.rec.Memory()
	if d := plan.Make(b.host.o, b.conf).Uplinks[0]; d.MoveIn != 2*time.Hour-30*time.Second {
		t.Errorf("it moves in %v", d.MoveIn)
	}
	b.host.o.Addrs[0].Valid = 30 * time.Second
	b.expect(Up, `
		ss -K src 192.0.0.1 sport 1
		steer next none
		steer ours [`+next+`/128]
		engine translator
		ip -6 addr del `+first+`/128 dev wlan0
	`)
	b.expect(Up, ``)
}

// The old prefix ends at once, or before the next address is ready.
func TestUplinkPrefixDeprecatedAndGone(t *testing.T) {
	for _, ready := range []bool{true, false} {
		t.Run(fmt.Sprintf("next_address_ready_%v", ready), func(t *testing.T) {
			b, next := renumbered(t)
			b.quiet()
			if ready {
				b.host.dad(true)
				b.quiet()
			}
			b.host.o.Addrs = b.host.o.Addrs[1:]
			switches := `
				steer ours [` + next + `/128]
				engine translator
				ip -6 addr del ` + first + `/128 dev wlan0
			`
			if ready {
				b.expect(Up, `steer next none`+switches)
				return
			}
			b.quiet()
			b.host.dad(true)
			b.quiet()
			done := strings.Join(b.done, "\n")
			if n := strings.Count(done, "ss -K src 192.0.0.1"); n != 1 {
				t.Errorf("connections were cut %d times:\n%s", n, done)
			}
			b.expect(Up, ``)
		})
	}
}

// The router takes it back: only what has begun in the meantime ends.
func TestUplinkPrefixPreferredAgain(t *testing.T) {
	b, next := renumbered(t)
	fresh := plan.Connection{Protocol: 6, Port: 2, Remote: netip.MustParseAddrPort("192.0.2.1:80")}
	b.host.flowing = []plan.Connection{fresh}
	b.quiet()
	b.host.dad(true)
	b.quiet()
	b.host.o.Addrs[0].Deprecated = false
	b.expect(Up, `
		ss -K src 192.0.0.1 sport 2
		steer next none
		steer ours [`+first+`/128]
		ip -6 addr del `+next+`/128 dev wlan0
	`)
	b.expect(Up, ``)
}

// A steering that cannot tell flows apart: all keep the address, as long as they can.
func TestUplinkPrefixDeprecatedOneAddress(t *testing.T) {
	b, next := renumbered(t)
	b.host.onlyOne = true
	b.quiet()
	b.host.dad(true)
	b.quiet()
	if after := b.rec.RetryAfter(); after == 0 {
		t.Error("it does not plan again")
	}
	b.quiet()
	if _, there := b.host.o.Addr(2, netip.MustParseAddr(next)); there {
		t.Errorf("%s is on the uplink, of no use:\n%s", next, strings.Join(b.done, "\n"))
	}
	b.expect(Up, ``)
}

// A steering that could not tell flows apart once, as there were too many, can the next
// time that the network is renumbered.
func TestUplinkPrefixDeprecatedTwice(t *testing.T) {
	b, second := renumbered(t)
	b.host.busy = true
	b.quiet()
	b.host.dad(true)
	b.quiet()
	b.host.o.Addrs = b.host.o.Addrs[1:]
	b.quiet()
	b.host.dad(true)
	b.quiet()
	if u := b.rec.Memory().CLATs[0]; u.IPv6.String() != second {
		t.Fatalf("the CLAT has %s, want %s:\n%s", u.IPv6, second, strings.Join(b.done, "\n"))
	}
	if done := strings.Join(b.done, "\n"); strings.Contains(done, "for new flows") {
		t.Fatalf("it uses two addresses:\n%s", done)
	}
	b.host.busy = false
	for i, a := range b.host.o.Addrs {
		if a.Prefix == netip.MustParsePrefix("2001:db8:3::10/64") {
			b.host.o.Addrs[i].Deprecated, b.host.o.Addrs[i].Valid = true, 2*time.Hour
		}
	}
	b.host.o.Addrs = append(b.host.o.Addrs, plan.Addr{Link: 2, Prefix: netip.MustParsePrefix("2001:db8:4::10/64"), Valid: plan.Forever})
	b.quiet()
	b.host.dad(true)
	b.quiet()
	if done := strings.Join(b.done, "\n"); !strings.Contains(done, "for new flows") {
		t.Errorf("it uses one address:\n%s", done)
	}
}

// Another network at once: nothing must come from the address of the one
// before. TUN and IPv4 address stay.
func TestUplinkPrefixChanges(t *testing.T) {
	for name, change := range map[string]func(*plan.Observed){
		"address replaced": func(o *plan.Observed) { o.Addrs[0].Prefix = netip.MustParsePrefix("2001:db8:3::10/64") },
		"roamed, old address still there": func(o *plan.Observed) {
			o.Addrs[0].Valid = time.Hour
			o.Addrs = append(o.Addrs, plan.Addr{Link: 2, Prefix: netip.MustParsePrefix("2001:db8:3::10/64"), Valid: plan.Forever})
			o.Advertised = []plan.Advertised{{Link: 2, Default: true, SLAAC: []plan.SLAAC{{Prefix: netip.MustParsePrefix("2001:db8:3::/64"), Default: true, Preferred: true}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, wlan)
			b.up()
			change(&b.host.o)
			const next = "2001:db8:3:0:b03c:9d87:e76:360b"
			b.expect(Pending, `
				ip -6 addr add `+next+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64
				ss -K src 192.0.0.1
				ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
				ip -6 addr del `+first+`/128 dev wlan0
				steer suspend
				steer ours [`+next+`/128]
			`)
			b.expect(Pending, ``)
			b.host.dad(true)
			b.expect(Up, `
				steer ours [`+next+`/128]
				engine translator
				ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
			`)
			b.expect(Up, ``)
		})
	}
}

// BPF programs that another program detaches are attached again, and the engines
// are told what to do.
func TestDetachedProgramsAreAttachedAgain(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	b.host.broken = true
	b.expect(Up, `
		steer close
		steer wlan0 and clat0 ours [`+first+`/128]
		engine translator
	`)
	b.expect(Up, ``)
	if got := b.log.String(); !strings.Contains(got, `"steering between wlan0 and clat0"`) {
		t.Errorf("log:\n%s", got)
	}
}

// The routes towards the PLAT are looked at when they may have changed, and by a
// new steering.
func TestFollow(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	b.expect(Up, ``)
	const toWKP = first + " to 64:ff9b::/96"
	want := []string{toWKP}
	check := func() {
		t.Helper()
		if diff := cmp.Diff(want, b.host.follows); diff != "" {
			t.Errorf("follows (-want +got)\n%s", diff)
		}
	}
	check()
	b.host.routeState++
	b.expect(Up, ``)
	b.expect(Up, ``)
	want = append(want, toWKP)
	check()
	b.host.broken = true
	b.pass()
	want = append(want, toWKP)
	check()
	b.host.o.PREF64[0].Prefix = netip.MustParsePrefix("2001:db8:64::/96")
	b.host.nodad = true
	b.pass()
	b.pass()
	if n := len(b.host.follows); n < 4 || !strings.HasSuffix(b.host.follows[n-1], " to 2001:db8:64::/96") {
		t.Errorf("follows %q", b.host.follows)
	}
}

// What another program removes is restored, five times at once and then every
// ten seconds, and the log does not grow with it.
func TestDriftIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, wlan)
		b.up()
		const restored = `ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64`
		for range restoreBurst {
			b.host.o.Routes = b.host.o.Routes[:1]
			b.expect(Up, restored)
			if b.rec.RetryAfter() != 0 {
				t.Error("a retry without need")
			}
		}
		b.host.o.Routes = b.host.o.Routes[:1]
		for range 100 {
			b.expect(Up, ``)
		}
		wait := b.rec.RetryAfter()
		if wait <= 0 || wait > restoreEvery {
			t.Fatalf("retry after %s", wait)
		}
		time.Sleep(wait)
		b.expect(Up, restored)
		if n := strings.Count(b.log.String(), "\n"); n != restoreBurst+1 {
			t.Errorf("%d lines in the log:\n%s", n, b.log)
		}
		// An hour later it is worth a line again.
		time.Sleep(time.Hour)
		b.host.o.Routes = b.host.o.Routes[:1]
		b.expect(Up, restored)
		if n := strings.Count(b.log.String(), "\n"); n != restoreBurst+2 {
			t.Errorf("%d lines in the log:\n%s", n, b.log)
		}
	})
}

func TestRemovedAddressIsRestored(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	b.host.dropAddr(netip.MustParseAddr(first))
	b.expect(Moving, `ip -6 addr add `+first+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`)
	b.host.dad(true)
	b.expect(Up, ``)
	b.host.dropAddr(netip.MustParseAddr("192.0.0.1"))
	b.expect(Up, `ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0`)
}

// An address that DAD refuses while it is in use (after it was restored) must
// not be used any longer (RFC 4862 section 5.4.5).
func TestConflictWhileInUse(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	b.host.dropAddr(netip.MustParseAddr(first))
	b.pass()
	b.host.text()
	b.host.dad(false)
	b.expect(Replan, `
		ss -K src 192.0.0.1
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip -6 addr del `+first+`/128 dev wlan0
		steer suspend
	`)
	b.expect(Pending, `
		steer ours [`+second+`/128]
		ip -6 addr add `+second+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64
	`)
	b.host.dad(true)
	b.expect(Up, `
		steer ours [`+second+`/128]
		engine translator
		ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
	`)
}

// A TUN that another program deletes is made again, as often as anything else,
// and the address stays: no second DAD.
func TestTUNDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, wlan)
		b.up()
		remains := `
			ip route del default dev  src 192.0.0.1 metric 2048 mtu 1480 proto 64
			engine close
			steer close
			tun close clat0
		`
		for range restoreBurst {
			b.host.dropLink(b.host.lastIndex)
			b.expect(Up, remains+`
				tun open clat0 queues 1
				ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
				steer wlan0 and clat0 ours [`+first+`/128]
				engine start on clat0
				ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
			`)
		}
		b.host.dropLink(b.host.lastIndex)
		b.expect(Pending, remains)
		b.expect(Pending, ``)
		time.Sleep(b.rec.RetryAfter())
		if p, err := b.pass(); p != Up || err != nil {
			t.Errorf("progress %d, %v", p, err)
		}
	})
}

// The journal has exactly the addresses that are on the host.
func TestReconcilerWritesJournal(t *testing.T) {
	b := newBench(t, wlan)
	path := filepath.Join(t.TempDir(), "run", "journal")
	j := b.journaled(path)
	b.up()
	want := []JournalEntry{{Link: "wlan0", Addr: netip.MustParseAddr(first)}}
	if diff := cmp.Diff(want, j.Entries(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("entries (-want +got)\n%s", diff)
	}
	b.rec.Down()
	b.expectDone(down)
	if e := j.Entries(); len(e) != 0 {
		t.Errorf("entries after Down: %v", e)
	}
	j.Close()
}
