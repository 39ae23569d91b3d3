package doctor

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// extendedError is struct sock_extended_err of linux/errqueue.h with the
// address that follows it.
type extendedError struct {
	errno      unix.Errno
	origin     byte
	typ, code  byte
	info       uint32     // the MTU of a Packet Too Big
	complainer netip.Addr // invalid if it was the host itself
}

const extendedErrorLen = 16

// parseExtendedError reads one from a control message. Numbers are in host
// byte order.
func parseExtendedError(b []byte) (extendedError, bool) {
	if len(b) < extendedErrorLen {
		return extendedError{}, false
	}
	x := extendedError{
		errno:  unix.Errno(binary.NativeEndian.Uint32(b)),
		origin: b[4], typ: b[5], code: b[6],
		info: binary.NativeEndian.Uint32(b[8:]),
	}
	sa := b[extendedErrorLen:]
	if len(sa) < 2 {
		return x, true
	}
	switch family := binary.NativeEndian.Uint16(sa); {
	case family == unix.AF_INET && len(sa) >= 8:
		x.complainer = netip.AddrFrom4([4]byte(sa[4:]))
	case family == unix.AF_INET6 && len(sa) >= 24:
		x.complainer = netip.AddrFrom16([16]byte(sa[8:]))
	}
	return x, true
}

// ICMP types and codes that matter here.
const (
	icmp6Unreachable  = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp4Unreachable  = 3
	icmp4FragNeeded   = 4 // code
	icmp4TimeExceeded = 11
)

var unreachable6 = map[byte]string{
	0: "it has no route there", 1: "it is forbidden", 2: "it is beyond the scope of the source address",
	3: "the address is unreachable", 5: "the source address is not allowed", 6: "the route there is a reject route",
}

var unreachable4 = map[byte]string{
	0: "the network is unreachable", 1: "the host is unreachable", 2: "the protocol is unreachable",
	9: "it is forbidden", 10: "it is forbidden", 13: "it is forbidden",
}

// fail enters an error about a request.
func (e *echo) fail(x extendedError) {
	who := "this host"
	if x.complainer.IsValid() {
		who = x.complainer.String()
	}
	v6, v4 := x.origin == unix.SO_EE_ORIGIN_ICMP6, x.origin == unix.SO_EE_ORIGIN_ICMP
	words := unreachable6
	if v4 {
		words = unreachable4
	}
	switch {
	case v6 && x.typ == icmp6TooBig, v4 && x.typ == icmp4Unreachable && x.code == icmp4FragNeeded,
		x.origin == unix.SO_EE_ORIGIN_LOCAL && x.errno == unix.EMSGSIZE:
		e.tooBig, e.reporter = max(int(x.info), 1), x.complainer
	case v6 && x.typ == icmp6Unreachable, v4 && x.typ == icmp4Unreachable:
		what, ok := words[x.code]
		if !ok {
			what = "it is unreachable"
		}
		e.why = fmt.Sprintf("%s says that %s", who, what)
	case v6 && x.typ == icmp6TimeExceeded, v4 && x.typ == icmp4TimeExceeded:
		e.why = fmt.Sprintf("%s says that the hop limit was exceeded, perhaps in a routing loop", who)
	default:
		e.why = fmt.Sprintf("%s says: %v", who, x.errno)
	}
}
