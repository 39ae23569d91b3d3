package shim

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

const (
	sizeofIPv4 = 20
	sizeofIPv6 = 40
	sizeofUDP  = 8
	maxHead    = sizeofIPv6 + sizeofUDP
)

// injection collects packets for the program, of one family.
type injection struct {
	n     int
	six   bool
	msgs  [batchSize]mmsghdr
	iovs  [batchSize][2]unix.Iovec
	names [batchSize]unix.RawSockaddrInet6
	heads [batchSize][maxHead]byte
}

// datagram appends a UDP datagram. data must not change before flush.
func (j *injection) datagram(r *relay, from, to netip.AddrPort, data []byte) {
	j.packet(r, to.Addr(), data, func(head []byte) int { return putUDP(head, from, to, data) })
}

// datagrams sends datagrams of size bytes, the last of which may be shorter, as one
// packet, after those that wait. It returns false if that cannot be done.
func (j *injection) datagrams(r *relay, from, to netip.AddrPort, data []byte, size int) bool {
	j.flush(r)
	return r.segments.send(from, to, data, size)
}

// packet appends a packet whose header put writes; it returns the length.
func (j *injection) packet(r *relay, to netip.Addr, data []byte, put func(head []byte) int) {
	six := to.Is6()
	if j.n == batchSize || j.n > 0 && j.six != six {
		j.flush(r)
	}
	j.six = six
	i := j.n
	j.n++
	head := j.heads[i][:]
	v := &j.iovs[i]
	v[0].Base = &head[0]
	v[0].SetLen(put(head))
	v[1].Base = nil
	if len(data) > 0 {
		v[1].Base = &data[0]
	}
	v[1].SetLen(len(data))
	h := &j.msgs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&j.names[i]))
	h.Namelen = rawName(&j.names[i], netip.AddrPortFrom(to, 0))
	h.Iov = &v[0]
	h.SetIovlen(2)
}

// flush sends the packets into the hidden namespace.
func (j *injection) flush(r *relay) {
	fd := r.out4
	if j.six {
		fd = r.out6
	}
	for at := 0; at < j.n; {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&j.msgs[at])), uintptr(j.n-at), unix.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			at += int(n)
		case unix.EINTR:
		default:
			r.flows.drops[dropSend].Add(1)
			at++ // the first was refused
		}
	}
	j.n = 0
}

// putUDP writes the headers of a UDP datagram, and returns their length. The
// kernel fills in the IPv4 header's checksum and identification.
func putUDP(b []byte, from, to netip.AddrPort, data []byte) int {
	n := sizeofIPv4
	if to.Addr().Is6() {
		n = sizeofIPv6
		putIPv6(b, from.Addr(), to.Addr(), unix.IPPROTO_UDP, sizeofUDP+len(data))
	} else {
		putIPv4(b, from.Addr(), to.Addr(), unix.IPPROTO_UDP, sizeofUDP+len(data))
	}
	u := b[n : n+sizeofUDP]
	putPorts(u, from, to, len(data))
	u[6], u[7] = 0, 0 // IPv4: none; it has been checked
	if n == sizeofIPv6 {
		s := siit.PseudoHeaderSum(from.Addr(), to.Addr(), sizeofUDP+len(data), unix.IPPROTO_UDP)
		c := ^siit.Sum(data, siit.Sum(u, s))
		if c == 0 {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(u[6:], c)
	}
	return n + sizeofUDP
}

// putPorts writes a UDP header but for the checksum.
func putPorts(b []byte, from, to netip.AddrPort, payload int) {
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(sizeofUDP+payload))
}

func putIPv4(b []byte, from, to netip.Addr, proto byte, payload int) {
	clear(b[:sizeofIPv4])
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(sizeofIPv4+payload))
	src, dst := from.As4(), to.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
}

func putIPv6(b []byte, from, to netip.Addr, proto byte, payload int) {
	clear(b[:sizeofIPv6])
	b[0], b[6], b[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(b[4:], uint16(payload))
	src, dst := from.As16(), to.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}
