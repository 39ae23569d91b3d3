package lab

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// echoed sends n bytes by UDP from the laptop to the server as PREF64 has it and
// waits for them to come back.
func echoed(l *Lab, pref64 netip.Prefix, n int, patience time.Duration) error {
	var conn net.Conn
	err := l.Laptop.Do(func() (err error) {
		conn, err = net.Dial("udp6", netip.AddrPortFrom(Synthesize(pref64, ServerIPv4), PortEcho).String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(block[:n]); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	k, err := conn.Read(buf)
	if err == nil && !slices.Equal(buf[:k], block[:n]) {
		err = errors.New("something else came back")
	}
	return err
}

// What does not come within a moment is lost; what must come may take its time
// on a busy machine.
const (
	moment   = 300 * time.Millisecond
	patience = 30 * time.Second
)

func wantEcho(t *testing.T, what string, l *Lab, pref64 netip.Prefix, n int, want error) {
	t.Helper()
	wait := patience
	if want != nil {
		wait = moment
	}
	if err := echoed(l, pref64, n, wait); !errors.Is(err, want) {
		t.Errorf("%s: %v, not %v", what, err, want)
	}
}

// TestDeadPLAT has two PLATs, one dead from the start, and lets both die and
// live: nobody tells the laptop.
func TestDeadPLAT(t *testing.T) {
	second := netip.MustParsePrefix("3fff:64:2::/96")
	l := newTestLab(t, Options{MorePREF64: []netip.Prefix{second}, DeadPREF64: []netip.Prefix{WellKnownPrefix}})
	wantEcho(t, "dead", l, WellKnownPrefix, 10, os.ErrDeadlineExceeded)
	wantEcho(t, "alive", l, second, 10, nil)
	if got := len(l.Advert().PREF64); got != 2 {
		t.Errorf("%d PREF64 options", got)
	}
	if err := l.PLATDead(false); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, "resurrected", l, WellKnownPrefix, 10, nil)
	wantEcho(t, "not meant", l, second, 10, nil)
	if err := l.PLATDead(true); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, "all dead", l, second, 10, os.ErrDeadlineExceeded)
	if err := l.PLATDead(true, netip.MustParsePrefix("3fff::/96")); err == nil {
		t.Error("a PLAT that is not there died")
	}
}

// TestBlackHole loses what is long in silence, on the laptop's link and beyond
// the PLAT, also TCP's super-packets, but not what is short.
func TestBlackHole(t *testing.T) {
	l := newTestLab(t, Options{BlackHole: 1400})
	wantEcho(t, "1400 bytes", l, WellKnownPrefix, 1400-48, nil)
	wantEcho(t, "1401 bytes", l, WellKnownPrefix, 1401-48, os.ErrDeadlineExceeded)
	conn := dial(t, l, "tcp6", ServerIPv4, PortEcho)
	conn.SetDeadline(time.Now().Add(moment))
	conn.Write(block[:1<<16])
	if _, err := io.ReadFull(conn, make([]byte, 1<<16)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("64 KiB by TCP through the black hole: %v", err)
	}
	if err := l.SetBlackHole(0, 1400); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, "1400 bytes beyond", l, WellKnownPrefix, 1400-28, nil)
	wantEcho(t, "1401 bytes beyond", l, WellKnownPrefix, 1401-28, os.ErrDeadlineExceeded)
	if err := l.SetBlackHole(0, 0); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, "no black hole", l, WellKnownPrefix, 1452, nil)
	// Segments of 1280 bytes in super-packets pass a limit of 1400.
	if err := errors.Join(l.SetBlackHole(1400, 0), l.Laptop.SetMTU(Uplink, 1280)); err != nil {
		t.Fatal(err)
	}
	conn = dial(t, l, "tcp6", ServerIPv4, PortEcho)
	conn.SetDeadline(time.Now().Add(patience))
	go conn.Write(block[:1<<18])
	if _, err := io.ReadFull(conn, make([]byte, 1<<18)); err != nil {
		t.Errorf("short segments: %v", err)
	}
	if err := l.Vanish(true); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, "router vanished", l, WellKnownPrefix, 10, os.ErrDeadlineExceeded)
}

// TestDHCPv6Only has a /128, a default route, and nothing from SLAAC.
func TestDHCPv6Only(t *testing.T) {
	l := newTestLab(t, Options{DHCPv6: true, NoPREF64: true})
	own, err := l.LaptopAddress()
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.Laptop.Addresses(Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || !slices.Contains(all, netip.PrefixFrom(own, 128)) { // the other is link-local
		t.Errorf("%s is the laptop's, of %s", own, all)
	}
	if a := l.Advert(); !a.Managed || !a.NotAutonomous || len(a.PREF64) != 0 {
		t.Errorf("advert %+v", a)
	}
	wantEcho(t, "without PREF64 in the RA", l, WellKnownPrefix, 10, nil)
}

// TestNoDefaultRouter has an address and no way out.
func TestNoDefaultRouter(t *testing.T) {
	l := newTestLab(t, Options{NoDefaultRouter: true})
	if err := echoed(l, WellKnownPrefix, 10, moment); err == nil {
		t.Error("there is a way out")
	}
}

// TestNDFilter knows the laptop's first address only: another does not get out
// though it passed DAD, and does with room for two.
func TestNDFilter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bindings int
		passes   bool
	}{{1, false}, {2, true}} {
		t.Run("", func(t *testing.T) {
			l := newTestLab(t, Options{NDFilter: c.bindings})
			wantEcho(t, "first", l, WellKnownPrefix, 10, nil)
			another := netip.MustParseAddr("2001:db8:1::abcd")
			if err := l.Laptop.address(Uplink, another, 128); err != nil { // without DAD
				t.Fatal(err)
			}
			from := func(wait time.Duration) (passes bool, err error) {
				err = l.Laptop.Do(func() error {
					d := net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{IP: another.AsSlice()}}
					conn, err := d.Dial("tcp6", netip.AddrPortFrom(Synthesize(WellKnownPrefix, ServerIPv4), PortHTTP).String())
					if err == nil {
						conn.Close()
					}
					return err
				})
				var timeout net.Error
				if errors.As(err, &timeout) && timeout.Timeout() {
					return false, nil
				}
				return err == nil, err
			}
			if passes, err := from(moment); passes || err != nil {
				t.Errorf("from an address without DAD: %v, %v", passes, err)
			}
			if err := solicitAsDAD(l, another); err != nil {
				t.Fatal(err)
			}
			wait := moment
			if c.passes {
				wait = patience
			}
			if passes, err := from(wait); passes != c.passes || err != nil {
				t.Errorf("after DAD, room for %d: %v, %v", c.bindings, passes, err)
			}
		})
	}
}

// solicitAsDAD adds an address once more, with DAD.
func solicitAsDAD(l *Lab, addr netip.Addr) error {
	link, err := l.Laptop.Netlink.LinkByName(Uplink)
	if err != nil {
		return err
	}
	if err := l.Laptop.Netlink.AddrDel(link, netlinkAddr(addr)); err != nil {
		return err
	}
	if err := l.Laptop.Netlink.AddrAdd(link, netlinkAddr(addr)); err != nil {
		return err
	}
	for range 60 {
		if ok, err := settled(l.Laptop); ok || err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("DAD did not end")
}

// ask asks the network's resolver from the laptop and returns the answer.
func ask(t *testing.T, l *Lab, network string, server netip.Addr, name string, kind dnsmessage.Type, wait time.Duration) (dnsmessage.Message, error) {
	t.Helper()
	var m dnsmessage.Message
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	query, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if network == "tcp6" {
		query = append([]byte{0, byte(len(query))}, query...)
	}
	var conn net.Conn
	err = l.Laptop.Do(func() (err error) {
		if server.IsLinkLocalUnicast() {
			link, err := l.Laptop.Netlink.LinkByName(Uplink)
			if err != nil {
				return err
			}
			server = server.WithZone(strconv.Itoa(link.Attrs().Index))
		}
		conn, err = net.Dial(network, netip.AddrPortFrom(server, PortDNS).String())
		return err
	})
	if err != nil {
		return m, err
	}
	defer conn.Close()
	buf, n := make([]byte, 4096), 0
	for end, again := time.Now().Add(wait), 2*time.Second; ; {
		if _, err := conn.Write(query); err != nil {
			return m, err
		}
		deadline := end
		if network != "tcp6" && time.Until(end) > again { // a datagram may be lost
			deadline = time.Now().Add(again)
		}
		conn.SetDeadline(deadline)
		if n, err = conn.Read(buf); err == nil {
			break
		}
		if deadline == end || !errors.Is(err, os.ErrDeadlineExceeded) {
			return m, err
		}
	}
	answer := buf[:n]
	if network == "tcp6" {
		answer = answer[2:]
	}
	return m, m.Unpack(answer)
}

// TestResolver asks a network's resolver in every mood.
func TestResolver(t *testing.T) {
	l := newTestLab(t, Options{DNS: &DNS{}, MorePREF64: []netip.Prefix{netip.MustParsePrefix("3fff:64:2::/64")}})
	if got := l.Advert().RDNSS; !slices.Equal(got, []netip.Addr{RouterIPv6}) {
		t.Errorf("RDNSS %s", got)
	}
	const aaaa = dnsmessage.TypeAAAA
	wrong := netip.MustParsePrefix("3fff:bad::/96")
	for _, c := range []struct {
		what      string
		dns       DNS
		network   string
		server    netip.Addr
		name      string
		kind      dnsmessage.Type
		answers   int
		first     string // address
		code      dnsmessage.RCode
		truncated bool
		ttl       uint32
	}{
		{what: "DNS64", server: RouterIPv6, name: NameIPv4Only, kind: aaaa, answers: 4, first: "64:ff9b::192.0.0.170", ttl: 60},
		{what: "link-local", server: RouterLocal, name: "IPv4only.ARPA.", kind: aaaa, answers: 4, first: "64:ff9b::192.0.0.170", ttl: 60},
		{what: "TCP", network: "tcp6", name: NameIPv4Only, kind: aaaa, answers: 4, first: "64:ff9b::192.0.0.170", ttl: 60},
		{what: "A", name: NameIPv4Only, kind: dnsmessage.TypeA, answers: 2, first: "192.0.0.170", ttl: 60},
		{what: "server", name: NameServer, kind: aaaa, answers: 2, first: "64:ff9b::198.51.100.7", ttl: 60},
		{what: "wrong", dns: DNS{Prefixes: []netip.Prefix{wrong}, TTL: time.Hour}, name: NameIPv4Only, kind: aaaa, answers: 2, first: "3fff:bad::192.0.0.170", ttl: 3600},
		{what: "none", dns: DNS{NoDNS64: true}, name: NameIPv4Only, kind: aaaa},
		{what: "NXDOMAIN", dns: DNS{NXDomain: true}, name: NameIPv4Only, kind: aaaa, code: dnsmessage.RCodeNameError},
		{what: "captive", dns: DNS{Captive: true}, name: "anything.example.", kind: aaaa, answers: 1, first: "2001:db8:1::1", ttl: 60},
		{what: "truncated", dns: DNS{Truncate: true}, name: NameIPv4Only, kind: aaaa, truncated: true},
		{what: "truncated, TCP", dns: DNS{Truncate: true}, network: "tcp6", name: NameIPv4Only, kind: aaaa, answers: 4, first: "64:ff9b::192.0.0.170", ttl: 60},
	} {
		if c.network == "" {
			c.network = "udp6"
		}
		if !c.server.IsValid() {
			c.server = RouterIPv6
		}
		l.SetDNS(c.dns)
		m, err := ask(t, l, c.network, c.server, c.name, c.kind, patience)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if len(m.Answers) != c.answers || m.RCode != c.code || m.Truncated != c.truncated {
			t.Errorf("%s: %s", c.what, m.GoString())
			continue
		}
		if c.answers == 0 && !c.truncated && len(m.Authorities) != 1 {
			t.Errorf("%s: no SOA", c.what)
		}
		if c.answers > 0 {
			var got netip.Addr
			switch body := m.Answers[0].Body.(type) {
			case *dnsmessage.AAAAResource:
				got = netip.AddrFrom16(body.AAAA)
			case *dnsmessage.AResource:
				got = netip.AddrFrom4(body.A)
			}
			if got != netip.MustParseAddr(c.first) || m.Answers[0].Header.TTL != c.ttl {
				t.Errorf("%s: %s for %d s", c.what, got, m.Answers[0].Header.TTL)
			}
		}
	}
	l.SetDNS(DNS{Silent: true})
	if _, err := ask(t, l, "udp6", RouterIPv6, NameIPv4Only, aaaa, moment); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silent: %v", err)
	}
	l.SetDNS(DNS{Answer: func(Query, []byte) []byte { return []byte{1, 2, 3} }})
	if _, err := ask(t, l, "udp6", RouterIPv6, NameIPv4Only, aaaa, moment); err == nil {
		t.Error("three bytes were read as an answer")
	}
	asked := l.Queries()
	if len(asked) != 13 || asked[0].Name != NameIPv4Only || asked[0].Type != aaaa || asked[0].TCP || asked[0].To.Addr() != RouterIPv6 ||
		asked[1].To.Addr() != RouterLocal || asked[2].From.Addr().IsLinkLocalUnicast() || !asked[2].TCP {
		t.Errorf("asked %v", asked)
	}
}

func netlinkAddr(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen()))}
}
