package shim

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpEchoRequest  = 8
	icmpTimeExceeded = 11
	sizeofICMP       = 8

	icmp6EchoRequest = 128
	icmp6EchoReply   = 129
)

// forwardEchoes takes echo requests of the program's ping sockets.
func forwardEchoes(r *relay) {
	runtime.LockOSThread()
	b := make([]byte, 65536)
	for {
		n, _, err := unix.Recvfrom(r.echo4, b, 0)
		if err == unix.EBADF {
			return
		}
		if err == nil {
			forwardEcho(r, b[:n])
		}
	}
}

// forwardEcho forwards an IPv4 packet with an echo request.
func forwardEcho(r *relay, p []byte) {
	if len(p) < sizeofIPv4 || p[0]>>4 != 4 {
		return
	}
	head := int(p[0]&15) * 4
	if head < sizeofIPv4 || len(p) < head+sizeofICMP || p[head] != icmpEchoRequest {
		r.flows.drops[dropMalformed].Add(1)
		return
	}
	icmp := p[head:]
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:])), binary.BigEndian.Uint16(icmp[4:]))
	to := netip.AddrFrom4([4]byte(p[16:]))
	t := r.policy.Load()
	d, _ := t.decide(to, r.facts())
	key := flowKey{kind: flowPing, from: from}
	var dest netip.AddrPort
	switch d {
	case NoPrefix:
		r.flows.drops[dropNoPrefix].Add(1)
		injectError(r, from.Addr(), siit.DummyIPv4, icmpUnreachable, 0, 0, p[:head+sizeofICMP])
		return
	case Translate:
		six, _ := t.embed(to)
		dest = netip.AddrPortFrom(six, 0)
		icmp[0] = icmp6EchoRequest
	default:
		key.kind = flowHostPing
		dest = netip.AddrPortFrom(to, 0)
	}
	f := r.flows.get(key)
	if f == nil {
		return
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.used.Store(time.Now().Unix())
	var control []byte
	if hops := int(p[8]); hops != defaultHops {
		if key.kind == flowPing {
			control = appendControl(nil, unix.SOL_IPV6, unix.IPV6_HOPLIMIT, 4, hops)
		} else {
			control = appendControl(nil, unix.SOL_IP, unix.IP_TTL, 4, hops)
		}
	}
	// The kernel fills in the identifier and the checksum.
	for range 2 {
		_, err := unix.SendmsgN(f.fd, icmp, control, sockaddr(dest), unix.MSG_DONTWAIT)
		if err == nil {
			return
		}
		if err == unix.ENETUNREACH {
			injectError(r, from.Addr(), siit.DummyIPv4, icmpUnreachable, 0, 0, p[:head+sizeofICMP])
		}
	}
	r.flows.drops[dropSend].Add(1)
}

// backEcho hands an echo reply to the program.
func backEcho(r *relay, f *flow, from netip.Addr, data []byte, to *injection) {
	if len(data) < sizeofICMP || data[0] != icmp6EchoReply && data[0] != icmpEchoReply {
		return
	}
	data[0], data[1], data[2], data[3] = icmpEchoReply, 0, 0, 0
	binary.BigEndian.PutUint16(data[4:], f.key.from.Port())
	binary.BigEndian.PutUint16(data[2:], ^siit.Sum(data, 0))
	to.packet(r, f.key.from.Addr(), data, func(head []byte) int {
		putIPv4(head, from, f.key.from.Addr(), unix.IPPROTO_ICMP, len(data))
		return sizeofIPv4
	})
}

// relayErrors hands ICMP errors that a flow has met to the program. f is locked.
func relayErrors(r *relay, f *flow) {
	data, oob := make([]byte, 256), make([]byte, 512)
	for range 64 {
		var n, on int
		var name unix.Sockaddr
		var err error
		n, on, _, name, err = unix.Recvmsg(f.fd, data, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		e, ok := parseExtendedError(oob[:on])
		to := addrPort(name)
		if !ok || !to.IsValid() {
			continue
		}
		relayError(r, f, to, e, data[:n])
	}
}

// extendedError is struct sock_extended_err with the address that follows it.
type extendedError struct {
	origin, typ, code byte
	info              uint32 // of EMSGSIZE: the MTU
	offender          netip.Addr
}

const (
	originICMP  = 2
	originICMP6 = 3
)

func parseExtendedError(oob []byte) (e extendedError, ok bool) {
	eachControl(oob, func(level, typ int32, b []byte) {
		if !(level == unix.SOL_IPV6 && typ == unix.IPV6_RECVERR || level == unix.SOL_IP && typ == unix.IP_RECVERR) || len(b) < 16 {
			return
		}
		e = extendedError{origin: b[4], typ: b[5], code: b[6], info: binary.NativeEndian.Uint32(b[8:])}
		if sa := b[16:]; len(sa) >= unix.SizeofSockaddrInet6 && binary.NativeEndian.Uint16(sa) == unix.AF_INET6 {
			e.offender = netip.AddrFrom16([16]byte(sa[8:]))
		} else if len(sa) >= unix.SizeofSockaddrInet4 && binary.NativeEndian.Uint16(sa) == unix.AF_INET {
			e.offender = netip.AddrFrom4([4]byte(sa[4:]))
		}
		ok = e.origin == originICMP || e.origin == originICMP6
	})
	return e, ok
}

// translateError maps the types of ICMPv6 errors (RFC 7915 section 5.2).
func translateError(e extendedError) (typ, code byte, mtu uint16, ok bool) {
	if e.origin == originICMP {
		return e.typ, e.code, uint16(min(e.info, 0xffff)), true
	}
	switch e.typ {
	case 1: // destination unreachable
		switch e.code {
		case 0, 2, 3:
			return icmpUnreachable, 1, 0, true
		case 1:
			return icmpUnreachable, 10, 0, true
		case 4:
			return icmpUnreachable, 3, 0, true
		}
	case 2: // packet too big
		return icmpUnreachable, 4, uint16(min(max(e.info, 20)-20, 0xffff)), true
	case 3: // time exceeded
		return icmpTimeExceeded, e.code, 0, true
	}
	return 0, 0, 0, false
}

// relayError injects the ICMP error about a datagram to the host address to.
func relayError(r *relay, f *flow, to netip.AddrPort, e extendedError, data []byte) {
	if f.key.from.Addr().Is6() {
		return
	}
	typ, code, mtu, ok := translateError(e)
	if !ok {
		return
	}
	dest := to
	if to.Addr().Is6() {
		v4, ok := r.policy.Load().extract(to.Addr())
		if !ok {
			return
		}
		dest = netip.AddrPortFrom(v4, to.Port())
	}
	offender := e.offender
	if offender.Is6() {
		if offender, ok = r.policy.Load().extract(offender); !ok {
			offender = siit.DummyIPv4
		}
	} else if !offender.IsValid() {
		offender = siit.DummyIPv4
	}
	var inner [sizeofIPv4 + sizeofUDP]byte
	if f.key.kind == flowPing || f.key.kind == flowHostPing {
		putIPv4(inner[:], f.key.from.Addr(), dest.Addr(), unix.IPPROTO_ICMP, sizeofICMP+len(data))
		inner[sizeofIPv4] = icmpEchoRequest
		binary.BigEndian.PutUint16(inner[sizeofIPv4+4:], f.key.from.Port())
		if len(data) >= sizeofICMP { // an echo request as it was sent
			copy(inner[sizeofIPv4+6:], data[6:8])
		}
	} else {
		putUDP(inner[:], f.key.from, dest, make([]byte, 0))
		binary.BigEndian.PutUint16(inner[2:], uint16(len(inner)+len(data)))
		binary.BigEndian.PutUint16(inner[sizeofIPv4+4:], uint16(sizeofUDP+len(data)))
	}
	injectError(r, f.key.from.Addr(), offender, typ, code, mtu, inner[:])
}

// unreachable says that there is no way from a socket of the program to an
// IPv4 destination.
func unreachable(r *relay, from, to netip.AddrPort) {
	if !from.Addr().Is4() || !to.Addr().Is4() {
		return
	}
	var inner [sizeofIPv4 + sizeofUDP]byte
	putUDP(inner[:], from, to, nil)
	injectError(r, from.Addr(), siit.DummyIPv4, icmpUnreachable, 0, 0, inner[:])
}

// injectError injects an ICMP error about the packet that begins with inner.
func injectError(r *relay, to, from netip.Addr, typ, code byte, mtu uint16, inner []byte) {
	b := make([]byte, sizeofICMP+len(inner))
	b[0], b[1] = typ, code
	binary.BigEndian.PutUint16(b[6:], mtu)
	copy(b[sizeofICMP:], inner)
	in := b[sizeofICMP:]
	in[10], in[11] = 0, 0
	binary.BigEndian.PutUint16(in[10:], ^siit.Sum(in[:sizeofIPv4], 0))
	binary.BigEndian.PutUint16(b[2:], ^siit.Sum(b, 0))
	var j injection
	j.packet(r, to, b, func(head []byte) int {
		putIPv4(head, from, to, unix.IPPROTO_ICMP, len(b))
		return sizeofIPv4
	})
	j.flush(r)
}
