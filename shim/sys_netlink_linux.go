package shim

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// glibc's getaddrinfo asks for the addresses of the host (AI_ADDRCONFIG) with
// this message: struct nlmsghdr, struct rtgenmsg, padding.
const sizeofAddressRequest = 20

// isAddressRequest reports whether b is that message.
func isAddressRequest(b []byte) bool {
	return len(b) == sizeofAddressRequest &&
		binary.NativeEndian.Uint32(b) == sizeofAddressRequest &&
		binary.NativeEndian.Uint16(b[4:]) == unix.RTM_GETADDR &&
		binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_DUMP == unix.NLM_F_DUMP &&
		b[16] == unix.AF_UNSPEC
}

// answerAddresses answers glibc from the hidden namespace, which has an IPv4 address:
// else it would not look at IPv4 literals at all. Without that namespace the
// host's answer is preceded by one with an address (see answerListing). Only the
// first request of a netlink socket is taken for glibc's: programs that show the
// addresses of the host ask for its interfaces first, or in another way.
func answerAddresses(t *trapped) reply {
	old, p, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(old)
	if family, err := getInt(old, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || family != unix.AF_NETLINK {
		return proceed
	}
	cookie, err := cookieOf(old)
	if err != nil || t.asked.contains(cookie) {
		return proceed
	}
	if t.args[2] != sizeofAddressRequest || t.elsewhere(nil) {
		t.asked.add(cookie)
		return proceed
	}
	b := make([]byte, sizeofAddressRequest)
	if t.mem.read(t.args[1], b) != nil || !isAddressRequest(b) {
		t.asked.add(cookie)
		return proceed
	}
	if t.hidden == nil {
		t.asked.add(cookie)
		t.listings.add(cookie, binary.NativeEndian.Uint32(b[8:]))
		return proceed
	}
	own, ok := netlinkName(old)
	if !ok {
		return proceed
	}
	s, err := t.hidden.netlink()
	if t.lacks(err) {
		return proceed
	}
	t.asked.add(cookie)
	if err != nil {
		return proceed
	}
	defer unix.Close(s)
	if unix.Bind(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: own.Pid}) != nil ||
		unix.Sendto(s, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return proceed
	}
	if err := swap(t, p, t.fd(0), old, s, cookie); err != nil {
		return proceed
	}
	return reply{val: int64(len(b))}
}

// netlinkName returns the address of a netlink socket.
func netlinkName(fd int) (*unix.SockaddrNetlink, bool) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, false
	}
	own, ok := sa.(*unix.SockaddrNetlink)
	return own, ok
}
