package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// A program learns from nothing else that its connection cannot survive: an
// ICMP error is only a hint to an established TCP connection, which goes on
// until its own timers end it many minutes later (RFC 1122 section 4.2.3.9;
// Linux 6.18 went on after ten host unreachables, and so where SOCK_DESTROY is
// missing there is nothing else to do).

// What linux/sock_diag.h and linux/inet_diag.h call SOCK_DIAG_BY_FAMILY,
// SOCK_DESTROY, INET_DIAG_REQ_BYTECODE and INET_DIAG_BC_S_COND.
const (
	sockDiagByFamily  = 20
	sockDestroy       = 21
	diagBytecode      = 1
	diagIsFrom        = 7
	sizeofDiagSockID  = 48
	sizeofDiagRequest = 8 + sizeofDiagSockID
	sizeofDiagMessage = 4 + sizeofDiagSockID // as far as we read it
)

// connected are the TCP states, as bits, in which there is another side that
// matters: neither listening nor closed nor waiting for a last segment. For
// UDP only the first of them is of use.
const connected = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11

// AbortFlows ends those TCP connections and connected UDP sockets with the local
// address a that which selects, also those of IPv6 sockets; nil selects all. Their
// programs get ECONNABORTED at once; the other side gets a reset if there is still a
// way.
func (k *sockets) AbortFlows(a netip.Addr, which func(plan.Connection) bool) (int, error) {
	if k.handle == nil {
		return 0, fmt.Errorf("list sockets: %w by this kernel: %w", errors.ErrUnsupported, k.missing)
	}
	var (
		n    int
		errs []error
	)
	for _, s := range []struct {
		protocol uint8
		states   uint32
	}{{unix.IPPROTO_TCP, connected}, {unix.IPPROTO_UDP, 1 << 1}} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			aborted, err := k.abortFlows(a, which, family, s.protocol, s.states)
			n += aborted
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return n, errors.Join(errs...)
}

// Connected reports whether a program has a TCP connection from the address a.
func (k *sockets) Connected(a netip.Addr) bool {
	if k.handle == nil {
		return false
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if flows, err := k.flows(a, family, unix.IPPROTO_TCP, connected); err == nil && len(flows) > 0 {
			return true
		}
	}
	return false
}

// Connections lists the TCP connections and connected UDP sockets from a.
func (k *sockets) Connections(a netip.Addr) (cs []plan.Connection) {
	if k.handle == nil {
		return nil
	}
	for _, of := range []struct {
		protocol uint8
		states   uint32
	}{{unix.IPPROTO_TCP, connected}, {unix.IPPROTO_UDP, 1 << 1}} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := k.flows(a, family, of.protocol, of.states)
			if err != nil {
				continue
			}
			for _, s := range sockets {
				if c, ok := parseConnection(s); ok {
					c.Protocol = of.protocol
					cs = append(cs, c)
				}
			}
		}
	}
	return cs
}

// parseConnection reads the struct inet_diag_sockid of a struct inet_diag_msg:
// ports, then addresses of 16 bytes, all in network byte order.
func parseConnection(s []byte) (plan.Connection, bool) {
	if len(s) < sizeofDiagMessage {
		return plan.Connection{}, false
	}
	id, size := s[4:], 16
	if s[0] == unix.AF_INET {
		size = 4
	}
	remote, ok := netip.AddrFromSlice(id[20 : 20+size])
	return plan.Connection{
		Port:   binary.BigEndian.Uint16(id),
		Remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(id[2:])),
	}, ok
}

// flows lists the sockets with the local address a, as struct inet_diag_msg.
func (k *sockets) flows(a netip.Addr, family, protocol uint8, states uint32) ([][]byte, error) {
	list := k.diag(sockDiagByFamily, unix.NLM_F_DUMP)
	filter := nl.NewRtAttr(diagBytecode, fromAddr(a))
	list.AddRawData(append(diagRequest(family, protocol, states, nil), filter.Serialize()...))
	return whole(func() ([][]byte, error) { return list.Execute(unix.NETLINK_INET_DIAG, 0) })
}

func (k *sockets) abortFlows(a netip.Addr, which func(plan.Connection) bool, family, protocol uint8, states uint32) (int, error) {
	sockets, err := k.flows(a, family, protocol, states)
	if err != nil {
		return 0, fmt.Errorf("list sockets: %w", unlessNoDiag(err))
	}
	n := 0
	for _, s := range sockets {
		c, ok := parseConnection(s)
		c.Protocol = protocol
		if !ok || which != nil && !which(c) {
			continue
		}
		req := k.diag(sockDestroy, unix.NLM_F_ACK)
		req.AddRawData(diagRequest(s[0], protocol, 1<<s[1], s[4:sizeofDiagMessage]))
		_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, unix.ENOENT): // it has ended by itself
			return n, fmt.Errorf("abort a connection: %w", unlessNoDiag(err))
		}
	}
	return n, nil
}

// unlessNoDiag turns the errors of a kernel without the modules or without
// CONFIG_INET_DIAG_DESTROY into one that says so.
func unlessNoDiag(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return fmt.Errorf("%w by this kernel (CONFIG_INET_DIAG_DESTROY): %w", errors.ErrUnsupported, err)
	}
	return err
}

func (k *sockets) diag(msgType, flags int) *nl.NetlinkRequest {
	return &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: uint16(msgType), Flags: unix.NLM_F_REQUEST | uint16(flags)},
		Sockets:  map[int]*nl.SocketHandle{unix.NETLINK_INET_DIAG: k.handle},
	}
}

// diagRequest is struct inet_diag_req_v2; id is a struct inet_diag_sockid as
// the kernel has reported it, or nil for all.
func diagRequest(family, protocol uint8, states uint32, id []byte) []byte {
	b := make([]byte, sizeofDiagRequest)
	b[0], b[1] = family, protocol
	binary.NativeEndian.PutUint32(b[4:], states)
	copy(b[8:], id)
	return b
}

// fromAddr is a filter program of one instruction: the local address is a. Its
// struct inet_diag_bc_op has the offsets of what comes next if that is so
// (the end) and if not (behind the end, which rejects); then follow struct
// inet_diag_hostcond, with any port, and the address.
func fromAddr(a netip.Addr) []byte {
	size, family := 4+8+a.BitLen()/8, byte(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	b := []byte{diagIsFrom, byte(size), 0, 0, family, byte(a.BitLen()), 0, 0, 0xff, 0xff, 0xff, 0xff}
	binary.NativeEndian.PutUint16(b[2:], uint16(size+4))
	return append(b, a.AsSlice()...)
}

func newSocket(protocol int) (*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), protocol)
	if err != nil {
		return nil, err
	}
	tv := &unix.Timeval{Sec: socketTimeout}
	if err := errors.Join(s.SetSendTimeout(tv), s.SetReceiveTimeout(tv)); err != nil {
		s.Close()
		return nil, err
	}
	return &nl.SocketHandle{Socket: s}, nil
}
