package shim

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxName is the most that is read of a socket address: struct sockaddr_in6.
const maxName = 28

// name is an IPv4 address and port as a program writes it.
type name struct {
	netip.AddrPort
	mapped bool // as ::ffff:a.b.c.d, struct sockaddr_in6
}

// parseName reads struct sockaddr_in, or a struct sockaddr_in6 that holds an
// IPv4-mapped address (RFC 4291 section 2.5.5.2), from a program's memory.
// ok is false for everything else.
func parseName(b []byte) (n name, ok bool) {
	if len(b) < sizeofInet4 {
		return n, false
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET:
		return name{netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port), false}, true
	case unix.AF_INET6:
		if len(b) < sizeofInet6 {
			return n, false
		}
		a := netip.AddrFrom16([16]byte(b[8:24]))
		if !a.Is4In6() {
			return n, false
		}
		return name{netip.AddrPortFrom(a.Unmap(), port), true}, true
	}
	return n, false
}

// bytes is the reverse of parseName.
func (n name) bytes() []byte {
	if n.mapped {
		b := make([]byte, maxName)
		binary.NativeEndian.PutUint16(b, unix.AF_INET6)
		binary.BigEndian.PutUint16(b[2:], n.Port())
		a := n.Addr().As16() // ::ffff:a.b.c.d
		copy(b[8:], a[:])
		return b
	}
	b := make([]byte, sizeofInet4)
	binary.NativeEndian.PutUint16(b, unix.AF_INET)
	binary.BigEndian.PutUint16(b[2:], n.Port())
	a := n.Addr().As4()
	copy(b[4:], a[:])
	return b
}

// sockaddr returns the address in the form of x/sys.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// addrPort is the reverse of sockaddr. The zero AddrPort: another family.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
