package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv6"
)

// NameIPv4Only is what clients ask for to find PREF64 (RFC 7050).
const NameIPv4Only = "ipv4only.arpa."

// CaptiveIPv6 and CaptiveIPv4 are where a captive portal sends everybody.
var (
	CaptiveIPv6 = RouterIPv6
	CaptiveIPv4 = netip.MustParseAddr("192.0.2.80")
)

// DNS is how a network's resolver behaves. The zero value does DNS64 (RFC
// 6147) with what the network's RAs announce or would announce.
type DNS struct {
	Prefixes []netip.Prefix // of DNS64, instead of the network's: wrong ones, or several
	TTL      time.Duration  // of answers, also negative ones; default 60 s, negative for 0

	// At most one of these. The names are asked for as they are known: the
	// server's, and ipv4only.arpa with its A records (RFC 7050 section 8.2).
	NoDNS64  bool // an ordinary resolver: AAAA has no data, with SOA
	NXDomain bool // ipv4only.arpa does not exist, with SOA
	ServFail bool
	Captive  bool // A and AAAA of any name: CaptiveIPv4, CaptiveIPv6
	Silent   bool // no answer

	Truncate bool // over UDP: no records, TC set

	// Answer, if set, makes the answer itself, any bytes. Nil: no answer.
	Answer func(q Query, query []byte) []byte

	NoRDNSS bool // only for Options.DNS: the RAs do not announce the resolver
}

// Query is a question that a resolver was asked.
type Query struct {
	Time     time.Time
	Name     string // as it came, with the last dot
	Type     dnsmessage.Type
	ID       uint16
	CD, DO   bool // checking disabled; DNSSEC OK
	TCP      bool
	From, To netip.AddrPort
	Length   int // bytes
}

// String tells the query as the last lines of a failed test should.
func (q Query) String() string {
	transport := "UDP"
	if q.TCP {
		transport = "TCP"
	}
	return fmt.Sprintf("%s %s %s to %s", strings.TrimPrefix(q.Type.String(), "Type"), q.Name, transport, q.To)
}

// resolver serves DNS on a host and remembers what it was asked.
type resolver struct {
	pref64 func() []netip.Prefix

	mu        sync.Mutex
	behaviour DNS
	queries   []Query
}

// startResolver serves DNS on all IPv6 addresses of the router, link-local
// ones too. Without Options.DNS nobody listens.
func (n *Network) startResolver(life context.Context) error {
	o := n.options.DNS
	if o == nil {
		return nil
	}
	r := &resolver{behaviour: *o, pref64: n.allPREF64}
	n.resolver = r
	err := n.Router.Do(func() error {
		pc, err := net.ListenPacket("udp6", fmt.Sprintf(":%d", PortDNS))
		if err != nil {
			return err
		}
		conn := ipv6.NewPacketConn(pc)
		n.lab.until(life, pc, func() { r.serveUDP(conn) })
		if err := conn.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true); err != nil {
			return err
		}
		ln, err := net.Listen("tcp6", fmt.Sprintf(":%d", PortDNS))
		if err != nil {
			return err
		}
		n.lab.until(life, ln, func() { r.serveTCP(life, ln) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("resolver of %s: %w", n.Name, err)
	}
	return nil
}

// SetDNS changes how the network's resolver behaves from now on. There must be
// one: Options.DNS.
func (r *resolver) SetDNS(d DNS) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behaviour = d
}

// Queries returns what the network's resolver has been asked so far, oldest
// first.
func (r *resolver) Queries() []Query {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.queries)
}

func (r *resolver) serveUDP(conn *ipv6.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, cm, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || cm == nil {
			continue // an ICMP error about an earlier answer
		}
		to, _ := netip.AddrFromSlice(cm.Dst)
		q := Query{From: from.(*net.UDPAddr).AddrPort(), To: netip.AddrPortFrom(to, PortDNS)}
		if out := r.answer(q, buf[:n]); out != nil {
			// From the address that was asked, which routing need not choose.
			conn.WriteTo(out, &ipv6.ControlMessage{Src: cm.Dst, IfIndex: cm.IfIndex}, from)
		}
	}
}

// serveTCP serves DNS over TCP (RFC 7766) until life ends.
func (r *resolver) serveTCP(life context.Context, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			defer context.AfterFunc(life, func() { conn.Close() })()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			q := Query{
				TCP:  true,
				From: conn.RemoteAddr().(*net.TCPAddr).AddrPort(), To: conn.LocalAddr().(*net.TCPAddr).AddrPort(),
			}
			answerStream(conn, func(query []byte) []byte { return r.answer(q, query) })
		}()
	}
}

// answerStream answers the queries of one TCP connection, each behind its
// length, until there is no answer.
func answerStream(conn io.ReadWriter, answer func(query []byte) []byte) {
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		out := answer(query)
		if out == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}

// answer notes a query and answers it; nil is no answer. q says how it came.
func (r *resolver) answer(q Query, query []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || m.Response || len(m.Questions) != 1 {
		return nil
	}
	question := m.Questions[0]
	q.Time, q.ID, q.Length = time.Now(), m.ID, len(query)
	q.Name, q.Type, q.CD = question.Name.String(), question.Type, m.CheckingDisabled
	for _, rr := range m.Additionals {
		if rr.Header.Type == dnsmessage.TypeOPT {
			q.DO = rr.Header.DNSSECAllowed()
		}
	}
	r.mu.Lock()
	r.queries = append(r.queries, q)
	d := r.behaviour
	r.mu.Unlock()
	switch {
	case d.Answer != nil:
		return d.Answer(q, query)
	case d.Silent:
		return nil
	}
	if d.Prefixes == nil {
		d.Prefixes = r.pref64()
	}
	if q.CD && q.DO { // whoever validates does not want it (RFC 6147 section 5.5)
		d.NoDNS64 = true
	}
	reply := d.reply(m.Header, question)
	out, err := reply.Pack()
	if err == nil && !q.TCP && (d.Truncate || len(out) > udpLimit(query)) {
		reply.Answers, reply.Authorities, reply.Truncated = nil, nil, true
		out, err = reply.Pack()
	}
	if err != nil {
		return nil
	}
	return out
}

// known are the IPv4 addresses of the names that resolvers know.
var known = map[string][]netip.Addr{
	NameServer:   {ServerIPv4},
	NameIPv4Only: {netip.MustParseAddr("192.0.0.170"), netip.MustParseAddr("192.0.0.171")},
}

// reply answers a question by the book, apart from what d says.
func (d DNS) reply(header dnsmessage.Header, q dnsmessage.Question) dnsmessage.Message {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, OpCode: header.OpCode,
			RecursionDesired: header.RecursionDesired, RecursionAvailable: true, CheckingDisabled: header.CheckingDisabled,
		},
		Questions: []dnsmessage.Question{q},
	}
	switch {
	case d.TTL == 0:
		d.TTL = time.Minute
	case d.TTL < 0:
		d.TTL = 0
	}
	name := strings.ToLower(q.Name.String())
	rr := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: uint32(d.TTL / time.Second)}
	var v6 []netip.Addr
	v4, exists := known[name]
	switch {
	case d.ServFail:
		m.RCode = dnsmessage.RCodeServerFailure
		return m
	case d.Captive:
		v4, v6, exists = []netip.Addr{CaptiveIPv4}, []netip.Addr{CaptiveIPv6}, true
	case d.NXDomain && name == NameIPv4Only:
		exists = false
	case !d.NoDNS64:
		for _, p := range d.Prefixes {
			for _, a := range v4 {
				v6 = append(v6, Synthesize(p, a))
			}
		}
	}
	switch {
	case !exists:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		for _, a := range v4 {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: rr, Body: &dnsmessage.AResource{A: a.As4()}})
		}
	case q.Type == dnsmessage.TypeAAAA:
		for _, a := range v6 {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: rr, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	if len(m.Answers) == 0 { // RFC 2308: how long to believe it
		zone := rr
		if _, parent, ok := strings.Cut(name, "."); ok && parent != "" {
			zone.Name = dnsmessage.MustNewName(parent)
		}
		m.Authorities = []dnsmessage.Resource{{Header: zone, Body: &dnsmessage.SOAResource{
			NS: dnsmessage.MustNewName("ns.example."), MBox: dnsmessage.MustNewName("hostmaster.example."),
			Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, MinTTL: rr.TTL,
		}}}
	}
	return m
}
