package pref64

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// maxRA is the longest RA that is read, in bytes. RFC 6980 forbids fragmented
// ones, so that the link's MTU is the limit; this is the largest common one.
const maxRA = 9216

var allRoutersAddr = &net.IPAddr{IP: net.ParseIP("ff02::2")}

// rawConn receives the RAs of one interface and sends Router Solicitations. It
// needs CAP_NET_RAW, and works whether or not the kernel accepts RAs.
//
// The kernel verifies the ICMPv6 checksum of what a raw ICMPv6 socket receives
// and computes that of what it sends (RFC 3542 section 3.1). The all-nodes
// group needs no joining: the kernel is in it on every interface.
type rawConn struct {
	conn    *net.IPConn
	packets *ipv6.PacketConn
	buf     []byte
	oob     []byte
	ifindex int
}

func openRaw(ctx context.Context, ifindex int) (*rawConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = errors.Join(
				withoutOwn(int(fd)),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVFRAGSIZE, 1),
			)
		})
		return errors.Join(cerr, err)
	}}
	pc, err := lc.ListenPacket(ctx, "ip6:58", "::")
	if err != nil {
		return nil, fmt.Errorf("raw ICMPv6 socket: %w", err)
	}
	c := &rawConn{
		conn:    pc.(*net.IPConn),
		packets: ipv6.NewPacketConn(pc),
		buf:     make([]byte, maxRA),
		oob:     make([]byte, 256),
		ifindex: ifindex,
	}
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterAdvertisement)
	err = errors.Join(
		c.packets.SetICMPFilter(&only),
		c.packets.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true),
	)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("raw ICMPv6 socket: %w", err)
	}
	return c, nil
}

// withoutOwn keeps the socket from receiving what this host multicasts, as one that
// is a router on the interface does. The kernel ignores such RAs too.
func withoutOwn(fd int) error {
	const everything = 1<<32 - 1
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_LOOPBACK, SkipTrue: 1},
		bpf.RetConstant{Val: everything},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

func (c *rawConn) close() { c.conn.Close() }

// read waits for a packet and returns what it tells: nothing if it came before
// the socket was set up and is something else.
func (c *rawConn) read() (Report, error) {
	n, oobn, flags, from, err := c.conn.ReadMsgIP(c.buf, c.oob)
	if err != nil {
		return Report{}, err
	}
	var cm ipv6.ControlMessage
	if err := cm.Parse(c.oob[:oobn]); err != nil || cm.IfIndex != c.ifindex {
		return Report{}, nil
	}
	if n > 0 && c.buf[0] != typeRouterAdvertisement {
		return Report{}, nil
	}
	src, _ := netip.AddrFromSlice(from.IP)
	ra, reason := ParseRA(src, cm.HopLimit, c.buf[:n])
	switch {
	case fragmented(c.oob[:oobn]):
		reason = Fragmented
	case flags&unix.MSG_TRUNC != 0:
		reason = TooLong
	}
	if reason != None {
		return Report{Ignored: []Ignored{{Reason: reason, Router: src}}}, nil
	}
	return ra.report(c.ifindex, time.Now()), nil
}

// fragmented reports whether the packet was put together from fragments, or
// had a Fragment Header at all. Fragments get past the guards in switches
// (RFC 6980 section 5).
func fragmented(oob []byte) bool {
	cms, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return true
	}
	for _, cm := range cms {
		if cm.Header.Level == unix.IPPROTO_IPV6 && cm.Header.Type == unix.IPV6_RECVFRAGSIZE {
			return true
		}
	}
	return false
}

// solicit sends a Router Solicitation. The kernel chooses its source: the
// link-local address of the interface if there is one that has passed DAD. It
// fails as long as the interface has no address. RFC 4861 would also allow to
// send from the unspecified address; waiting instead lets the router answer
// to us alone.
func (c *rawConn) solicit() error {
	ifi, err := net.InterfaceByIndex(c.ifindex)
	if err != nil {
		return err
	}
	_, err = c.packets.WriteTo(solicitation(ifi.HardwareAddr), &ipv6.ControlMessage{HopLimit: 255, IfIndex: c.ifindex}, allRoutersAddr)
	return err
}
