package siit

// Headroom is the number of free bytes that Translate wants in front of a
// packet: an IPv4 header grows by 20 bytes into IPv6 and by 8 more for a
// Fragment Header, and whoever writes the result to a TUN puts a 10-byte
// virtio-net header in front. The rest keeps the packet 16-byte aligned.
const Headroom = 64

// VnetHeaderLen is how many bytes are free and writable in front of every
// packet that Translate returns, for the virtio-net header of a TUN.
const VnetHeaderLen = 10

// Offload is the virtio-net header of a packet (struct virtio_net_hdr) as
// numbers. The zero value is an ordinary packet with complete checksums. All
// offsets count from the first byte of the IP header. The fields are those of
// tun.VnetHeader in the same order, so that one converts to the other.
type Offload struct {
	Flags      uint8  // NeedsCsum, DataValid
	GSOType    uint8  // GSONone, GSOTCPv4, ... with GSOECN or-ed in
	HdrLen     uint16 // bytes up to the payload of the first segment
	GSOSize    uint16 // payload bytes of each segment but the last
	CsumStart  uint16 // where the checksummed bytes begin
	CsumOffset uint16 // where the checksum goes, counted from CsumStart
}

// Bits and values of Offload (include/uapi/linux/virtio_net.h).
const (
	NeedsCsum uint8 = 1 // the checksum field holds only the pseudo-header sum, uncomplemented
	DataValid uint8 = 2 // the device has verified the checksum

	GSONone  uint8 = 0
	GSOTCPv4 uint8 = 1
	GSOTCPv6 uint8 = 4
	GSOUDPL4 uint8 = 5
	GSOECN   uint8 = 0x80 // or-ed into a TCP type: the CWR bit is set
)

// Packet is an IP packet without link header, Buf[Off:], in memory that the
// caller lends. Buf[:Off] is headroom that may be overwritten.
type Packet struct {
	Buf []byte
	Off int
	Offload
}

// Bytes returns the packet itself, from the first byte of the IP header.
func (p Packet) Bytes() []byte { return p.Buf[p.Off:] }

// Verdict is the result for a packet.
type Verdict uint8

const (
	// Drop: nothing comes out. Result.Reason says why.
	Drop Verdict = iota
	// Translated: Result.Packets holds the packet in the other IP version,
	// or its fragments in order.
	Translated
	// Reply: the packet was refused, and Result.Packets[0] is the ICMP error
	// to send back to its sender, in the IP version of the packet. Rate
	// limiting it is up to the caller (RFC 4443 section 2.4 f).
	Reply
)

// String returns the word that `tnat64ctl translate` prints.
func (v Verdict) String() string {
	switch v {
	case Translated:
		return "translated"
	case Reply:
		return "reply"
	}
	return "drop"
}

// Result is what Translate makes of one packet.
type Result struct {
	Verdict Verdict
	Reason  Reason // None when translated
	// Packets lie either in the buffer of the packet that was given or in the
	// Scratch. They are good until the next Translate with the same Scratch
	// and may be written over, also the VnetHeaderLen bytes before each.
	Packets []Packet
}
