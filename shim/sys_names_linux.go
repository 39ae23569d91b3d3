package shim

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// placeholder is the local address that a program sees on a replaced socket
// (RFC 7335).
var placeholder = netip.AddrFrom4([4]byte{192, 0, 0, 1})

// getname answers getpeername and getsockname for sockets that were replaced.
func (t *trapped) getname() reply {
	fd, _, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(fd)
	cookie, err := cookieOf(fd)
	if err != nil {
		return proceed
	}
	r, ok := t.sockets.get(cookie)
	if !ok {
		return proceed
	}
	n := name{r.peer, r.mapped}
	if r.datagram && t.call == callGetpeername && !r.peer.IsValid() {
		return fail(unix.ENOTCONN)
	}
	if r.early {
		if t.call == callGetpeername {
			return fail(unix.ENOTCONN)
		}
		return t.putName(t.args[1], t.args[2], name{AddrPort: netip.AddrPortFrom(netip.IPv4Unspecified(), 0)})
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
	return t.putName(t.args[1], t.args[2], n)
}

// putName writes a name as the kernel does: what fits into the buffer, and the
// length that it has.
func (t *trapped) putName(at, lengthAt uint64, n name) reply {
	var l [4]byte
	if readMemory(t.tid, lengthAt, l[:]) != nil {
		return fail(unix.EFAULT)
	}
	room := int32(binary.NativeEndian.Uint32(l[:]))
	if room < 0 {
		return fail(unix.EINVAL)
	}
	b := n.bytes()
	if writeMemory(t.tid, at, b[:min(int(room), len(b))]) != nil {
		return fail(unix.EFAULT)
	}
	binary.NativeEndian.PutUint32(l[:], uint32(len(b)))
	if writeMemory(t.tid, lengthAt, l[:]) != nil {
		return fail(unix.EFAULT)
	}
	return reply{}
}

// hasReceived reports whether a TCP socket was connected once: the answer to
// getpeername takes longer than the kernel's own, and the server may have
// closed the connection meanwhile.
func hasReceived(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	return err == nil && info.Bytes_received > 0
}
