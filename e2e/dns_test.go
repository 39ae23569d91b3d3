package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestDNS is on a network whose resolver alone knows PREF64, with a VPN whose
// resolver resolv.conf names.
func TestDNS(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	w := newWorldOn(t, stage{
		network: lab.Options{NoPREF64: true, DNS: &lab.DNS{}},
		nobody:  true,
		prepare: func(l *lab.Lab) error {
			begun = time.Now()
			if _, err := l.StartVPN(lab.VPNSplit); err != nil {
				return err
			}
			return l.SetResolvConf(l.Laptop, "nameserver "+lab.VPNServer.String()+"\n")
		},
	})
	w.moved = true // the VPN's interface is in DAD
	w.wantCLATs(t, 1)
	t.Logf("CLAT by DNS after %v", time.Since(begun).Round(10*time.Millisecond))
	w.wantPREF64(t, lab.WellKnownPrefix)
	w.page(t)
	if u, err := w.status(lab.Uplink); err != nil || u.PREF64[0].Source != "dns" || u.PREF64[0].From == nil || *u.PREF64[0].From != w.IPv6 ||
		!slices.Contains(u.Resolvers, w.IPv6) {
		t.Errorf("%+v from %v: %v", u.PREF64, u.Resolvers, err)
	}
	t.Run("other lengths", func(t *testing.T) {
		lengths := []int{32, 64} // 96 is what it has had so far
		if os.Getenv("TNAT64_LONG") != "" {
			lengths = []int{32, 40, 48, 56, 64}
		}
		for _, bits := range lengths {
			p, err := lab.PREF64OfLength(bits)
			if err == nil {
				err = w.MovePLAT(p)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.nudge(t)
			w.wantPREF64(t, p)
		}
		w.datagrams(t)
	})
	byDNS := w.PREF64()
	t.Run("who was asked", func(t *testing.T) {
		ids, ports := map[uint16]bool{}, map[uint16]bool{}
		all := w.Queries()
		for _, q := range all {
			if q.Name != lab.NameIPv4Only || q.Type != dnsmessage.TypeAAAA || q.CD || q.To.Addr() != w.IPv6 || q.TCP {
				t.Errorf("asked: %s (CD %v)", q, q.CD)
			}
			ids[q.ID], ports[q.From.Port()] = true, true
		}
		if len(all) < 3 || len(ids) < len(all) || len(ports) < len(all) {
			t.Errorf("%d queries with %d identifiers from %d ports", len(all), len(ids), len(ports))
		}
		for _, q := range w.ServerQueries() {
			t.Errorf("the VPN's resolver was asked %s", q)
		}
	})
	t.Run("a router knows better", func(t *testing.T) {
		flow := w.connection(t, "", netip.Addr{})
		if err := w.AddPLAT(anotherPREF64); err != nil {
			t.Fatal(err)
		}
		w.SetDNS(lab.DNS{Prefixes: []netip.Prefix{byDNS}})
		a := w.Advert()
		a.PREF64 = []lab.PREF64{{Prefix: anotherPREF64, Lifetime: 10 * time.Minute}}
		said := time.Now()
		if err := w.SetAdvert(a); err != nil {
			t.Fatal(err)
		}
		wantEnded(t, "by the prefix of DNS", flow, said)
		w.wantPREF64(t, anotherPREF64)
		asked := len(w.Queries())
		w.nudge(t)
		time.Sleep(2500 * time.Millisecond) // rounds of questions are two seconds apart
		if now := w.Queries(); len(now) != asked {
			t.Errorf("DNS is asked although a router advertises PREF64: %v", now[asked:])
		}
		if u, err := w.status(lab.Uplink); err != nil || len(u.PREF64) != 1 || u.PREF64[0].Source != "ra" {
			t.Errorf("known are %+v, %v", u.PREF64, err)
		}
		a.PREF64[0].Lifetime = 0
		if err := w.SetAdvert(a); err != nil {
			t.Fatal(err)
		}
		w.wantPREF64(t, byDNS)
	})
	t.Run("the same by a router", func(t *testing.T) {
		flow := w.connection(t, "", netip.Addr{})
		a := w.Advert()
		a.PREF64 = []lab.PREF64{{Prefix: byDNS, Lifetime: 10 * time.Minute}}
		if err := w.SetAdvert(a); err != nil {
			t.Fatal(err)
		}
		eventually(t, soon, func() error {
			u, err := w.status(lab.Uplink)
			if err == nil && (len(u.PREF64) != 1 || u.PREF64[0].Source != "ra") {
				err = fmt.Errorf("known are %+v", u.PREF64)
			}
			return err
		})
		wantAlive(t, "when a router says the same as DNS", flow)
	})
}

// TestDNSOfEach has two uplinks whose resolvers alone know PREF64, each another
// one. Each is asked over its own link; that of the first is known from
// resolv.conf, which does not say to which link it belongs.
func TestDNSOfEach(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, stage{
		network: lab.Options{
			NoPREF64: true, DNS: &lab.DNS{NoRDNSS: true},
			Second: &lab.Options{NoPREF64: true, DNS: &lab.DNS{}},
		},
		nobody: true,
		prepare: func(l *lab.Lab) error {
			return l.SetResolvConf(l.Laptop, "nameserver "+l.IPv6.String()+"\n")
		},
	})
	w.wantCLATs(t, 2)
	for iface, n := range map[string]*lab.Network{lab.Uplink: w.Network, lab.Uplink2: w.Second} {
		u := w.wantState(t, iface, control.Up)
		if len(u.PREF64) != 1 || u.PREF64[0].Prefix != n.PREF64() || u.PREF64[0].From == nil || *u.PREF64[0].From != n.IPv6 {
			t.Errorf("%s: known are %+v", iface, u.PREF64)
		}
		w.firstAnswer(t, u.CLAT.TUN, soon)
		all := n.Queries()
		if len(all) == 0 {
			t.Errorf("%s was not asked", n.Name)
		}
		for _, q := range all {
			if q.To.Addr() != n.IPv6 || !n.Link.Contains(q.From.Addr()) {
				t.Errorf("%s was asked %s from %s", n.Name, q, q.From)
			}
		}
	}
}

// forged answers every question with what build makes of it; prefix is one
// that must not be believed.
func forged(build func(query dnsmessage.Message, prefix netip.Prefix) []byte) *lab.DNS {
	return &lab.DNS{Answer: func(_ lab.Query, query []byte) []byte {
		var m dnsmessage.Message
		if m.Unpack(query) != nil {
			return nil
		}
		return build(m, netip.MustParsePrefix("3fff:bad::/96"))
	}}
}

// reply answers m with AAAA records.
func reply(m dnsmessage.Message, addrs ...netip.Addr) []byte {
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, a := range addrs {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 300},
			Body:   &dnsmessage.AAAAResource{AAAA: a.As16()},
		})
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// many are addresses that no DNS64 makes of ipv4only.arpa.
func many(n int) (all []netip.Addr) {
	for i := range n {
		b := netip.MustParseAddr("3fff:bad::").As16()
		binary.BigEndian.PutUint32(b[12:], uint32(i))
		all = append(all, netip.AddrFrom16(b))
	}
	return all
}

var ipv4Only = netip.MustParseAddr("192.0.0.170")

// denials are answers that a resolver may mean: what it said before is no
// longer true.
var denials = []string{"no DNS64", "no such name", "captive portal"}

// uselessAnswers are those from which no PREF64 follows.
var uselessAnswers = map[string]*lab.DNS{
	"no DNS64":       {NoDNS64: true},
	"no such name":   {NXDomain: true},
	"captive portal": {Captive: true},
	"failure":        {ServFail: true},
	"thousands of records": forged(func(m dnsmessage.Message, _ netip.Prefix) []byte {
		return reply(m, many(2000)...)
	}),
	"thousands of records over TCP": {Answer: func(q lab.Query, query []byte) []byte {
		var m dnsmessage.Message
		if m.Unpack(query) != nil {
			return nil
		}
		if !q.TCP {
			m.Truncated = true
			return reply(m)
		}
		return reply(m, many(2300)...)
	}},
	"another identifier": forged(func(m dnsmessage.Message, p netip.Prefix) []byte {
		m.ID++
		return reply(m, lab.Synthesize(p, ipv4Only))
	}),
	"another question": forged(func(m dnsmessage.Message, p netip.Prefix) []byte {
		m.Questions[0].Name = dnsmessage.MustNewName("server.example.")
		return reply(m, lab.Synthesize(p, ipv4Only))
	}),
	"a compression loop": forged(func(m dnsmessage.Message, p netip.Prefix) []byte {
		b := reply(m, lab.Synthesize(p, ipv4Only))
		at := len(b) - 28 // the name of the only record: two bytes that point to the question's
		binary.BigEndian.PutUint16(b[at:], 0xc000|uint16(at))
		return b
	}),
	"cut short": forged(func(m dnsmessage.Message, p netip.Prefix) []byte {
		b := reply(m, lab.Synthesize(p, ipv4Only))
		return b[:len(b)-9]
	}),
	"noise": forged(func(m dnsmessage.Message, _ netip.Prefix) []byte {
		return append(binary.BigEndian.AppendUint16(nil, m.ID), pattern(60000)...)
	}),
}

// TestUselessDNS gets answers from which no PREF64 follows, out of ignorance
// and out of malice: at first, and while a CLAT runs by an answer of before.
func TestUselessDNS(t *testing.T) {
	t.Parallel()
	for name, d := range uselessAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, stage{network: lab.Options{NoPREF64: true, DNS: d}, nobody: true})
			eventually(t, soon, func() error {
				if len(w.Queries()) == 0 {
					return fmt.Errorf("nobody has asked")
				}
				return nil
			})
			time.Sleep(200 * time.Millisecond)
			u := w.wantState(t, lab.Uplink, control.Waiting, "waiting for a PREF64")
			t.Logf("%s; ignored: %+v", u.Discovery, u.Ignored)
			if len(u.PREF64) > 0 {
				t.Errorf("believed is %+v", u.PREF64)
			}
			w.SetDNS(lab.DNS{})
			w.nudge(t)
			w.wantPREF64(t, lab.WellKnownPrefix)
			flow := w.connection(t, "", netip.Addr{})
			asked := len(w.Queries())
			w.SetDNS(*d)
			w.nudge(t)
			eventually(t, soon, func() error {
				if len(w.Queries()) == asked {
					return fmt.Errorf("nobody has asked again")
				}
				return nil
			})
			if slices.Contains(denials, name) {
				w.wantState(t, lab.Uplink, control.Held, "waiting for a PREF64")
				return
			}
			time.Sleep(300 * time.Millisecond)
			w.wantState(t, lab.Uplink, control.Up)
			wantAlive(t, "after a useless answer", flow)
		})
	}
}

// TestDNSRefresh waits for the end of a short TTL.
func TestDNSRefresh(t *testing.T) {
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("takes more than a minute: TNAT64_LONG=1 runs it")
	}
	t.Parallel()
	w := newWorld(t, lab.Options{NoPREF64: true, DNS: &lab.DNS{TTL: 80 * time.Second}}, "")
	flow := w.connection(t, "", netip.Addr{})
	first := w.Queries()
	time.Sleep(65 * time.Second)
	if now := w.Queries(); len(now) != len(first) {
		t.Errorf("asked again too soon: %v", now[len(first):])
	}
	time.Sleep(7 * time.Second)
	if now := w.Queries(); len(now) != len(first)+1 {
		t.Errorf("not asked again once, 10 s before the end: %v", now[len(first):])
	}
	wantAlive(t, "across the refresh", flow)
}
