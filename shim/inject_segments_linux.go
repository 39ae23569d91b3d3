package shim

import (
	"encoding/binary"
	"net/netip"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

// segmentInjector puts several datagrams of one size into the hidden namespace as
// one packet (UDP GSO), which the kernel divides if the program's socket wants them
// one by one. A raw socket cannot do that; a packet socket can, since Linux 6.2.
type segmentInjector struct {
	fd int // -1: it cannot
	lo int // interface index
}

// The layout of what it sends: struct virtio_net_hdr, an Ethernet header, and the
// headers of putUDP.
const (
	sizeofVirtioNet = 10
	sizeofEthernet  = 14
)

// openSegmentInjector opens one in the network namespace of the calling thread. IPv4
// packets of a packet socket are routed at input, where lo must accept sources that
// are addresses of the namespace: all are.
func openSegmentInjector() segmentInjector {
	none := segmentInjector{fd: -1}
	lo, err := netlink.LinkByName("lo")
	if err != nil || os.WriteFile("/proc/sys/net/ipv4/conf/lo/accept_local", []byte("1"), 0) != nil {
		return none
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // 0: it receives nothing
	if err != nil {
		return none
	}
	for _, o := range [][3]int{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_SOCKET, unix.SO_MARK, relayMark},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, 1 << 20},
	} {
		if unix.SetsockoptInt(fd, o[0], o[1], o[2]) != nil {
			unix.Close(fd)
			return none
		}
	}
	return segmentInjector{fd, lo.Attrs().Index}
}

// send sends data as datagrams of size bytes, the last of which may be shorter. It
// returns false if nothing was sent: the kernel does not know UDP GSO there.
func (s segmentInjector) send(from, to netip.AddrPort, data []byte, size int) bool {
	if s.fd < 0 {
		return false
	}
	var head [sizeofVirtioNet + sizeofEthernet + maxHead]byte
	n := putSegments(head[:], from, to, data, size)
	iovs := [2]unix.Iovec{{Base: &head[0]}, {Base: &data[0]}}
	iovs[0].SetLen(n)
	iovs[1].SetLen(len(data))
	name := unix.RawSockaddrLinklayer{
		Family: unix.AF_PACKET, Ifindex: int32(s.lo), Halen: 6,
		Protocol: binary.NativeEndian.Uint16(head[sizeofVirtioNet+12:]),
	}
	h := unix.Msghdr{Name: (*byte)(unsafe.Pointer(&name)), Namelen: unix.SizeofSockaddrLinklayer, Iov: &iovs[0]}
	h.SetIovlen(len(iovs))
	for {
		_, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&h)), unix.MSG_NOSIGNAL)
		if e != unix.EINTR {
			return e == 0
		}
	}
}

// putSegments writes the headers of datagrams of size bytes, which data holds, and
// returns their length. The UDP checksum is left to whoever divides them.
func putSegments(b []byte, from, to netip.AddrPort, data []byte, size int) int {
	const needsChecksum, gsoUDP = 1, 5 // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP_L4
	ether := b[sizeofVirtioNet:]
	clear(ether[:sizeofEthernet-2]) // lo's addresses
	ip := ether[sizeofEthernet:]
	family, start := uint16(unix.ETH_P_IP), sizeofIPv4
	if to.Addr().Is6() {
		family, start = unix.ETH_P_IPV6, sizeofIPv6
		putIPv6(ip, from.Addr(), to.Addr(), unix.IPPROTO_UDP, sizeofUDP+len(data))
	} else {
		putIPv4(ip, from.Addr(), to.Addr(), unix.IPPROTO_UDP, sizeofUDP+len(data))
		binary.BigEndian.PutUint16(ip[10:], ^siit.Sum(ip[:sizeofIPv4], 0))
	}
	binary.BigEndian.PutUint16(ether[sizeofEthernet-2:], family)
	putPorts(ip[start:], from, to, len(data))
	binary.BigEndian.PutUint16(ip[start+6:], siit.PseudoHeaderSum(from.Addr(), to.Addr(), sizeofUDP+len(data), unix.IPPROTO_UDP))
	b[0], b[1] = needsChecksum, gsoUDP
	for i, v := range []int{sizeofEthernet + start + sizeofUDP, size, sizeofEthernet + start, 6} {
		binary.NativeEndian.PutUint16(b[2+2*i:], uint16(v)) // length of the headers, of a segment; where the checksum begins, and stands
	}
	return sizeofVirtioNet + sizeofEthernet + start + sizeofUDP
}
