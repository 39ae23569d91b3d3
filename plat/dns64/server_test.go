package dns64

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fakeUpstream is a resolver on loopback.
type fakeUpstream struct {
	addr    netip.AddrPort
	queries atomic.Int64
}

// newUpstream starts one. answer may return nil, which is silence.
func newUpstream(t testing.TB, answer func(q *dns.Msg, tcp bool) *dns.Msg) *fakeUpstream {
	t.Helper()
	udp, tcp := bindFree(t)
	u := &fakeUpstream{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		u.queries.Add(1)
		_, overTCP := w.RemoteAddr().(*net.TCPAddr)
		if m := answer(q, overTCP); m != nil {
			w.WriteMsg(m)
		}
	})
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return u
}

// bindFree opens the sockets of a port of loopback that is free for both: a port
// that the kernel chooses for UDP may be in use by TCP.
func bindFree(t testing.TB) (udp net.PacketConn, tcp net.Listener) {
	t.Helper()
	for range 100 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(free.Addr().String())
		free.Close()
		if udp, tcp, err = bind(t.Context(), addr); err == nil {
			return udp, tcp
		}
	}
	t.Fatal("no port of 127.0.0.1 is free for UDP and TCP")
	return nil, nil
}

// zoneAnswer makes the answer function of a resolver that knows a script.
func zoneAnswer(t testing.TB, s script) func(*dns.Msg, bool) *dns.Msg {
	return func(q *dns.Msg, _ bool) *dns.Msg {
		var asked []string
		m, err := s.lookup(t, &asked)(q.Question[0].Name, q.Question[0].Qtype)
		if err != nil {
			return nil
		}
		m.SetRcode(q, m.Rcode)
		return m
	}
}

type testServer struct {
	*Server
	addr netip.AddrPort
}

// start runs a server on loopback whose upstream resolvers are given.
func start(t testing.TB, o Options, upstreams ...*fakeUpstream) testServer {
	t.Helper()
	if o.Rules == nil {
		o.Rules = mustRules(t, "2001:db8:64::/96")
	}
	if o.Clients == nil {
		o.Clients = func(netip.Addr) bool { return true }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	o.Upstream = func() (all []netip.AddrPort) {
		for _, u := range upstreams {
			all = append(all, u.addr)
		}
		return all
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp := bindFree(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, []*dns.Server{s.serverUDP(udp), s.serverTCP(tcp)}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return testServer{s, udp.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func (s testServer) ask(t testing.TB, network string, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 30 * time.Second, UDPSize: 4096}
	m, _, err := c.Exchange(q, s.addr.String())
	if err != nil {
		t.Fatalf("%v over %s: %v", q.Question, network, err)
	}
	return m
}

func TestServer(t *testing.T) {
	up := newUpstream(t, zoneAnswer(t, script{
		"four.example. AAAA": "| " + soaExample,
		"four.example. A":    "| four.example. 300 IN A 198.51.100.7",
	}))
	s := start(t, Options{CacheEntries: 100}, up)
	for _, network := range []string{"udp", "tcp"} {
		m := s.ask(t, network, question("Four.Example.", dns.TypeAAAA))
		if got := shownAnswer(m); !strings.HasPrefix(got, "NOERROR | four.example. ") || !strings.HasSuffix(got, " AAAA 2001:db8:64::c633:6407") {
			t.Errorf("%s: %s", network, got)
		}
		if m.Question[0].Name != "Four.Example." {
			t.Errorf("%s: question %v", network, m.Question)
		}
	}
	if n := up.queries.Load(); n != 2 {
		t.Errorf("upstream was asked %d times, want once for each type", n)
	}
	if got := s.Stats(); got.Outcomes[Synthesized] != 2 || got.Cached != 2 {
		t.Errorf("counters %+v", got)
	}
}

func TestEDNS(t *testing.T) {
	up := newUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		if opt := q.IsEdns0(); opt == nil || opt.UDPSize() != udpSize || !opt.Do() || !q.CheckingDisabled {
			t.Errorf("the upstream query has no EDNS, or lost DO or CD: %v", q)
		}
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: header(q.Question[0].Name, dns.TypeA, 60), A: []byte{192, 0, 2, 1}}}
		m.SetEdns0(4096, true)
		return m
	})
	s := start(t, Options{}, up)
	q := question("x.example.", dns.TypeA)
	q.SetEdns0(4096, true)
	q.CheckingDisabled = true
	m := s.ask(t, "udp", q)
	opt := m.IsEdns0()
	if opt == nil || !opt.Do() || opt.UDPSize() != udpSize || len(m.Extra) != 1 {
		t.Errorf("OPT record of the reply: %v", m.Extra)
	}
	q.IsEdns0().SetVersion(1)
	if m := s.ask(t, "udp", q); m.Rcode != dns.RcodeBadVers {
		t.Errorf("EDNS version 1: %s", shownAnswer(m))
	}
}

func TestTruncation(t *testing.T) {
	up := newUpstream(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			for i := range 200 {
				m.Answer = append(m.Answer, &dns.A{Hdr: header(q.Question[0].Name, dns.TypeA, 60), A: []byte{192, 0, 2, byte(i)}})
			}
		}
		if !tcp {
			m.Truncate(udpSize)
		}
		return m
	})
	s := start(t, Options{}, up)
	for size, most := range map[uint16]int{0: 512, 700: 700, 1232: 1232, 65535: 1232} {
		q := question("x.example.", dns.TypeAAAA)
		if size > 0 {
			q.SetEdns0(size, false)
		}
		m := s.ask(t, "udp", q)
		m.Compress = true
		if !m.Truncated || m.Len() > most {
			t.Errorf("size %d: TC %v, %d bytes", size, m.Truncated, m.Len())
		}
	}
	if m := s.ask(t, "tcp", question("x.example.", dns.TypeAAAA)); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("over TCP: TC %v, %d records", m.Truncated, len(m.Answer))
	}
}

// What would be longer than a message is cut.
func TestAnswerLongerThanAMessage(t *testing.T) {
	up := newUpstream(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Compress = true
		if m.Truncated = !tcp; tcp && q.Question[0].Qtype == dns.TypeA {
			for i := range 4000 {
				m.Answer = append(m.Answer, &dns.A{Hdr: header(q.Question[0].Name, dns.TypeA, 60), A: []byte{10, 0, byte(i >> 8), byte(i)}})
			}
		}
		return m
	})
	s := start(t, Options{Rules: mustRules(t, "2001:db8:64::/96", "2001:db8:65::/96", "2001:db8:66::/96")}, up)
	m := s.ask(t, "tcp", question("x.example.", dns.TypeAAAA))
	if !m.Truncated || len(m.Answer) == 0 {
		t.Errorf("TC %v, %d records", m.Truncated, len(m.Answer))
	}
}

func TestUpstreamsInOrder(t *testing.T) {
	have := zoneAnswer(t, script{"x.example. A": "| x.example. 60 IN A 192.0.2.1"})
	rcode := func(rcode int) func(*dns.Msg, bool) *dns.Msg {
		return func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) }
	}
	silence := func(*dns.Msg, bool) *dns.Msg { return nil }
	other := func(q *dns.Msg, _ bool) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Question[0].Name = "evil.example."
		return m
	}
	for _, tc := range []struct {
		name  string
		up    []func(*dns.Msg, bool) *dns.Msg
		want  int
		asked []int64 // at least
	}{
		{"the first one answers", []func(*dns.Msg, bool) *dns.Msg{have, silence}, dns.RcodeSuccess, []int64{1, 0}},
		{"the first one is silent", []func(*dns.Msg, bool) *dns.Msg{silence, have}, dns.RcodeSuccess, []int64{1, 1}},
		{"the first one refuses", []func(*dns.Msg, bool) *dns.Msg{rcode(dns.RcodeRefused), have}, dns.RcodeSuccess, []int64{1, 1}},
		{"the first one fails", []func(*dns.Msg, bool) *dns.Msg{rcode(dns.RcodeServerFailure), have}, dns.RcodeSuccess, []int64{1, 1}},
		{"all refuse", []func(*dns.Msg, bool) *dns.Msg{rcode(dns.RcodeRefused), rcode(dns.RcodeServerFailure)}, dns.RcodeRefused, []int64{1, 1}},
		{"one answers another question", []func(*dns.Msg, bool) *dns.Msg{other, have}, dns.RcodeSuccess, []int64{1, 1}},
		{"there is none", nil, dns.RcodeServerFailure, nil},
		{"the first one says that there is no such name", []func(*dns.Msg, bool) *dns.Msg{rcode(dns.RcodeNameError), have}, dns.RcodeNameError, []int64{1, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var ups []*fakeUpstream
			for _, answer := range tc.up {
				ups = append(ups, newUpstream(t, answer))
			}
			s := start(t, Options{}, ups...)
			if m := s.ask(t, "udp", question("x.example.", dns.TypeA)); m.Rcode != tc.want {
				t.Errorf("%s", shownAnswer(m))
			}
			for i, u := range ups {
				if n := u.queries.Load(); n < tc.asked[i] || tc.asked[i] == 0 && n > 0 {
					t.Errorf("resolver %d was asked %d times, want %d", i, n, tc.asked[i])
				}
			}
		})
	}
}

// A resolver that was silent is asked after the others for a while.
func TestSilentUpstreamComesLast(t *testing.T) {
	silent := newUpstream(t, func(*dns.Msg, bool) *dns.Msg { return nil })
	good := newUpstream(t, zoneAnswer(t, script{"a.example. A": "| a.example. 60 IN A 192.0.2.1", "b.example. A": "| b.example. 60 IN A 192.0.2.1"}))
	s := start(t, Options{}, silent, good)
	s.ask(t, "udp", question("a.example.", dns.TypeA))
	before := silent.queries.Load()
	s.ask(t, "udp", question("b.example.", dns.TypeA))
	if n := silent.queries.Load() - before; n != 0 {
		t.Errorf("the silent resolver was asked first again (%d)", n)
	}
}

func TestUpstreamWithoutEDNS(t *testing.T) {
	up := newUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		if q.IsEdns0() != nil {
			return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
		}
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: header(q.Question[0].Name, dns.TypeA, 60), A: []byte{192, 0, 2, 1}}}
		return m
	})
	s := start(t, Options{}, up)
	if m := s.ask(t, "udp", question("x.example.", dns.TypeA)); len(m.Answer) != 1 {
		t.Error(shownAnswer(m))
	}
}

// Where AAAA queries get no response (RFC 4074 section 4.1), A is asked for
// meanwhile, and the client has its answer before it gives up.
func TestNamesWhoseAAAAQueriesTimeOut(t *testing.T) {
	up := newUpstream(t, zoneAnswer(t, script{"x.example. AAAA": "TIMEOUT", "x.example. A": "| x.example. 60 IN A 192.0.2.1"}))
	s := start(t, Options{CacheEntries: 10}, up)
	if m := s.ask(t, "udp", question("x.example.", dns.TypeAAAA)); shownAnswer(m) != "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201" && len(m.Answer) != 1 {
		t.Error(shownAnswer(m))
	}
	before := up.queries.Load()
	s.ask(t, "udp", question("x.example.", dns.TypeAAAA))
	if n := up.queries.Load() - before; n != 0 {
		t.Errorf("the failure was not remembered: %d more queries", n)
	}
}

func TestOnlyClientsAreAnswered(t *testing.T) {
	s := start(t, Options{Clients: func(a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.1") }})
	c := dns.Client{Net: "udp", Timeout: 300 * time.Millisecond}
	if m, _, err := c.Exchange(question("ipv4only.arpa.", dns.TypeAAAA), s.addr.String()); err == nil {
		t.Errorf("over UDP: %v", m)
	}
	c.Net, c.Timeout = "tcp", 30*time.Second
	if m, _, err := c.Exchange(question("ipv4only.arpa.", dns.TypeAAAA), s.addr.String()); err == nil {
		t.Errorf("over TCP: %v", m)
	}
	deadline := time.Now().Add(60 * time.Second) // the datagram may still wait for the server
	for s.Stats().Outcomes[NotAClient] < 2 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := s.Stats().Outcomes[NotAClient]; n != 2 {
		t.Errorf("%d counted, want 2", n)
	}
}

func TestOtherMessages(t *testing.T) {
	s := start(t, Options{})
	for _, tc := range []struct {
		name  string
		edit  func(*dns.Msg)
		rcode int
		count Outcome
	}{
		{"NOTIFY", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented, NotImplemented},
		{"UPDATE", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented, NotImplemented},
		{"no question", func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError, Malformed},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError, Malformed},
		{"zone transfer", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeRefused, Refused},
		{"no recursion wanted", func(m *dns.Msg) { m.RecursionDesired = false }, dns.RcodeRefused, Refused},
	} {
		q := question("x.example.", dns.TypeA)
		tc.edit(q)
		before := s.Stats().Outcomes[tc.count]
		if m := s.ask(t, "udp", q); m.Rcode != tc.rcode {
			t.Errorf("%s: %s", tc.name, shownAnswer(m))
		}
		if n := s.Stats().Outcomes[tc.count] - before; n != 1 {
			t.Errorf("%s: counted %d as %v", tc.name, n, tc.count)
		}
	}
}

func TestANYOverUDPIsSentToTCP(t *testing.T) {
	up := newUpstream(t, zoneAnswer(t, script{"x.example. ANY": "| x.example. 60 IN A 192.0.2.1"}))
	s := start(t, Options{}, up)
	if m := s.ask(t, "udp", question("x.example.", dns.TypeANY)); !m.Truncated || len(m.Answer) > 0 {
		t.Errorf("over UDP: %v", m)
	}
	if m := s.ask(t, "tcp", question("x.example.", dns.TypeANY)); len(m.Answer) != 1 {
		t.Errorf("over TCP: %v", m)
	}
}

func TestOtherClassesAreNotSynthesized(t *testing.T) {
	up := newUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetReply(q) })
	s := start(t, Options{}, up)
	q := question("ipv4only.arpa.", dns.TypeAAAA)
	q.Question[0].Qclass = dns.ClassHESIOD
	if m := s.ask(t, "udp", q); len(m.Answer) != 0 || m.Rcode != dns.RcodeSuccess || up.queries.Load() != 1 {
		t.Errorf("%s after %d queries upstream", shownAnswer(m), up.queries.Load())
	}
}

// The addresses of a /64 share its limits, and one of them leaves half to the
// others.
func TestLimitsOfANetwork(t *testing.T) {
	now := time.Unix(0, 0)
	a := newAdmission(10, func() time.Time { return now })
	at := func(network, host byte) netip.Addr {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 7: network, 15: host})
	}
	ask := func(from netip.Addr, n int) (ok int) {
		for range n {
			if release, _, admitted := a.query(from); admitted {
				release()
				ok++
			}
		}
		return ok
	}
	n := 0
	for host := range 100 {
		n += ask(at(1, byte(host)), 1)
	}
	if n != 10 {
		t.Errorf("%d queries of 100 addresses of a /64, want 10", n)
	}
	if n := ask(at(2, 1), 1); n != 1 {
		t.Error("another /64 is not answered")
	}
	// One floods while another asks now and then.
	flood, others := 0, 0
	for range 100 {
		now = now.Add(100 * time.Millisecond)
		flood += ask(at(3, 1), 20)
		if now.UnixMilli()%500 == 0 {
			others += ask(at(3, 2), 1)
		}
	}
	if others != 20 || flood < 80 || flood > 110 {
		t.Errorf("%d of 20 queries beside a flood are answered, %d of the flood", others, flood)
	}
	if one, two := networkOf(netip.MustParseAddr("fe80::1%lan0")), networkOf(netip.MustParseAddr("fe80::1%lan1")); one == two {
		t.Error("two links share a limit")
	}
	if one, two := networkOf(netip.MustParseAddr("192.0.2.1")), networkOf(netip.MustParseAddr("192.0.2.2")); one == two {
		t.Error("two IPv4 addresses share a limit")
	}
	a = newAdmission(1, func() time.Time { return now })
	for range 3 {
		if now = now.Add(time.Second); ask(at(4, 1), 5) != 1 {
			t.Error("a limit of 1 query in a second does not admit 1")
		}
	}
	a = newAdmission(0, time.Now)
	pending, conns := 0, 0
	for host := range 255 {
		for range 4 {
			if _, _, ok := a.query(at(1, byte(host))); ok {
				pending++
			}
			if _, ok := a.connection(at(1, byte(host))); ok {
				conns++
			}
		}
	}
	if pending != maxNetworkPending || conns != maxNetworkConns {
		t.Errorf("%d queries pending and %d connections of a /64, want %d and %d", pending, conns, maxNetworkPending, maxNetworkConns)
	}
}

// A server stops at once, whatever its upstream resolvers do.
func TestStopDuringLookups(t *testing.T) {
	asked := make(chan struct{}, 100)
	up := newUpstream(t, func(*dns.Msg, bool) *dns.Msg { asked <- struct{}{}; return nil })
	o := Options{
		Rules: mustRules(t, "2001:db8:64::/96"), Clients: func(netip.Addr) bool { return true },
		Log: slog.New(slog.DiscardHandler), Upstream: func() []netip.AddrPort { return []netip.AddrPort{up.addr} },
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp := bindFree(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, []*dns.Server{s.serverUDP(udp), s.serverTCP(tcp)}) }()
	for i := range 20 {
		c, err := net.Dial([]string{"udp", "tcp"}[i%2], udp.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b, _ := question(fmt.Sprintf("n%d.example.", i), dns.TypeAAAA).Pack()
		if i%2 == 1 {
			b = append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
		}
		c.Write(b)
	}
	for range 20 {
		<-asked
	}
	// The first lookups end by themselves after 3 to 4 s, and without the stop
	// the resolver would be asked again after 1 s.
	begun := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Logf("stopped after %v", time.Since(begun))
	if n := len(asked); n > 0 {
		t.Errorf("the resolver was asked %d times after the stop", n)
	}
}

func TestRateOfAClient(t *testing.T) {
	now := time.Unix(0, 0)
	a := newAdmission(10, func() time.Time { return now })
	one, two := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1")
	admitted := func(addr netip.Addr, n int) (ok int) {
		for range n {
			if release, _, admitted := a.query(addr); admitted {
				release()
				ok++
			}
		}
		return ok
	}
	if n := admitted(one, 50); n != 10 {
		t.Errorf("%d of 50 at once, want 10", n)
	}
	if n := admitted(two, 50); n != 10 {
		t.Errorf("%d of another client, want 10", n)
	}
	now = now.Add(time.Second)
	if n := admitted(one, 50); n != 10 {
		t.Errorf("%d a second later, want 10", n)
	}
	now = now.Add(time.Hour)
	if n := admitted(one, 50); n != 10 {
		t.Errorf("%d an hour later, want 10", n)
	}
}

func TestPendingOfAClientIsLimited(t *testing.T) {
	a := newAdmission(0, time.Now)
	var releases []func()
	for i := range maxClients + 10 { // many clients with one query each
		if release, o, ok := a.query(netip.AddrFrom16([16]byte{0x20, 1, 6: byte(i >> 8), 7: byte(i), 15: 1})); ok {
			releases = append(releases, release)
		} else if o != TooManyPending {
			t.Fatal(o)
		}
	}
	if len(releases) != maxPending || len(a.clients) > maxClients || a.recent.Len() != len(a.clients) {
		t.Errorf("%d pending, %d clients", len(releases), len(a.clients))
	}
	for _, r := range releases {
		r()
	}
	if a.pending != 0 {
		t.Errorf("%d pending after all", a.pending)
	}
	n := 0
	for range 2 * maxClientPending {
		if _, _, ok := a.query(netip.MustParseAddr("2001:db8::1")); ok {
			n++
		}
	}
	if n != maxClientPending {
		t.Errorf("%d of one client, want %d", n, maxClientPending)
	}
}

func TestFloodOfOneClient(t *testing.T) {
	up := newUpstream(t, zoneAnswer(t, script{}))
	s := start(t, Options{QueriesPerSecond: 5}, up)
	c, err := net.Dial("udp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 500 {
		b, _ := question(fmt.Sprintf("n%d.example.", i), dns.TypeA).Pack()
		c.Write(b)
	}
	deadline := time.Now().Add(30 * time.Second)
	for s.Stats().Outcomes[RateLimited] == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if s.Stats().Outcomes[RateLimited] == 0 {
		t.Error("a flood is not limited")
	}
}

func TestTCPConnectionsAreLimited(t *testing.T) {
	s := start(t, Options{})
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range maxClientConns + 5 {
		c, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	deadline := time.Now().Add(30 * time.Second)
	for s.Stats().Outcomes[TooManyConnections] < 5 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.Stats().Outcomes[TooManyConnections]; n != 5 {
		t.Errorf("%d connections were closed, want 5", n)
	}
}

// Equal questions at the same time are one question upstream.
func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	begun, proceed := make(chan struct{}, 100), make(chan struct{})
	up := newUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		begun <- struct{}{}
		<-proceed
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	})
	s := start(t, Options{}, up)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { s.ask(t, "udp", question("x.example.", dns.TypeA)) })
	}
	<-begun
	for s.admissionPending() < 50 {
		time.Sleep(time.Millisecond)
	}
	close(proceed)
	group.Wait()
	if n := up.queries.Load(); n > 3 {
		t.Errorf("asked %d times", n)
	}
}

func (s testServer) admissionPending() int {
	s.admission.mu.Lock()
	defer s.admission.mu.Unlock()
	return s.admission.pending
}

func TestLocalZone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("10.8.0.5 web.poc.vpn www\n2001:db8:1::5 six.poc.vpn # comment\n10.8.0.6 a.b.poc.vpn\n10.8.0.7 other.example\nnonsense line\n10.8.0.300 bad.poc.vpn\n10.8.0.8 WEB.POC.VPN\n")
	up := newUpstream(t, zoneAnswer(t, script{"x.example. AAAA": "| x.example. 60 IN AAAA 2001:db8:f::1"}))
	zone := &Zone{Name: "poc.vpn", Path: path}
	s := start(t, Options{Zones: []*Zone{zone}}, up)
	for _, tc := range []struct{ name, qtype, want string }{
		{"web.poc.vpn.", "A", "NOERROR AA | web.poc.vpn. 300 A 10.8.0.5, web.poc.vpn. 300 A 10.8.0.8"},
		{"www.poc.vpn.", "A", "NOERROR AA | www.poc.vpn. 300 A 10.8.0.5"},
		{"web.poc.vpn.", "AAAA", "NOERROR AA | web.poc.vpn. 300 AAAA 2001:db8:64::a08:5, web.poc.vpn. 300 AAAA 2001:db8:64::a08:8"},
		{"six.poc.vpn.", "AAAA", "NOERROR AA | six.poc.vpn. 300 AAAA 2001:db8:1::5"},
		{"six.poc.vpn.", "A", "NOERROR AA ; poc.vpn. SOA 300"},
		{"b.poc.vpn.", "A", "NOERROR AA ; poc.vpn. SOA 300"},
		{"none.poc.vpn.", "AAAA", "NXDOMAIN AA ; poc.vpn. SOA 300"},
		{"poc.vpn.", "MX", "NOERROR AA ; poc.vpn. SOA 300"},
		{"poc.vpn.", "SOA", "NOERROR AA | poc.vpn. SOA 300"},
		{"bad.poc.vpn.", "A", "NXDOMAIN AA ; poc.vpn. SOA 300"},
		{"5.0.8.10.in-addr.arpa.", "PTR", "NOERROR AA | 5.0.8.10.in-addr.arpa. 300 PTR web.poc.vpn."},
		{reverseName(netip.MustParseAddr("2001:db8:1::5")), "PTR", "NOERROR AA | " + reverseName(netip.MustParseAddr("2001:db8:1::5")) + " 300 PTR six.poc.vpn."},
		{reverseName(netip.MustParseAddr("2001:db8:64::a08:5")), "PTR", "NOERROR | " + reverseName(netip.MustParseAddr("2001:db8:64::a08:5")) + " 300 CNAME 5.0.8.10.in-addr.arpa., 5.0.8.10.in-addr.arpa. 300 PTR web.poc.vpn."},
		{"7.0.8.10.in-addr.arpa.", "PTR", "NXDOMAIN ; example. SOA 300"},
		{"x.example.", "AAAA", "NOERROR | x.example. 60 AAAA 2001:db8:f::1"},
	} {
		if got := shownAnswer(s.ask(t, "udp", question(tc.name, dns.StringToType[tc.qtype]))); got != tc.want {
			t.Errorf("%s %s:\n got %s\nwant %s", tc.name, tc.qtype, got, tc.want)
		}
	}
	// A change of the file counts, and one that is gone keeps its content.
	write("10.8.0.9 new.poc.vpn\n")
	expire := func() {
		zone.mu.Lock()
		zone.checked = time.Time{}
		zone.mu.Unlock()
	}
	expire()
	if got := shownAnswer(s.ask(t, "udp", question("new.poc.vpn.", dns.TypeA))); got != "NOERROR AA | new.poc.vpn. 300 A 10.8.0.9" {
		t.Error(got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expire()
	if got := shownAnswer(s.ask(t, "udp", question("new.poc.vpn.", dns.TypeA))); got != "NOERROR AA | new.poc.vpn. 300 A 10.8.0.9" {
		t.Error(got)
	}
}

func TestHostsFilesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range maxHosts + 1 {
		fmt.Fprintf(&b, "10.0.0.1 n%d.z\n", i)
	}
	if _, err := parseHosts([]byte(b.String()), "z."); err == nil {
		t.Error("too many names are accepted")
	}
	h, err := parseHosts([]byte("10.0.0.1 "+strings.Repeat("a.", 200)+"z\n"), "z.")
	if err != nil || len(h.addresses) != 0 {
		t.Errorf("a name that is too long: %v, %v", h, err)
	}
}

func TestCache(t *testing.T) {
	now := time.Unix(1000, 0)
	c := newCache(3, func() time.Time { return now })
	k := func(i int) key { return key{name: fmt.Sprintf("n%d.example.", i), qtype: dns.TypeA} }
	put := func(i int, text string) {
		m, _ := scripted(t, text)
		c.put(k(i), m)
	}
	for _, tc := range []struct {
		text string
		ttl  uint32
	}{
		{"| a.example. 50 IN A 192.0.2.1", 50},
		{"| a.example. 50 IN A 192.0.2.1\n; example. 20 IN NS ns.example.", 20},
		{"| a.example. 999999 IN A 192.0.2.1", maxTTL},
		{"| a.example. 0 IN A 192.0.2.1", 0},
		{"| " + soaExample, 120},
		{"NXDOMAIN | " + soaExample, 120},
		{"NXDOMAIN | ; example. 999999 IN SOA a. b. 1 1 1 1 999999", maxNegativeTTL},
		{"|", 0},
		{"NXDOMAIN |", 0},
		{"| a.example. 50 IN CNAME b.example.", 0},
		{"SERVFAIL |", failureTTL},
		{"REFUSED | a.example. 50 IN A 192.0.2.1", failureTTL},
	} {
		m, _ := scripted(t, tc.text)
		if got := ttlOf(m); got != tc.ttl {
			t.Errorf("%q: TTL %d, want %d", tc.text, got, tc.ttl)
		}
	}
	for i := range 3 {
		put(i, fmt.Sprintf("| n%d.example. 50 IN A 192.0.2.1", i))
	}
	now = now.Add(20 * time.Second)
	if m := c.get(k(0)); m == nil || m.Answer[0].Header().Ttl != 30 {
		t.Errorf("after 20 s: %v", m)
	}
	put(3, "| n3.example. 50 IN A 192.0.2.1") // pushes out the least recent one, 1
	if c.get(k(1)) != nil || c.get(k(0)) == nil || c.length() != 3 {
		t.Errorf("the wrong one was pushed out; %d are left", c.length())
	}
	now = now.Add(30 * time.Second)
	if c.get(k(0)) != nil || c.length() != 2 {
		t.Error("an entry outlives its TTL")
	}
	// Long ones.
	big := new(dns.Msg)
	for range 2000 {
		big.Answer = append(big.Answer, &dns.A{Hdr: header("x.example.", dns.TypeA, 60), A: []byte{1, 2, 3, 4}})
	}
	c.put(k(9), big)
	if c.get(k(9)) != nil {
		t.Error("a response of any length is remembered")
	}
	many := newCache(100000, time.Now)
	many.bytes = 10000
	for i := range 1000 {
		m, _ := scripted(t, "| a.example. 50 IN A 192.0.2.1")
		many.put(k(i), m)
	}
	if many.size > many.bytes || many.length() == 0 {
		t.Errorf("%d bytes in %d entries", many.size, many.length())
	}
}

func TestQueryLog(t *testing.T) {
	var said strings.Builder
	var mu sync.Mutex
	log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &said}, nil))
	s := start(t, Options{Log: log, LogQueries: true})
	s.ask(t, "udp", question("ipv4only.arpa.", dns.TypeAAAA))
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		mu.Lock()
		text := said.String()
		mu.Unlock()
		if strings.Contains(text, "client=127.0.0.1 name=ipv4only.arpa. type=AAAA outcome=well-known rcode=NOERROR") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the log is %q", said.String())
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestOutcomeWords(t *testing.T) {
	words := map[string]bool{}
	for _, o := range Outcomes() {
		if words[o.String()] || o.String() == "" {
			t.Errorf("%d is %q", o, o)
		}
		words[o.String()] = true
	}
}

// FuzzServer answers any message: no panic, and a reply fits and belongs to its
// query.
func FuzzServer(f *testing.F) {
	q := question("four.example.", dns.TypeAAAA)
	q.SetEdns0(600, true)
	b, _ := q.Pack()
	f.Add(b, []byte{1, 2, 3}, true)
	b, _ = question("7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", dns.TypePTR).Pack()
	f.Add(b, []byte{4, 5, 6, 0, 255}, false)
	f.Fuzz(func(t *testing.T, packed, response []byte, tcp bool) {
		query := new(dns.Msg)
		if query.Unpack(packed) != nil {
			return
		}
		// What the upstream resolver says is as hostile as the query.
		m := new(dns.Msg)
		if m.Unpack(slices.Concat(packed[:2], response)) != nil {
			m = new(dns.Msg)
			m.Rcode = int(len(response)) % 16
		}
		s := &Server{options: Options{Rules: mustRules(t, "2001:db8:64::/96", "64:ff9b::/96")}}
		s.resolver = &resolver{running: context.Background(), cache: newCache(10, time.Now), slots: make(chan struct{}, 1), upstream: &upstream{servers: func() []netip.AddrPort { return nil }, now: time.Now, silent: map[netip.AddrPort]time.Time{}}}
		if len(query.Question) == 1 {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, query.Question[0].Qtype} {
				k := key{name: dns.CanonicalName(query.Question[0].Name), qtype: qtype, qclass: query.Question[0].Qclass, do: wantsDNSSEC(query), cd: query.CheckingDisabled, ad: query.AuthenticatedData}
				s.resolver.cache.put(k, cleaned(m.Copy()))
			}
		}
		reply, outcome := s.answer(query, tcp)
		finish(reply, query, tcp)
		out, err := reply.Pack()
		if err != nil {
			// Only a record that cannot be packed again may be the reason.
			if _, again := m.Pack(); again != nil {
				return
			}
			t.Fatalf("%v: %v", reply, err)
		}
		most := dns.MaxMsgSize
		if !tcp {
			most = dns.MinMsgSize
			if opt := query.IsEdns0(); opt != nil {
				most = min(max(int(opt.UDPSize()), most), udpSize)
			}
		}
		if len(out) > most && len(query.Question) <= 1 {
			t.Errorf("%d bytes of at most %d, outcome %v", len(out), most, outcome)
		}
		if reply.Id != query.Id || !reply.Response {
			t.Errorf("%v is no reply to %v", reply, query)
		}
	})
}
