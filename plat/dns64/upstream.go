package dns64

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize = 1232 // the message size over UDP that fits every IPv6 link (DNS flag day 2020)

	// Of one lookup: resolvers such as glibc's wait 5 s.
	lookupTimeout  = 4 * time.Second
	firstTimeout   = 1 * time.Second // of the first attempt at each upstream resolver
	anotherTimeout = 2 * time.Second // of the second
	tcpTimeout     = 2 * time.Second

	// restTime is how long an upstream resolver that did not answer is asked
	// after the others.
	restTime = 10 * time.Second
)

var errNoUpstream = errors.New("there is no upstream resolver")

// upstream asks resolvers in order. Safe for concurrent use.
type upstream struct {
	servers func() []netip.AddrPort
	now     func() time.Time

	mu     sync.Mutex
	silent map[netip.AddrPort]time.Time // when a server did not answer
}

// exchange asks the resolvers in their order, twice, until one has an answer or
// says that the name does not exist. Any other RCODE is passed on only where
// nobody has an answer.
func (u *upstream) exchange(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	servers := u.order()
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	var refused *dns.Msg
	var last error
	for _, timeout := range []time.Duration{firstTimeout, anotherTimeout} {
		answered := 0
		for _, server := range servers {
			m, err := ask(ctx, server, query, timeout)
			if ctx.Err() != nil && err != nil {
				u.mark(server, true)
				if refused != nil {
					return refused, nil
				}
				return nil, err
			}
			u.mark(server, err != nil)
			switch {
			case err != nil:
				last = err
				continue
			case m.Rcode == dns.RcodeSuccess, m.Rcode == dns.RcodeNameError:
				return m, nil
			case refused == nil:
				refused = m
			}
			answered++
		}
		if answered == len(servers) {
			break // asking again would not change their minds
		}
	}
	if refused != nil {
		return refused, nil
	}
	return nil, last
}

// order returns the resolvers with those that were silent lately at the end.
func (u *upstream) order() []netip.AddrPort {
	all := u.servers()
	u.mu.Lock()
	defer u.mu.Unlock()
	var ready, resting []netip.AddrPort
	for _, s := range all {
		if at, ok := u.silent[s]; ok && u.now().Sub(at) < restTime {
			resting = append(resting, s)
		} else {
			ready = append(ready, s)
		}
	}
	return append(ready, resting...)
}

// maxSilent bounds the table of resolvers: resolv.conf may name others again
// and again.
const maxSilent = 64

func (u *upstream) mark(server netip.AddrPort, silent bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !silent {
		delete(u.silent, server)
		return
	}
	if len(u.silent) >= maxSilent {
		clear(u.silent)
	}
	u.silent[server] = u.now()
}

// ask sends query to one resolver, over UDP and where the answer does not fit
// over TCP.
func ask(ctx context.Context, server netip.AddrPort, query *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	m, err := askOver(ctx, "udp", server, query, timeout)
	if err == nil && m.Truncated {
		m, err = askOver(ctx, "tcp", server, query, tcpTimeout)
	}
	if err == nil && m.Rcode == dns.RcodeFormatError && query.IsEdns0() != nil && m.IsEdns0() == nil {
		// RFC 6891 section 6.2.2: it does not know EDNS.
		plain := query.Copy()
		plain.Extra = nil
		m, err = askOver(ctx, "udp", server, plain, timeout)
		if err == nil && m.Truncated {
			m, err = askOver(ctx, "tcp", server, plain, tcpTimeout)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%v does not answer: %w", server, err)
	}
	return m, nil
}

func askOver(ctx context.Context, network string, server netip.AddrPort, query *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// A query of its own: the identifier is new (RFC 5452), and so is the port
	// of the socket.
	q := *query
	q.Id = dns.Id()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, byIndex(server).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if network == "udp" {
		return exchangeUDP(conn, &q)
	}
	framed := dns.Conn{Conn: conn}
	if err := framed.WriteMsg(&q); err != nil {
		return nil, err
	}
	m, err := framed.ReadMsg()
	if err == nil && !answers(m, &q) {
		err = errOtherQuestion
	}
	return m, err
}

// byIndex names the link of a link-local address by its index: package net remembers
// for a minute which index a name has, also when the interface has been made again.
func byIndex(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Zone() == "" {
		return a
	}
	i, err := net.InterfaceByName(a.Addr().Zone())
	if err != nil {
		return a
	}
	return netip.AddrPortFrom(a.Addr().WithZone(strconv.Itoa(i.Index)), a.Port())
}

var errOtherQuestion = errors.New("the response is to another question")

// exchangeUDP sends q and returns its answer. It passes over every other datagram
// (RFC 5452 section 9.1): anybody may send those in the name of the resolver, and
// must not end the exchange. An answer that is longer than q permits is returned as
// a truncated one.
func exchangeUDP(conn net.Conn, q *dns.Msg) (*dns.Msg, error) {
	packed, err := q.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	buffer := make([]byte, udpSize+1)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		m := new(dns.Msg)
		malformed := m.Unpack(buffer[:n]) // the header and the question may be whole even so
		switch {
		case !answers(m, q):
		case n == len(buffer):
			m.Truncated = true
			return m, nil
		case malformed != nil:
			return nil, fmt.Errorf("malformed response: %w", malformed)
		default:
			return m, nil
		}
	}
}

// answers reports whether m is a response to q. Its question may be written in
// other letters.
func answers(m, q *dns.Msg) bool {
	return m.Response && m.Id == q.Id && len(m.Question) == 1 && sameQuestion(m.Question[0], q.Question[0])
}

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}
