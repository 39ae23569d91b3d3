package tun

import "encoding/binary"

// VnetHeaderLen is the length in bytes of a VnetHeader on the wire, which is
// what the kernel expects unless TUNSETVNETHDRSZ says otherwise.
const VnetHeaderLen = 10

// VnetHeader is struct virtio_net_hdr (include/uapi/linux/virtio_net.h), which
// precedes every packet that is read from or written to a Queue. The zero
// value is an ordinary packet with complete checksums. Offsets count from the
// first byte of the IP header. The fields are those of siit.Offload in the
// same order, so that one converts to the other.
type VnetHeader struct {
	Flags      uint8  // VIRTIO_NET_HDR_F_*: checksum still to be computed, or already verified
	GSOType    uint8  // VIRTIO_NET_HDR_GSO_*, with GSO_ECN or-ed in
	HdrLen     uint16 // bytes up to the payload; a hint that is wrong on forwarded packets
	GSOSize    uint16 // payload bytes of each segment but the last
	CsumStart  uint16 // where the checksummed bytes begin
	CsumOffset uint16 // where the checksum goes, counted from CsumStart
}

// DecodeVnetHeader reads the header in b[:VnetHeaderLen], in host byte order:
// that is the order of a TUN on which nobody called TUNSETVNETLE.
func DecodeVnetHeader(b []byte) VnetHeader {
	_ = b[VnetHeaderLen-1]
	return VnetHeader{
		Flags:      b[0],
		GSOType:    b[1],
		HdrLen:     binary.NativeEndian.Uint16(b[2:]),
		GSOSize:    binary.NativeEndian.Uint16(b[4:]),
		CsumStart:  binary.NativeEndian.Uint16(b[6:]),
		CsumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// Encode writes h to b[:VnetHeaderLen] in host byte order.
func (h VnetHeader) Encode(b []byte) {
	_ = b[VnetHeaderLen-1]
	b[0] = h.Flags
	b[1] = h.GSOType
	binary.NativeEndian.PutUint16(b[2:], h.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], h.CsumStart)
	binary.NativeEndian.PutUint16(b[8:], h.CsumOffset)
}
