package pref64

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// userOption is one Neighbor Discovery option of a Router Advertisement, as
// the kernel passes it on to user space (struct nduseroptmsg,
// include/uapi/linux/rtnetlink.h). The kernel has made the checks of RFC 4861
// section 6.1.2 on the message.
type userOption struct {
	ifindex int
	router  netip.Addr
	opt     []byte // part of the datagram
}

const (
	nlmsgHdrLen   = 16
	ndUserOptLen  = 16 // sizeof(struct nduseroptmsg)
	afINET6       = 10
	newNDUserOpt  = 68 // RTM_NEWNDUSEROPT
	ndUserSrcAddr = 1  // NDUSEROPT_SRCADDR
)

// parseUserOption takes the first message off a netlink datagram. ok is false
// if it is whole but about something else. Numbers are in host byte order
// except for the ICMPv6 option itself.
func parseUserOption(b []byte) (uo userOption, rest []byte, ok bool, reason Reason) {
	if len(b) < nlmsgHdrLen {
		return uo, nil, false, MalformedReport
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < nlmsgHdrLen || n > len(b) {
		return uo, nil, false, MalformedReport
	}
	rest = b[min(align4(n), len(b)):]
	msg := b[nlmsgHdrLen:n]
	if binary.NativeEndian.Uint16(b[4:]) != newNDUserOpt {
		return uo, rest, false, None
	}

	// family 1, pad 1, length of options 2, ifindex 4, ICMP type 1, code 1, pad 6
	if len(msg) < ndUserOptLen {
		return uo, rest, false, MalformedReport
	}
	if msg[0] != afINET6 || msg[8] != typeRouterAdvertisement {
		return uo, rest, false, None
	}
	uo.ifindex = int(int32(binary.NativeEndian.Uint32(msg[4:])))
	optLen := int(binary.NativeEndian.Uint16(msg[2:]))
	msg = msg[ndUserOptLen:]
	if optLen > len(msg) {
		return uo, rest, false, MalformedReport
	}
	opts, attrs := msg[:optLen], msg[min(align4(optLen), len(msg)):]
	if len(opts) == 0 {
		return uo, rest, false, MalformedReport
	}
	// The kernel sends one message for each option.
	if uo.opt, _, reason = nextOption(opts); reason != None {
		return uo, rest, false, MalformedReport
	}
	for len(attrs) >= 4 {
		n := int(binary.NativeEndian.Uint16(attrs))
		if n < 4 || n > len(attrs) {
			break
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == ndUserSrcAddr && n == 4+16 {
			uo.router = netip.AddrFrom16([16]byte(attrs[4:]))
		}
		attrs = attrs[min(align4(n), len(attrs)):]
	}
	return uo, rest, true, None
}

func align4(n int) int { return (n + 3) &^ 3 }

// add puts what the netlink datagram b tells about the interface ifindex into r.
func (r *Report) add(b []byte, ifindex int, now time.Time) {
	for len(b) > 0 {
		uo, rest, ok, reason := parseUserOption(b)
		if ok && uo.ifindex == ifindex {
			reason = r.addOption(uo, now)
		}
		if reason != None {
			r.Ignored = append(r.Ignored, Ignored{Reason: reason, Router: uo.router})
		}
		b = rest
	}
}

// addOption puts one option into r, if it is of use.
func (r *Report) addOption(uo userOption, now time.Time) Reason {
	var reason Reason
	switch {
	case uo.opt[0] != optPREF64 && uo.opt[0] != optRDNSS:
	case !isLinkLocal(uo.router):
		reason = NotLinkLocal
	case uo.opt[0] == optPREF64:
		var p PREF64
		if p, reason = parsePREF64(uo.opt); reason == None {
			r.Observations = append(r.Observations, p.observe(uo.router, uo.ifindex, now))
		}
	default:
		var d RDNSS
		if d, reason = parseRDNSS(uo.opt); reason == None {
			r.Resolvers = append(r.Resolvers, d.observe(uo.router, now)...)
		}
	}
	return reason
}
