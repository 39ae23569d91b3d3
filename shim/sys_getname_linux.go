package shim

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// placeholder is the local address that a program sees on a replaced socket
// (RFC 7335).
var placeholder = netip.AddrFrom4([4]byte{192, 0, 0, 1})

// answerName answers getpeername and getsockname for sockets that were replaced.
func answerName(t *trapped) reply {
	fd, r, ok := replacedSocket(t, func(replaced) bool { return true })
	if !ok {
		return proceed
	}
	defer unix.Close(fd)
	n := name{r.peer, r.mapped}
	if r.datagram && t.call == callGetpeername && !r.peer.IsValid() {
		return fail(unix.ENOTCONN)
	}
	if r.early {
		if t.call == callGetpeername {
			return fail(unix.ENOTCONN)
		}
		return t.mem.putName(t.args[1], t.args[2], name{AddrPort: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)})
	}
	if t.call == callGetpeername {
		if _, err := unix.Getpeername(fd); err != nil && !hasReceived(fd) {
			return fail(err)
		}
	} else {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return fail(err)
		}
		a := r.local
		if !a.IsValid() {
			a = placeholder
		}
		n.AddrPort = netip.AddrPortFrom(a, addrPort(sa).Port())
	}
	return t.mem.putName(t.args[1], t.args[2], n)
}

// hasReceived reports whether a TCP socket was connected once: the answer to
// getpeername takes longer than the kernel's own, and the server may have
// closed the connection meanwhile.
func hasReceived(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	return err == nil && info.Bytes_received > 0
}
