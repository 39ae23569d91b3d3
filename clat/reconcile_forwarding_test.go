package clat

import (
	"errors"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sysctlsOf617 are those of a host where forwarding can be forced per link;
// sysctlsOf510 of one where it cannot, with a bridge that forwards on its own.
const (
	sysctlsOf617 = `
		nosteering
		sysctl all forwarding 0
		sysctl default force_forwarding 0
		sysctl wlan0 force_forwarding 0
		sysctl wlan0 accept_ra 1
		sysctl all proxy_ndp 0
	`
	sysctlsOf510 = `
		link 5 br0
		nosteering
		sysctl all forwarding 0
		sysctl default forwarding 0
		sysctl wlan0 forwarding 0
		sysctl wlan0 accept_ra 1
		sysctl br0 forwarding 1
		sysctl br0 accept_ra 0
		sysctl all proxy_ndp 0
	`
)

// newForwardingBench is a host without BPF, with a journal.
func newForwardingBench(t *testing.T, sysctls string) *bench {
	t.Helper()
	b := newBench(t, wlan+sysctls)
	b.host.nobpf, b.host.nodad, b.host.lead = true, true, 2
	j, err := OpenJournal(filepath.Join(t.TempDir(), "run", "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	b.rec.journal = j
	return b
}

const (
	addFirst = `ip -6 addr add ` + first + `/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`
	openTUN  = `
		tun open clat0 queues 1
		ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
	`
	divertFirst = `
		ip -6 neigh replace proxy ` + first + ` dev wlan0
		ip -6 route replace ` + first + `/128 dev clat0 src 2001:db8:2::10 table local proto 64
		ip -6 route del local ` + first + `/128 dev wlan0 table local
	`
	undivertFirst = `ip -6 route del ` + first + `/128 dev clat0 table local; ip -6 neigh del proxy ` + first + ` dev wlan0`
	translate     = `
		engine start on clat0
		ip route append default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip route append default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		ip rule add from 192.0.0.1 lookup 65
	`
	force = `
		sysctl -w net.ipv6.conf.clat0.force_forwarding=1
		sysctl -w net.ipv6.conf.wlan0.force_forwarding=1
		sysctl -w net.ipv6.conf.all.proxy_ndp=1
	`
	abort           = "ss -K src 192.0.0.1\n"
	stopTranslating = `
		ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip route del default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		ip rule del from 192.0.0.1 lookup 65
		engine close
	`
	unforce = `
		sysctl -w net.ipv6.conf.all.proxy_ndp=0
		sysctl -w net.ipv6.conf.wlan0.force_forwarding=0
	`
	closeFirst = undivertFirst + `
		tun close clat0
		ip -6 addr del ` + first + `/128 dev wlan0
	`
)

// forward brings a CLAT up. Steering is refused once; that costs neither
// a second TUN nor a second DAD.
func (b *bench) forward(settings string) {
	b.t.Helper()
	b.expect(Pending, addFirst)
	b.expect(Replan, openTUN+"steer wlan0 and clat0 # refused")
	b.expect(Up, settings+divertFirst+translate)
	b.expect(Up, ``)
}

func TestForwardingUpAndDown(t *testing.T) {
	for name, c := range map[string]struct{ sysctls, up, down, said string }{
		"force_forwarding": {sysctlsOf617, force, unforce, "net.ipv6.conf.wlan0.force_forwarding 0 -> 1; net.ipv6.conf.all.proxy_ndp 0 -> 1"},
		"all.forwarding": {sysctlsOf510, `
			sysctl -w net.ipv6.conf.wlan0.accept_ra=2
			sysctl -w net.ipv6.conf.all.forwarding=1
			sysctl -w net.ipv6.conf.all.proxy_ndp=1
		`, `
			sysctl -w net.ipv6.conf.all.proxy_ndp=0
			sysctl -w net.ipv6.conf.all.forwarding=0
			sysctl -w net.ipv6.conf.br0.forwarding=1
			sysctl -w net.ipv6.conf.wlan0.accept_ra=1
		`, "net.ipv6.conf.wlan0.accept_ra 1 -> 2; net.ipv6.conf.all.forwarding 0 -> 1; net.ipv6.conf.all.proxy_ndp 0 -> 1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newForwardingBench(t, c.sysctls)
			before := maps.Clone(b.host.o.Forwarding.Sysctls)
			b.forward(c.up)
			if n := strings.Count(b.log.String(), "level=WARN"); n != 1 || !strings.Contains(b.log.String(), c.said) || !strings.Contains(b.log.String(), "no BPF here") {
				t.Errorf("%d warnings, not the one that names all changes:\n%s", n, b.log)
			}
			b.conf.Enable = Never
			b.expect(Down, abort+stopTranslating+c.down+closeFirst+abort)
			after := maps.Clone(b.host.o.Forwarding.Sysctls)
			maps.DeleteFunc(after, func(s Sysctl, _ int) bool { return s.Link == "clat0" })
			if !maps.Equal(before, after) {
				t.Errorf("sysctls before %v, after %v", before, after)
			}
			if left := b.rec.journal.Changes(); len(left) > 0 {
				t.Errorf("the journal still has %v", left)
			}
			// Steering is not tried again, and the second time is as the first.
			b.conf.Enable = Auto
			b.host.o.Forwarding.Sysctls = maps.Clone(before)
			b.expect(Pending, addFirst)
			b.expect(Up, openTUN+c.up+divertFirst+translate)
		})
	}
}

// A start that fails at any step leaves nothing behind, and what cannot be
// restored stays in the journal.
func TestFailedForwardingLeavesNothing(t *testing.T) {
	for _, step := range []string{"sysctl -w net.ipv6.conf.clat0.force", "sysctl -w net.ipv6.conf.wlan0.force", "sysctl -w net.ipv6.conf.all.proxy_ndp=1", "neigh replace proxy", "route replace", "route del local", "engine start", "route append"} {
		t.Run(step, func(t *testing.T) {
			b := newForwardingBench(t, sysctlsOf617)
			b.host.failAt = step
			var err error
			for range 3 {
				if _, e := b.pass(); e != nil {
					err = e
					break
				}
			}
			if err == nil {
				t.Fatal("no error")
			}
			if refused := new(ForwardingRefused); errors.As(err, &refused) != strings.HasPrefix(step, "sysctl") {
				t.Errorf("error %v", err)
			}
			o := b.host.o
			if len(o.Links) != 1 || len(o.Addrs) != 1 || len(o.Routes) != 1 || len(o.Forwarding.Diverted) != 0 ||
				o.Forwarding.Sysctls[Sysctl{"wlan0", forceForwarding}] != 0 || o.Forwarding.Sysctls[Sysctl{allLinks, proxyNDP}] != 0 {
				t.Errorf("left behind after %v: %+v", err, o)
			}
			if left := b.rec.journal.Changes(); len(left) > 0 {
				t.Errorf("the journal still has %v", left)
			}
		})
	}
	t.Run("restore", func(t *testing.T) {
		b := newForwardingBench(t, sysctlsOf617)
		b.forward(force)
		b.host.failAt = "wlan0.force_forwarding=0"
		b.conf.Enable = Never
		b.pass()
		if !strings.Contains(b.log.String(), "not everything could be taken down") {
			t.Errorf("not in the log:\n%s", b.log)
		}
		if left := b.rec.journal.Changes(); len(left) != 1 || left[0].Link != "wlan0" {
			t.Errorf("the journal has %v", left)
		}
	})
}

// Without a place to note the old values they are not changed.
func TestForwardingNeedsJournal(t *testing.T) {
	b := newForwardingBench(t, sysctlsOf617)
	b.rec.journal = nil
	b.expect(Pending, addFirst)
	b.expect(Replan, openTUN+"steer wlan0 and clat0 # refused")
	if _, err := b.pass(); !errors.Is(err, errNoJournal) {
		t.Errorf("error %v", err)
	}
	b.expectDone("tun close clat0\nip -6 addr del " + first + "/128 dev wlan0")
}

// "kernel" wants BPF or nothing.
func TestForwardingNotWanted(t *testing.T) {
	b := newForwardingBench(t, sysctlsOf617)
	b.conf.Forward = false
	b.expect(Pending, addFirst)
	if _, err := b.pass(); err == nil || !strings.Contains(err.Error(), "no BPF here") {
		t.Errorf("error %v", err)
	}
	if b.rec.Memory().NoSteering != "" {
		t.Error("it will not try again")
	}
	// A reload that says so takes down what is forwarded.
	b = newForwardingBench(t, sysctlsOf617)
	b.forward(force)
	b.conf.Forward = false
	b.expect(Replan, abort+stopTranslating+unforce+closeFirst+abort)
	b.expect(Pending, addFirst)
}

// What another program has changed meanwhile is left alone.
func TestForwardingRestoresOnlyItsOwn(t *testing.T) {
	b := newForwardingBench(t, sysctlsOf510)
	b.forward(`
		sysctl -w net.ipv6.conf.wlan0.accept_ra=2
		sysctl -w net.ipv6.conf.all.forwarding=1
		sysctl -w net.ipv6.conf.all.proxy_ndp=1
	`)
	// The network manager reads router advertisements itself from now on.
	b.host.o.Forwarding.Sysctls[Sysctl{"wlan0", acceptRA}] = 0
	b.expect(Up, ``)
	// An interface appears.
	b.host.o.Links = append(b.host.o.Links, Link{Index: 7, Name: "usb0"})
	b.host.o.Forwarding.Sysctls[Sysctl{"usb0", acceptRA}] = 1
	b.host.o.Forwarding.Sysctls[Sysctl{"usb0", ipForwarding}] = 1
	b.expect(Up, `sysctl -w net.ipv6.conf.usb0.accept_ra=2`)
	b.expect(Up, ``)
	b.conf.Enable = Never
	b.expect(Down, abort+stopTranslating+`
		sysctl -w net.ipv6.conf.usb0.accept_ra=1
		sysctl -w net.ipv6.conf.all.proxy_ndp=0
		sysctl -w net.ipv6.conf.all.forwarding=0
		sysctl -w net.ipv6.conf.br0.forwarding=1
	`+closeFirst+abort)
}

// Foreign hands are answered, but not for ever at once.
func TestForwardingForeignHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newForwardingBench(t, sysctlsOf617)
		b.forward(force)
		s := Sysctl{"wlan0", forceForwarding}
		for range putBackBurst {
			b.host.o.Forwarding.Sysctls[s] = 0
			b.expect(Up, `sysctl -w net.ipv6.conf.wlan0.force_forwarding=1`)
		}
		b.host.o.Forwarding.Diverted = nil
		b.expect(Up, divertFirst)
		b.host.o.Forwarding.Sysctls[s] = 0
		b.expect(Up, ``)
		time.Sleep(b.rec.RetryAfter())
		b.expect(Up, `sysctl -w net.ipv6.conf.wlan0.force_forwarding=1`)
		// Somebody makes the host a router: ours is not needed any longer.
		b.host.o.Forwarding.Sysctls[Sysctl{allLinks, ipForwarding}] = 1
		b.expect(Up, `sysctl -w net.ipv6.conf.wlan0.force_forwarding=0`)
		b.expect(Up, ``)
	})
}

// Without the TUN the address cannot stay: it is not delivered locally.
func TestForwardingTUNDeleted(t *testing.T) {
	b := newForwardingBench(t, sysctlsOf617)
	b.forward(force)
	b.host.dropLink(100)
	delete(b.host.o.Forwarding.Sysctls, Sysctl{"clat0", forceForwarding})
	b.expect(Replan, `
		ip route del default dev  src 192.0.0.1 metric 2048 mtu 1480 proto 64
		ip route del default dev  src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
		ip rule del from 192.0.0.1 lookup 65
		engine close
	`+unforce+strings.Replace(closeFirst, "dev clat0", "dev ", 1))
	b.expect(Pending, addFirst)
	b.expect(Up, openTUN+force+divertFirst+translate)
}

// Another address takes over; forwarding goes on.
func TestForwardingAddressChanges(t *testing.T) {
	b := newForwardingBench(t, sysctlsOf617)
	b.forward(force)
	b.host.nodad = false
	b.conf.IPv6 = clatAddr
	b.expect(Moving, `ip -6 addr add 2001:db8:1::c1a7/128 dev wlan0 preferred_lft 0 noprefixroute proto 64`)
	b.host.dad(true)
	b.expect(Up, abort+`
		ip -6 neigh replace proxy 2001:db8:1::c1a7 dev wlan0
		ip -6 route replace 2001:db8:1::c1a7/128 dev clat0 src 2001:db8:2::10 table local proto 64
		ip -6 route del local 2001:db8:1::c1a7/128 dev wlan0 table local
		`+undivertFirst+`
		engine translator
		ip -6 addr del `+first+`/128 dev wlan0
	`)
	b.expect(Up, ``)
}

// A second link that is preferred, and one that is a VPN's.
func TestForwardingWay(t *testing.T) {
	for name, other := range map[string]Route{
		"second link": {Link: 9, IPv6: true, Metric: 5, Table: TableMain},
		"VPN":         {Link: 9, IPv6: true, Metric: 1024, Table: 51820},
	} {
		t.Run(name, func(t *testing.T) {
			b := newForwardingBench(t, sysctlsOf617+"\nlink 9 wg0 kind wireguard\n")
			router := netip.MustParseAddr("fe80::1")
			b.host.o.Routes[0].Gateway, b.host.o.Routes[0].Metric = router, 100
			b.forward(force)
			b.host.o.Routes = append(b.host.o.Routes, other)
			b.expect(Up, `
				ip -6 route replace default via fe80::1 dev wlan0 table 64 metric 64 proto 64
				ip -6 rule add pref 64 iif clat0 lookup 64 protocol 64
			`)
			b.expect(Up, ``)
			if !strings.Contains(b.log.String(), "rule for clat0 to table 64") {
				t.Errorf("not in the log:\n%s", b.log)
			}
			// Another router takes over.
			b.host.o.Routes[0].Gateway = router.Next()
			b.expect(Up, `ip -6 route replace default via fe80::2 dev wlan0 table 64 metric 64 proto 64`)
			b.expect(Up, ``)
			// Foreign hands.
			b.host.o.Forwarding.Rule = false
			b.expect(Up, `ip -6 rule add pref 64 iif clat0 lookup 64 protocol 64`)
			// The other one goes.
			wayDown := `
				ip -6 rule del pref 64 iif clat0 lookup 64 protocol 64
				ip -6 route del default via fe80::2 dev wlan0 table 64 metric 64 proto 64
			`
			gone := func(r Route) bool { return r == other }
			b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, gone)
			b.expect(Up, wayDown)
			b.expect(Up, ``)
			b.host.o.Routes = append(b.host.o.Routes, other)
			b.pass()
			b.host.text()
			// Our own route does not make an uplink.
			b.host.o.Routes = slices.DeleteFunc(b.host.o.Routes, func(r Route) bool { return r.IPv6 && r.Link == 2 && r.Protocol != Protocol })
			b.conf.Uplinks = []string{"wlan0"}
			b.expect(Held, `
				ip route del default dev clat0 src 192.0.0.1 metric 2048 mtu 1480 proto 64
				ip route del default dev clat0 src 192.0.0.1 table 65 metric 64 mtu 1480 proto 64
				`+wayDown+undivertFirst+`
				ip -6 addr del `+first+`/128 dev wlan0
			`)
		})
	}
}

// The host's own address changes: errors come from the new one.
func TestForwardingSourceChanges(t *testing.T) {
	b := newForwardingBench(t, sysctlsOf617)
	b.conf.IPv6 = clatAddr
	for range 3 {
		b.pass()
	}
	b.host.text()
	b.host.o.Addrs[0].Prefix = netip.MustParsePrefix("2001:db8:3::10/64")
	b.expect(Up, strings.NewReplacer(first, clatAddr.String(), "2001:db8:2::10", "2001:db8:3::10").Replace(divertFirst))
	b.expect(Up, ``)
	if strings.Contains(b.log.String(), "put back") {
		t.Errorf("it looks like foreign hands:\n%s", b.log)
	}
}

// Routes that lead elsewhere are worth one warning.
func TestForwardingLeadsElsewhere(t *testing.T) {
	b := newForwardingBench(t, sysctlsOf617+"\nlink 9 wg0 kind wireguard\n")
	b.host.lead = 9
	b.forward(force)
	b.expect(Up, ``)
	if n := strings.Count(b.log.String(), "link=wg0"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, b.log)
	}
}
