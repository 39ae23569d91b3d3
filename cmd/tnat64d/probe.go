package main

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

const (
	probePatience = 3 * time.Second // for an answer
	probeAgain    = time.Second     // after which an echo request is repeated
)

// probeText is what an echo request of ours carries.
const probeText = "tnat64d: does the NAT64 answer?"

// probeWay is how probes are sent: through a CLAT, or natively to what is
// behind a PREF64.
type probeWay struct {
	device string
	source netip.Addr   // of the CLAT; invalid: the host chooses
	pref64 netip.Prefix // invalid: through the CLAT
	once   bool         // an echo request is not repeated
}

// probe asks the targets by ICMP echo, and those with a port by a TCP
// connection as well, and reports whether anybody answers: by a reply, or by
// accepting or refusing the connection. ICMP errors are no answers.
func (w probeWay) probe(ctx context.Context, targets []target) bool {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	answers := make(chan bool)
	n := 0
	start := func(f func() bool) {
		n++
		go func() { answers <- f() }()
	}
	for _, t := range targets {
		to := t.addr
		if w.pref64.IsValid() {
			p, err := siit.NewPrefix(w.pref64)
			if err != nil {
				continue
			}
			to = p.Embed(t.addr)
		}
		start(func() bool { return w.echo(ctx, to) })
		if t.port != 0 {
			start(func() bool { return w.connect(ctx, netip.AddrPortFrom(to, t.port)) })
		}
	}
	answered := false
	for range n {
		if <-answers {
			answered = true
			cancel()
		}
	}
	return answered
}

func (w probeWay) control(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), w.device) }), err)
}

// connect reports whether a connection is accepted or refused. It is reset at
// once.
func (w probeWay) connect(ctx context.Context, to netip.AddrPort) bool {
	d := net.Dialer{Control: w.control}
	if w.source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.source, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return errors.Is(err, unix.ECONNREFUSED)
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	return true
}

// echo reports whether an echo request is replied to.
func (w probeWay) echo(ctx context.Context, to netip.Addr) bool {
	network, local := "ip6:"+strconv.Itoa(unix.IPPROTO_ICMPV6), "::"
	var request icmp.Message
	body := &icmp.Echo{ID: int(rand.Uint32() & 0xffff), Seq: 1, Data: []byte(probeText)}
	reply := byte(ipv6.ICMPTypeEchoReply)
	request = icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: body}
	if to.Is4() {
		network, local, reply = "ip4:icmp", w.source.String(), byte(ipv4.ICMPTypeEchoReply)
		request = icmp.Message{Type: ipv4.ICMPTypeEcho, Body: body}
	}
	config := net.ListenConfig{Control: w.control}
	conn, err := config.ListenPacket(ctx, network, local)
	if err != nil {
		return false
	}
	defer conn.Close()
	if to.Is6() {
		var only ipv6.ICMPFilter
		only.SetAll(true)
		only.Accept(ipv6.ICMPTypeEchoReply)
		if ipv6.NewPacketConn(conn).SetICMPFilter(&only) != nil {
			return false
		}
	}
	b, err := request.Marshal(nil) // the kernel fills in the ICMPv6 checksum
	if err != nil {
		return false
	}
	deadline, _ := ctx.Deadline()
	buf := make([]byte, 1500)
	for first := true; first || !w.once && ctx.Err() == nil && time.Now().Before(deadline); first = false {
		if _, err := conn.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return false
		}
		again := time.Now().Add(probeAgain)
		for seen := 0; time.Now().Before(again) && ctx.Err() == nil; seen++ {
			conn.SetReadDeadline(again)
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				break
			}
			if a, ok := from.(*net.IPAddr); ok && n >= 8 && buf[0] == reply && net.IP(to.AsSlice()).Equal(a.IP) &&
				int(binary.BigEndian.Uint16(buf[4:])) == body.ID {
				return true
			}
			if seen > maxUnrelated {
				return false
			}
		}
	}
	return false
}

// maxUnrelated bounds the packets that are read while an answer is awaited: a
// raw socket gets the echo replies of everybody.
const maxUnrelated = 1024
