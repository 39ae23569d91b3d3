package lab

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
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

func dnsUDP(conn *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		if out := answer(buf[:n], udpLimit(buf[:n])); out != nil {
			conn.WriteTo(out, from)
		}
	}
}

// dnsTCP serves DNS over TCP (RFC 7766): each message behind its length.
func dnsTCP(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			answerStream(conn)
		}()
	}
}

// answerStream answers the queries of one TCP connection.
func answerStream(conn io.ReadWriter) {
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		out := answer(query, 1<<16-1)
		if out == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}
