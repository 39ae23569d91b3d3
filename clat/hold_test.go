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

const (
	mainRoute = `default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64`
	noRoute   = `ip route del ` + mainRoute
	addFirst  = `ip -6 addr add ` + first + `/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`
)

// The network goes for a moment and comes back as it was: only the route has
// been away.
func TestHold(t *testing.T) {
	for name, lose := range map[string]func(*plan.Observed){
		"default route": func(o *plan.Observed) { o.Routes = nil },
		"carrier":       func(o *plan.Observed) { o.Routes, o.Links[0].Carrier = nil, false },
		"PREF64":        func(o *plan.Observed) { o.PREF64 = nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, wlan)
				b.up()
				o := b.host.o
				before := []any{slices.Clone(o.Routes), o.Links[0], slices.Clone(o.PREF64)}
				lose(&b.host.o)
				b.expect(Held, noRoute)
				time.Sleep(10 * time.Second)
				b.expect(Held, ``)
				if got := b.rec.RetryAfter(); got != 50*time.Second {
					t.Errorf("retry after %s", got)
				}
				b.host.o.Routes = slices.DeleteFunc(before[0].([]plan.Route), func(r plan.Route) bool { return r.Protocol == plan.Protocol })
				b.host.o.Links[0], b.host.o.PREF64 = before[1].(plan.Link), before[2].([]plan.PREF64)
				b.expect(Up, `ip route append `+mainRoute)
				// The next time has its own minute.
				time.Sleep(holdFor)
				b.expect(Up, ``)
				lose(&b.host.o)
				b.expect(Held, noRoute)
				time.Sleep(b.rec.RetryAfter())
				b.expect(Down, strings.Replace(gone, noRoute, "", 1))
				if b.rec.RetryAfter() != 0 {
					t.Error("and again")
				}
				b.expect(Down, ``)
			})
		})
	}
}

const delFirst = "ip -6 addr del " + first + "/128 dev wlan0"

// The CLAT address never is the only global one of the host: the kernel would
// choose it for native IPv6.
func TestCLATAddressIsRemovedWithTheHostsOwn(t *testing.T) {
	b := newBench(t, wlan)
	b.expect(Pending, addFirst)
	own := b.host.o.Addrs[0]
	b.host.dropAddr(own.Prefix.Addr())
	b.expect(Down, delFirst)
	b.host.o.Addrs = append(b.host.o.Addrs, own)
	own = b.host.o.Addrs[0]
	b.expect(Pending, addFirst)
	b.host.dad(true)
	b.expect(Up, `
		tun open clat0 queues 1
		ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
		steer wlan0 and clat0 ours [`+first+`/128]
		engine start on clat0
		ip route append `+mainRoute)

	b.host.dropAddr(own.Prefix.Addr())
	b.expect(Held, noRoute+"\n"+delFirst+"\nsteer suspend")
	own.Tentative = true
	b.host.o.Addrs = append(b.host.o.Addrs, own)
	b.expect(Held, ``)
	b.host.dad(true)
	b.expect(Up, addFirst+`
		steer ours [`+first+`/128]
		engine translator
		ip route append `+mainRoute)
	b.host.dad(true)
	b.expect(Up, ``)
}

// A link that goes down takes the address with it. Nobody is blamed. It
// comes back a moment later and need not wait for DAD.
func TestHoldLosesAddress(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	routes := b.host.o.Routes[:1]
	b.host.o.Routes = slices.Delete(slices.Clone(b.host.o.Routes), 0, 1)
	b.host.o.Links[0].Up = false
	addr := b.host.o.Addrs[0]
	b.host.dropAddr(addr.Prefix.Addr())
	b.host.dropAddr(netip.MustParseAddr(first))
	b.expect(Held, noRoute+"\n"+delFirst+"\nsteer suspend")
	b.expect(Held, ``)
	b.host.o.Routes, b.host.o.Links[0].Up = slices.Clone(routes), true
	b.host.o.Addrs = append(b.host.o.Addrs, addr)
	// The same mapping as before: connections have survived.
	b.expect(Up, addFirst+`
		steer ours [`+first+`/128]
		engine translator
		ip route append `+mainRoute)
	b.host.dad(true)
	b.expect(Up, ``)
	if strings.Contains(b.log.String(), "restored") {
		t.Errorf("somebody is blamed:\n%s", b.log)
	}
}

// Only the CLAT's address goes, while it is held: it serves while it passes DAD again.
func TestHoldThenAddressRemoved(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	p := b.host.o.PREF64
	b.host.o.PREF64 = nil
	b.expect(Held, noRoute)
	b.host.dropAddr(netip.MustParseAddr(first))
	b.expect(Held, delFirst+"\nsteer suspend")
	b.host.o.PREF64 = p
	b.expect(Up, addFirst+`
		steer ours [`+first+`/128]
		engine translator
		ip route append `+mainRoute)
	b.host.dad(true)
	b.expect(Up, ``)
}

// One uplink is taken down alone, and comes back in the next pass.
func TestDownUplink(t *testing.T) {
	b := upTwo(t)
	if err := b.rec.DownUplink(plan.Uplink{Name: "wlan0", Index: 2}); err != nil {
		t.Error(err)
	}
	if got := b.host.text(); strings.Contains(got, "clat1") || strings.Contains(got, "ss -K") || !strings.Contains(got, "tun close clat0") {
		t.Errorf("commands\n%s", got)
	}
	if err := b.rec.DownUplink(plan.Uplink{Name: "usb0", Index: 9}); err != nil {
		t.Error(err)
	}
	for range 2 {
		b.passAll()
		b.host.dad(true)
	}
	b.host.text()
	b.expectAll([]Progress{Up, Up}, ``)
}

// From one network to another by way of nothing: TUN, IPv4 address and engine
// stay, connections end.
func TestHoldThenAnotherNetwork(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	routes := b.host.o.Routes[:1]
	b.host.o.Routes = nil
	b.host.o.Links[0].Carrier = false
	b.expect(Held, noRoute)
	b.host.o.Routes, b.host.o.Links[0].Carrier = slices.Clone(routes), true
	b.host.o.PREF64[0].Prefix = netip.MustParsePrefix("2001:db8:64::/96")
	b.host.o.Addrs[0].Prefix = netip.MustParsePrefix("2001:db8:3::10/64")
	const next = "2001:db8:3:0:b03c:9d87:e76:7ee"
	b.expect(Pending, `
		ip -6 addr add `+next+`/128 dev wlan0 preferred_lft 0 noprefixroute proto 64
		ss -K src 192.0.0.1
		ip -6 addr del `+first+`/128 dev wlan0
		steer suspend
		steer ours [`+next+`/128]
	`)
	b.host.dad(true)
	b.expect(Up, `
		steer ours [`+next+`/128]
		engine translator
		ip route append `+mainRoute)
}

// What ends a hold before its time.
func TestHoldEnds(t *testing.T) {
	for name, end := range map[string]func(*bench){
		"native IPv4": func(b *bench) { b.host.addNative(2, 0) },
		"never":       func(b *bench) { b.conf.Enable = plan.Never },
		"configured":  func(b *bench) { b.conf.Uplinks = []string{"eth0"} },
		"TUN gone":    func(b *bench) { b.host.dropLink(100) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, wlan)
			b.up()
			b.host.o.Routes = nil
			b.expect(Held, noRoute)
			end(b)
			b.expect(Down, strings.Replace(gone, noRoute, "", 1))
			b.expect(Down, ``)
		})
	}
	t.Run("pulled out", func(t *testing.T) {
		b := newBench(t, wlan)
		b.up()
		b.host.dropLink(2)
		if _, err := b.pass(); err != nil {
			t.Error(err)
		}
		if got := lines(b.host.text()); got != lines(strings.ReplaceAll(gone, "wlan0", "")) {
			t.Errorf("commands\n%s", got)
		}
	})
	t.Run("stop", func(t *testing.T) {
		b := newBench(t, wlan)
		b.up()
		b.host.o.Routes = nil
		b.expect(Held, noRoute)
		if err := b.rec.Down(); err != nil {
			t.Error(err)
		}
		b.expectDone(strings.Replace(down, noRoute, "", 1))
	})
	// What has never been up is not held.
	t.Run("in DAD", func(t *testing.T) {
		b := newBench(t, wlan)
		b.expect(Pending, addFirst)
		b.host.o.Routes = nil
		b.expect(Down, "ip -6 addr del "+first+"/128 dev wlan0")
	})
}
