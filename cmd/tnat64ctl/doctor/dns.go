package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"tnat64d/pref64"
)

const (
	dnsTries   = 3
	dnsWait    = 800 * time.Millisecond // after each
	maxServers = 4                      // that are asked, of each kind
)

var ipv4only = dnsmessage.MustNewName("ipv4only.arpa.")

// askAll asks all servers at once. Questions leave by the interface ifindex
// unless it is 0.
func askAll(ctx context.Context, servers []Server, ifindex int) {
	var all sync.WaitGroup
	for i := range servers {
		all.Go(func() { servers[i].Answer = ask(ctx, servers[i].Address, ifindex) })
	}
	all.Wait()
}

// ask asks a server for the AAAA records of ipv4only.arpa, with the CD bit
// clear, as a DNS64 would not synthesise otherwise (RFC 7050 section 3). Package
// pref64 asks until it knows a prefix; here each server's own answer matters,
// also of those that are not the link's, and what it says instead of a prefix.
func ask(ctx context.Context, server netip.Addr, ifindex int) Answer {
	id := uint16(rand.Uint32())
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: ipv4only, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}},
	}
	packed, err := query.Pack()
	if err != nil {
		return Answer{Kind: Silent, Problems: err.Error()}
	}
	d := net.Dialer{Timeout: dnsWait, Control: func(_, _ string, c syscall.RawConn) error {
		if ifindex == 0 {
			return nil
		}
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex)
		})
		return errors.Join(cerr, err)
	}}
	to := netip.AddrPortFrom(server, 53).String()
	m, err := askUDP(ctx, d, to, packed, id)
	if err == nil && m.Truncated {
		m, err = askTCP(ctx, d, to, packed, id)
	}
	if err != nil {
		return Answer{Kind: Silent, Problems: reasonOf(err)}
	}
	return understand(m)
}

func reasonOf(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.Canceled) {
		return "no answer in time"
	}
	return err.Error()
}

func askUDP(ctx context.Context, d net.Dialer, to string, query []byte, id uint16) (m dnsmessage.Message, err error) {
	c, err := d.DialContext(ctx, "udp", to)
	if err != nil {
		return m, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for range dnsTries {
		if ctx.Err() != nil {
			break
		}
		c.SetDeadline(time.Now().Add(dnsWait))
		if _, err = c.Write(query); err != nil {
			return m, err
		}
		for {
			var n int
			if n, err = c.Read(buf); err != nil {
				break
			}
			if m, err := unpack(buf[:n], id); err == nil {
				return m, nil
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			return m, err
		}
	}
	return m, err
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func askTCP(ctx context.Context, d net.Dialer, to string, query []byte, id uint16) (m dnsmessage.Message, err error) {
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return m, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * dnsWait))
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return m, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return m, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, answer); err != nil {
		return m, err
	}
	return unpack(answer, id)
}

var errOther = errors.New("the answer is to another question")

// unpack reads the answer to our question.
func unpack(b []byte, id uint16) (dnsmessage.Message, error) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return m, err
	}
	if m.ID != id || !m.Response || len(m.Questions) != 1 ||
		!strings.EqualFold(m.Questions[0].Name.String(), ipv4only.String()) || m.Questions[0].Type != dnsmessage.TypeAAAA {
		return m, errOther
	}
	return m, nil
}

// understand says what the answer m means.
func understand(m dnsmessage.Message) Answer {
	if m.RCode != dnsmessage.RCodeSuccess && m.RCode != dnsmessage.RCodeNameError {
		return Answer{Kind: Silent, Problems: "it says " + strings.TrimPrefix(m.RCode.String(), "RCode")}
	}
	var a Answer
	var addrs []netip.Addr
	for _, rr := range m.Answers {
		if aaaa, ok := rr.Body.(*dnsmessage.AAAAResource); ok && len(addrs) < maxAddresses {
			addrs = append(addrs, netip.AddrFrom16(aaaa.AAAA))
		}
	}
	for _, addr := range addrs {
		if p, ok := prefixIn(addr); ok {
			a.PREF64 = union(a.PREF64, []netip.Prefix{p})
		}
	}
	switch {
	case len(a.PREF64) > 0:
		a.Kind = DNS64
	case len(addrs) > 0:
		a.Kind, a.Address = Elsewhere, addrs
	default:
		a.Kind = Negative
	}
	return a
}

const maxAddresses = 8 // of an answer that are looked at

// wellKnown are the addresses of ipv4only.arpa (RFC 7050 section 2.2).
var wellKnown = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// prefixIn returns the prefix under which one of the well-known addresses
// stands in a. If there are two ways to read it, it is not read at all.
func prefixIn(a netip.Addr) (netip.Prefix, bool) {
	var found []netip.Prefix
	for _, bits := range []int{96, 64, 56, 48, 40, 32} {
		p, err := pref64.Check(netip.PrefixFrom(a, bits))
		if err == nil && slices.ContainsFunc(wellKnown, func(w netip.Addr) bool { return synthesize(p, w) == a }) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return netip.Prefix{}, false
	}
	return found[0], true
}
