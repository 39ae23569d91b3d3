package shim

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize  = 32
	bufferSize = 65536 // the largest datagram, and what UDP_GRO joins
	oobSize    = 160
)

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// batch receives several datagrams by one system call. Its memory is touched
// only as far as datagrams fill it.
type batch struct {
	msgs  [batchSize]mmsghdr
	iovs  [batchSize]unix.Iovec
	names [batchSize]unix.RawSockaddrInet6
	oob   [batchSize][oobSize]byte
	data  []byte
}

func newBatch() (*batch, error) {
	data, err := unix.Mmap(-1, 0, batchSize*bufferSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	b := &batch{data: data}
	for i := range b.msgs {
		b.iovs[i].Base = &data[i*bufferSize]
		b.iovs[i].SetLen(bufferSize)
		h := &b.msgs[i].hdr
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = &b.oob[i][0]
	}
	return b, nil
}

// receive waits for datagrams, unless flags say otherwise, and returns how many
// have come.
func (b *batch) receive(fd, flags int) (int, error) {
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(oobSize)
		h.Flags = 0
	}
	for {
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), batchSize, uintptr(flags), 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

func (b *batch) datagram(i int) []byte {
	return b.data[i*bufferSize:][:b.msgs[i].n:bufferSize]
}

func (b *batch) from(i int) netip.AddrPort { return rawAddrPort(&b.names[i]) }

func (b *batch) control(i int) []byte {
	return b.oob[i][:min(int(b.msgs[i].hdr.Controllen), oobSize)]
}

// rawAddrPort reads a struct sockaddr_in or sockaddr_in6.
func rawAddrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), ntohs(sa.Port))
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), ntohs(v4.Port))
	}
	return netip.AddrPort{}
}

// rawName is the reverse; it returns the length.
func rawName(sa *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	*sa = unix.RawSockaddrInet6{}
	if a.Addr().Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: ntohs(a.Port()), Addr: a.Addr().As4()}
		return unix.SizeofSockaddrInet4
	}
	sa.Family, sa.Port, sa.Addr = unix.AF_INET6, ntohs(a.Port()), a.Addr().As16()
	return unix.SizeofSockaddrInet6
}

func ntohs(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

// eachControl calls f with every control message of a datagram.
func eachControl(b []byte, f func(level, typ int32, data []byte)) {
	const head = unix.SizeofCmsghdr
	for len(b) >= head {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := int(h.Len)
		if n < head || n > len(b) {
			return
		}
		f(h.Level, h.Type, b[head:n])
		n = (n + 7) &^ 7
		if n >= len(b) {
			return
		}
		b = b[n:]
	}
}

// appendControl appends a control message with an int.
func appendControl(b []byte, level, typ int32, size int, v int) []byte {
	at := len(b)
	b = append(b, make([]byte, unix.CmsgSpace(size))...)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[at]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(size))
	switch size {
	case 2:
		binary.NativeEndian.PutUint16(b[at+unix.SizeofCmsghdr:], uint16(v))
	case 4:
		binary.NativeEndian.PutUint32(b[at+unix.SizeofCmsghdr:], uint32(v))
	}
	return b
}
