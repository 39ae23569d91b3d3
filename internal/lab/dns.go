package lab

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// The names that the server's DNS knows (RFC 2606 reserves the domain).
const (
	NameServer = "server.example." // A 198.51.100.7
	NameBig    = "big.example."    // TXT, longer than a UDP answer without EDNS, and than one Ethernet frame
)

const bigStrings = 12 // of 250 bytes each

// answer returns the DNS response to query, cut short with TC set if it is
// longer than limit, or nil if the query cannot be read.
func answer(query []byte, limit int) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil || header.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, OpCode: header.OpCode,
			Authoritative: true, RecursionDesired: header.RecursionDesired,
		},
		Questions: []dnsmessage.Question{q},
	}
	rr := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
	switch name := strings.ToLower(q.Name.String()); {
	case name != NameServer && name != NameBig:
		reply.RCode = dnsmessage.RCodeNameError
	case name == NameServer && q.Type == dnsmessage.TypeA:
		reply.Answers = []dnsmessage.Resource{{Header: rr, Body: &dnsmessage.AResource{A: ServerIPv4.As4()}}}
	case name == NameBig && q.Type == dnsmessage.TypeTXT:
		var txt dnsmessage.TXTResource
		for range bigStrings {
			txt.TXT = append(txt.TXT, strings.Repeat("clat and ", 27)+"plat...")
		}
		reply.Answers = []dnsmessage.Resource{{Header: rr, Body: &txt}}
	}
	out, err := reply.Pack()
	if err == nil && len(out) > limit {
		reply.Answers, reply.Truncated = nil, true
		out, err = reply.Pack()
	}
	if err != nil {
		return nil
	}
	return out
}

// udpLimit returns how long an answer over UDP may be: 512 bytes, or what the
// query's OPT record offers (RFC 6891 section 6.2.3).
func udpLimit(query []byte) int {
	var m dnsmessage.Message
	if m.Unpack(query) == nil {
		for _, rr := range m.Additionals {
			if rr.Header.Type == dnsmessage.TypeOPT {
				return max(512, int(rr.Header.Class))
			}
		}
	}
	return 512
}

// serverDNS is the server's DNS, and what it was asked.
type serverDNS struct {
	mu      sync.Mutex
	queries []Query
}

// ServerQueries returns what the server's own DNS has been asked so far,
// oldest first. A VPN's resolver is that one: Query.To tells them apart.
func (s *serverDNS) ServerQueries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

// answer notes a query and answers it.
func (s *serverDNS) answer(q Query, query []byte, limit int) []byte {
	var p dnsmessage.Parser
	if header, err := p.Start(query); err == nil {
		if question, err := p.Question(); err == nil {
			q.Time, q.ID, q.Length = time.Now(), header.ID, len(query)
			q.Name, q.Type, q.CD = question.Name.String(), question.Type, header.CheckingDisabled
			s.mu.Lock()
			s.queries = append(s.queries, q)
			s.mu.Unlock()
		}
	}
	return answer(query, limit)
}

// serveUDP answers from the address that was asked.
func (s *serverDNS) serveUDP(conn *net.UDPConn) {
	read, write := withDestination(conn)
	buf := make([]byte, 4096)
	for {
		n, asked, from, err := read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		to, _ := netip.AddrFromSlice(asked)
		q := Query{From: from.(*net.UDPAddr).AddrPort(), To: netip.AddrPortFrom(to.Unmap(), PortDNS)}
		if out := s.answer(q, buf[:n], udpLimit(buf[:n])); out != nil {
			write(out, asked, from)
		}
	}
}

// withDestination returns functions that read datagrams together with the
// address they came to, and write them from an address.
func withDestination(conn *net.UDPConn) (
	read func([]byte) (n int, dst net.IP, from net.Addr, err error),
	write func(b []byte, src net.IP, to net.Addr) (int, error),
) {
	if conn.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
		c := ipv4.NewPacketConn(conn)
		c.SetControlMessage(ipv4.FlagDst, true)
		read = func(b []byte) (n int, dst net.IP, from net.Addr, err error) {
			n, cm, from, err := c.ReadFrom(b)
			if cm != nil {
				dst = cm.Dst
			}
			return n, dst, from, err
		}
		return read, func(b []byte, src net.IP, to net.Addr) (int, error) {
			return c.WriteTo(b, &ipv4.ControlMessage{Src: src}, to)
		}
	}
	c := ipv6.NewPacketConn(conn)
	c.SetControlMessage(ipv6.FlagDst, true)
	read = func(b []byte) (n int, dst net.IP, from net.Addr, err error) {
		n, cm, from, err := c.ReadFrom(b)
		if cm != nil {
			dst = cm.Dst
		}
		return n, dst, from, err
	}
	return read, func(b []byte, src net.IP, to net.Addr) (int, error) {
		return c.WriteTo(b, &ipv6.ControlMessage{Src: src}, to)
	}
}

// serveTCP serves DNS over TCP (RFC 7766).
func (s *serverDNS) serveTCP(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			q := Query{
				TCP:  true,
				From: conn.RemoteAddr().(*net.TCPAddr).AddrPort(), To: conn.LocalAddr().(*net.TCPAddr).AddrPort(),
			}
			answerStream(conn, func(query []byte) []byte { return s.answer(q, query, 1<<16-1) })
		}()
	}
}
