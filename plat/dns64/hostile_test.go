package dns64

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// deceiver is a resolver that sends what it likes before its answer over UDP. Names
// select what: see TestHostileUpstream.
func deceiver(t testing.TB, before func(q *dns.Msg) [][]byte) *fakeUpstream {
	udp, tcp := bindFree(t)
	answer := func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.AAAA{Hdr: header(q.Question[0].Name, dns.TypeAAAA, 60), AAAA: net.ParseIP("2001:db8::1")}}
		return m
	}
	s := &dns.Server{Listener: tcp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(answer(q)) })}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go s.ActivateAndServe()
	<-started
	t.Cleanup(func() { s.Shutdown(); udp.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(b[:n]) != nil {
				continue
			}
			for _, datagram := range before(q) {
				udp.WriteTo(datagram, from)
			}
			if packed, err := answer(q).Pack(); err == nil && !strings.HasPrefix(q.Question[0].Name, "only.") {
				udp.WriteTo(packed, from)
			}
		}
	}()
	return &fakeUpstream{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// TestHostileUpstream has others send datagrams in the name of the resolver: the
// answer that comes after them counts. A resolver that ignores the size that fits is
// asked over TCP.
func TestHostileUpstream(t *testing.T) {
	pack := func(m *dns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return b
	}
	forged := func(q *dns.Msg, change func(m *dns.Msg)) [][]byte {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.AAAA{Hdr: header(q.Question[0].Name, dns.TypeAAAA, 60), AAAA: net.ParseIP("2001:db8:bad::")}}
		change(m)
		return [][]byte{pack(m)}
	}
	for _, c := range []struct {
		name   string
		before func(q *dns.Msg) [][]byte
	}{
		{"nothing", func(*dns.Msg) [][]byte { return nil }},
		{"garbage", func(*dns.Msg) [][]byte { return [][]byte{{}, {1}, make([]byte, 11), make([]byte, 4000)} }},
		{"another identifier", func(q *dns.Msg) [][]byte { return forged(q, func(m *dns.Msg) { m.Id++ }) }},
		{"another name", func(q *dns.Msg) [][]byte {
			return forged(q, func(m *dns.Msg) { m.Question[0].Name = "other.example." })
		}},
		{"another type", func(q *dns.Msg) [][]byte { return forged(q, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }) }},
		{"no question", func(q *dns.Msg) [][]byte { return forged(q, func(m *dns.Msg) { m.Question = nil }) }},
		{"a query", func(q *dns.Msg) [][]byte { return forged(q, func(m *dns.Msg) { m.Response = false }) }},
		{"cut off without the identifier", func(q *dns.Msg) [][]byte {
			b := forged(q, func(m *dns.Msg) { m.Id++ })[0]
			return [][]byte{b[:len(b)-5]}
		}},
		{"many", func(q *dns.Msg) (all [][]byte) {
			for i := range 100 {
				all = append(all, forged(q, func(m *dns.Msg) { m.Id += uint16(i + 1) })...)
			}
			return all
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Options{}, deceiver(t, c.before))
			m := s.ask(t, "udp", question("x.example.", dns.TypeAAAA))
			if got := shownAnswer(m); !strings.Contains(got, "2001:db8::1") {
				t.Error(got)
			}
		})
	}
	t.Run("longer than permitted", func(t *testing.T) {
		t.Parallel()
		s := start(t, Options{}, deceiver(t, func(q *dns.Msg) [][]byte {
			return forged(q, func(m *dns.Msg) {
				for i := range 100 {
					m.Answer = append(m.Answer, &dns.TXT{Hdr: header(fmt.Sprintf("%d.x.example.", i), dns.TypeTXT, 60), Txt: []string{strings.Repeat("x", 200)}})
				}
			})
		}))
		if got := shownAnswer(s.ask(t, "udp", question("only.x.example.", dns.TypeAAAA))); !strings.Contains(got, "2001:db8::1") {
			t.Error(got)
		}
	})
	// What is in an answer beside the name asked for is nobody's answer.
	t.Run("other names in the answer", func(t *testing.T) {
		t.Parallel()
		s := start(t, Options{CacheEntries: 10}, newUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			if q.Question[0].Name == "x.example." {
				bad := &dns.AAAA{Hdr: header("victim.example.", dns.TypeAAAA, 60), AAAA: net.ParseIP("2001:db8:bad::")}
				m.Answer, m.Extra, m.Ns = []dns.RR{bad}, []dns.RR{bad}, []dns.RR{bad}
			}
			return m
		}))
		s.ask(t, "udp", question("x.example.", dns.TypeAAAA))
		if got := shownAnswer(s.ask(t, "udp", question("victim.example.", dns.TypeAAAA))); strings.Contains(got, "bad") {
			t.Error(got)
		}
	})
	// A TCP server that takes the query and says nothing, or never ends its message.
	t.Run("TCP that stalls", func(t *testing.T) {
		t.Parallel()
		for _, says := range []string{"", "\xff\xff\x00"} {
			udp, tcp := bindFree(t)
			t.Cleanup(func() { udp.Close(); tcp.Close() })
			go func() {
				b := make([]byte, 4096)
				for {
					n, from, err := udp.ReadFrom(b)
					if err != nil {
						return
					}
					b[2] |= 0x82 // a truncated response
					udp.WriteTo(b[:n], from)
				}
			}()
			go func() {
				for {
					c, err := tcp.Accept()
					if err != nil {
						return
					}
					t.Cleanup(func() { c.Close() })
					c.Write([]byte(says))
				}
			}()
			s := start(t, Options{}, &fakeUpstream{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()})
			if m := s.ask(t, "udp", question("x.example.", dns.TypeAAAA)); m.Rcode != dns.RcodeServerFailure {
				t.Error(shownAnswer(m))
			}
		}
	})
}

// TestLetterCase echoes the letters of the question (draft-vixie-dnsext-dns0x20), also
// where the answer comes from the cache or a local zone.
func TestLetterCase(t *testing.T) {
	s := start(t, Options{CacheEntries: 10}, newUpstream(t, func(q *dns.Msg, _ bool) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: header(q.Question[0].Name, dns.TypeA, 60), A: []byte{192, 0, 2, 1}}}
		}
		return m
	}))
	for _, name := range []string{"wWw.ExAmple.", "www.example.", "WWW.EXAMPLE.", "IPv4Only.ARPA."} {
		m := s.ask(t, "udp", question(name, dns.TypeAAAA))
		if m.Question[0].Name != name || len(m.Answer) == 0 || !strings.EqualFold(m.Answer[0].Header().Name, name) {
			t.Errorf("%s: %v", name, m)
		}
	}
}

// TestClientThatNeverReads sends queries over TCP without reading an answer: its
// connection ends, and meanwhile others are answered.
func TestClientThatNeverReads(t *testing.T) {
	long := make([]string, 250)
	for i := range long {
		long[i] = strings.Repeat("x", 200)
	}
	s := start(t, Options{CacheEntries: 10}, newUpstream(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Truncated = !tcp
		if tcp {
			m.Answer = []dns.RR{&dns.TXT{Hdr: header(q.Question[0].Name, dns.TypeTXT, 60), Txt: long}}
		}
		return m
	}))
	c, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(4096)
	packed, err := question("x.example.", dns.TypeTXT).Pack()
	if err != nil {
		t.Fatal(err)
	}
	packed = append([]byte{0, byte(len(packed))}, packed...)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c.SetWriteDeadline(time.Now().Add(time.Minute))
			if _, err := c.Write(packed); err != nil {
				return
			}
		}
	}()
	for range 20 {
		if m := s.ask(t, "tcp", question("x.example.", dns.TypeTXT)); len(m.Answer) != 1 {
			t.Error(shownAnswer(m))
		}
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the connection does not end")
	}
}

// TestUpstreamIsItself has a DNS64 ask itself: the question ends with a failure, and
// other questions are answered.
func TestUpstreamIsItself(t *testing.T) {
	udp, tcp := bindFree(t)
	self := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	udp.Close()
	tcp.Close()
	s := start(t, Options{}, &fakeUpstream{addr: self})
	other := start(t, Options{}, &fakeUpstream{addr: s.addr})
	s.options.Upstream = nil
	s.resolver.upstream.servers = func() []netip.AddrPort { return []netip.AddrPort{other.addr} }
	begin := s.Stats()
	if m := s.ask(t, "udp", question("x.example.", dns.TypeAAAA)); m.Rcode != dns.RcodeServerFailure {
		t.Error(shownAnswer(m))
	}
	var n uint64
	for i, after := range s.Stats().Outcomes {
		n += after - begin.Outcomes[i]
	}
	if n > 20 {
		t.Errorf("one question has become %d", n)
	}
	if m := s.ask(t, "udp", question("ipv4only.arpa.", dns.TypeAAAA)); len(m.Answer) == 0 {
		t.Error(shownAnswer(m))
	}
}
