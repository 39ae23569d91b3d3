package siit_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"tnat64d/siit"
)

// checkResult checks what must hold for any input and any configuration.
func checkResult(cfg siit.Config, in []byte, off siit.Offload, o outcome) error {
	switch o.verdict {
	case siit.Drop:
		if o.reason == siit.None || len(o.packets) != 0 {
			return fmt.Errorf("drop with reason %v and %d packets", o.reason, len(o.packets))
		}
		return nil
	case siit.Reply:
		if o.reason == siit.None || len(o.packets) != 1 {
			return fmt.Errorf("reply with reason %v and %d packets", o.reason, len(o.packets))
		}
		return checkReply(cfg, in, off, o.packets[0])
	case siit.Translated:
		if o.reason != siit.None || len(o.packets) == 0 {
			return fmt.Errorf("translated with reason %v and %d packets", o.reason, len(o.packets))
		}
		return checkTranslated(cfg, in, off, o.packets)
	}
	return fmt.Errorf("verdict %d", o.verdict)
}

// checkReply checks an ICMP error that the translator makes itself
// (RFC 7915 sections 4.4 and 5.4).
func checkReply(cfg siit.Config, in []byte, off siit.Offload, reply siit.Packet) error {
	if reply.Offload != (siit.Offload{}) {
		return fmt.Errorf("reply with offload %+v", reply.Offload)
	}
	p, err := parse(in, false)
	if err != nil {
		return fmt.Errorf("reply to a packet that cannot be read: %w", err)
	}
	q, err := parse(reply.Bytes(), false)
	switch {
	case err != nil:
		return fmt.Errorf("reply: %w", err)
	case p.version != q.version:
		return fmt.Errorf("IPv%d reply to IPv%d", q.version, p.version)
	case p.isICMPError():
		return errors.New("reply to an ICMP error")
	case p.offset > 0 && p.version == 4:
		return errors.New("reply to a fragment that is not the first")
	case p.dst.IsMulticast():
		return errors.New("reply to a multicast packet")
	case p.src.IsMulticast() || p.src.IsUnspecified() || p.src.IsLoopback():
		return errors.New("reply to an invalid source")
	case q.dst != p.src:
		return fmt.Errorf("reply goes to %v, not to %v", q.dst, p.src)
	case q.ttl < 2:
		return fmt.Errorf("reply with TTL %d", q.ttl)
	case transportState(q, siit.Offload{}) != sumRight:
		return errors.New("ICMP checksum of the reply is wrong")
	}
	source, limit, types := cfg.ICMPSource4, 576, []byte{3, 11, 12}
	if p.version == 6 {
		source, limit, types = cfg.ICMPSource6, 1280, []byte{1, 2, 3, 4}
		if !source.IsValid() {
			source = cfg.Mapping.CLAT.IPv6
		}
		if !source.IsValid() {
			source = p.dst
		}
	}
	if source.IsValid() && q.src != source {
		return fmt.Errorf("reply from %v, want %v", q.src, source)
	}
	if !bytes.Contains(types, q.transport[:1]) {
		return fmt.Errorf("reply of ICMP type %d", q.transport[0])
	}
	quote, whole := bytes.Clone(q.transport[8:]), in[:p.headerLen+len(p.transport)]
	if off.GSOType != siit.GSONone && p.version == 4 {
		// Of a super-packet the header of one segment may be quoted.
		if _, err := parse(quote, true); err != nil {
			return fmt.Errorf("reply quotes: %w", err)
		}
		copy(quote[2:4], whole[2:4])
		copy(quote[10:12], whole[10:12])
	}
	if want := whole[:min(len(whole), limit-(q.headerLen+8))]; !bytes.Equal(quote, want) {
		return fmt.Errorf("reply quotes %d bytes, want %d, or other bytes", len(quote), len(want))
	}
	return nil
}

// checkTranslated checks the packets that one packet became.
func checkTranslated(cfg siit.Config, in []byte, off siit.Offload, packets []siit.Packet) error {
	p, err := parse(in, false)
	if err != nil {
		return fmt.Errorf("translated what cannot be read: %w", err)
	}
	for i, pkt := range packets {
		q, err := parse(pkt.Bytes(), false)
		if err != nil {
			return fmt.Errorf("packet %d: %w", i, err)
		}
		if err := checkHeader(cfg, p, q, pkt); err != nil {
			return fmt.Errorf("packet %d of %d: %w", i, len(packets), err)
		}
		if err := checkOffload(q, pkt.Offload, len(pkt.Bytes())); err != nil {
			return fmt.Errorf("packet %d of %d: offload: %w", i, len(packets), err)
		}
	}
	if isSuper(p, off) {
		return checkSegments(p, off, packets)
	}
	if isForeign(p, off) {
		switch p.proto {
		case protoTCP, protoUDP, protoICMP, protoICMPv6:
			return nil // the two checksums cover each other: a lie
		}
		if p, err = finishForeign(in, p, off); err != nil {
			return err
		}
	}
	whole := packets[0]
	if len(packets) > 1 {
		if whole.Buf, err = reassembleOne(packets); err != nil {
			return err
		}
	}
	return checkContent(p, off, whole)
}

// isForeign tells a partial checksum that is not the one of the transport
// header.
func isForeign(p parsed, off siit.Offload) bool {
	at := map[uint8]uint16{protoTCP: 16, protoUDP: 6, protoICMP: 2, protoICMPv6: 2}
	offset, ok := at[p.proto]
	return off.Flags&siit.NeedsCsum != 0 && !(ok && int(off.CsumStart) == p.headerLen && off.CsumOffset == offset)
}

// finishForeign completes a foreign checksum, as has to be seen in the
// translation.
func finishForeign(in []byte, p parsed, off siit.Offload) (parsed, error) {
	off.GSOType = siit.GSONone
	end := p.headerLen + len(p.transport)
	if at := int(off.CsumStart) + int(off.CsumOffset); int(off.CsumStart) < p.headerLen || at+2 > end {
		return p, nil
	}
	finished, err := segment(siit.Packet{Buf: in[:end], Offload: off})
	if err != nil {
		return p, err
	}
	return parse(finished[0], false)
}

// checkHeader checks one IP header against that of the packet it came from.
func checkHeader(cfg siit.Config, p, q parsed, pkt siit.Packet) error {
	if end := q.headerLen + len(q.transport); end != len(pkt.Bytes()) {
		return fmt.Errorf("%d bytes, but the header says %d", len(pkt.Bytes()), end)
	}
	if p.version == q.version {
		return fmt.Errorf("IPv%d became IPv%d", p.version, q.version)
	}
	if q.ttl != p.ttl-1 || q.ttl == 0 {
		return fmt.Errorf("TTL %d became %d", p.ttl, q.ttl)
	}
	tos := p.tos
	if q.version == 6 && cfg.ZeroTrafficClass || q.version == 4 && cfg.ZeroTOS {
		tos = 0
	}
	if q.tos != tos {
		return fmt.Errorf("TOS %#x became %#x, want %#x", p.tos, q.tos, tos)
	}
	if err := checkAddresses(cfg, p, q); err != nil {
		return err
	}
	size := wireSize(pkt)
	if q.version == 6 {
		switch {
		case q.flow != 0:
			return fmt.Errorf("flow label %#x", q.flow)
		case size > cfg.MTU6:
			return fmt.Errorf("%d bytes for an IPv6 MTU of %d", size, cfg.MTU6)
		case p.isFragment() && !q.hasFH:
			return errors.New("fragment without Fragment Header")
		case q.hasFH && !q.isFragment() && p.version == 4:
			return errors.New("atomic fragment")
		case q.extensions > 1 || q.extensions == 1 && !q.hasFH:
			return errors.New("extension headers other than the Fragment Header")
		case p.version == 4 && !p.df && size > cfg.LowestIPv6MTU:
			return fmt.Errorf("DF=0 and %d bytes for a lowest IPv6 MTU of %d", size, cfg.LowestIPv6MTU)
		case q.isICMPError() && size > 1280:
			return fmt.Errorf("ICMPv6 error of %d bytes", size)
		case q.isICMPError() && q.isFragment():
			return errors.New("fragmented ICMPv6 error")
		}
		return nil
	}
	switch {
	case q.headerLen != 20:
		return fmt.Errorf("header of %d bytes", q.headerLen)
	case size > cfg.MTU4:
		return fmt.Errorf("%d bytes for an IPv4 MTU of %d", size, cfg.MTU4)
	case p.hasFH && q.df:
		return errors.New("DF=1 in spite of a Fragment Header")
	case p.hasFH && q.id != p.id&0xffff:
		return fmt.Errorf("identification %#x became %#x", p.id, q.id)
	case q.isFragment() && q.df:
		return errors.New("fragment with DF=1")
	case !p.hasFH && !q.isFragment() && q.df != (size > 1260):
		return fmt.Errorf("DF=%v for %d bytes", q.df, size)
	}
	return nil
}

// checkAddresses checks the addresses of a mapping without explicit entries,
// and in any mapping that a host's CLAT stays a host's.
func checkAddresses(cfg siit.Config, p, q parsed) error {
	m := cfg.Mapping
	if len(m.EAM) > 0 {
		return nil
	}
	to6 := func(a netip.Addr) netip.Addr {
		if a == m.CLAT.IPv4 {
			return m.CLAT.IPv6
		}
		return embed(m.PREF64, a)
	}
	if q.version == 6 {
		if q.src != to6(p.src) || q.dst != to6(p.dst) {
			return fmt.Errorf("%v > %v became %v > %v", p.src, p.dst, q.src, q.dst)
		}
		if m.CLAT.IPv4.IsValid() && p.src != m.CLAT.IPv4 {
			return fmt.Errorf("translated a packet from %v", p.src)
		}
		return nil
	}
	to4 := func(a netip.Addr) netip.Addr {
		switch {
		case a == m.CLAT.IPv6:
			return m.CLAT.IPv4
		case m.PREF64.Contains(a):
			return extract(m.PREF64, a)
		}
		return dummy4
	}
	switch {
	case q.src != to4(p.src) || q.dst != to4(p.dst):
		return fmt.Errorf("%v > %v became %v > %v", p.src, p.dst, q.src, q.dst)
	case q.src == dummy4 && !m.PREF64.Contains(p.src) && !p.isICMPError():
		return fmt.Errorf("192.0.0.8 for something that is no ICMP error")
	case m.CLAT.IPv6.IsValid() && p.dst != m.CLAT.IPv6:
		return fmt.Errorf("translated a packet to %v", p.dst)
	}
	return nil
}

// checkContent checks what lies behind the IP header of a whole translated
// packet, or of a fragment.
func checkContent(p parsed, off siit.Offload, pkt siit.Packet) error {
	q, err := parse(pkt.Bytes(), false)
	if err != nil {
		return err
	}
	if p.offset != q.offset || p.more != q.more {
		return fmt.Errorf("fragment %d,%v became %d,%v", p.offset, p.more, q.offset, q.more)
	}
	want := p.proto
	switch {
	case p.version != q.version && p.proto == protoICMP && p.version == 4:
		want = protoICMPv6
	case p.version != q.version && p.proto == protoICMPv6:
		want = protoICMP
	}
	if q.proto != want {
		return fmt.Errorf("protocol %d became %d", p.proto, q.proto)
	}
	before, after := transportState(p, off), transportState(q, pkt.Offload)
	zeroUDP := p.proto == protoUDP && before == sumUnknown && !p.isFragment() && len(p.transport) >= 8 &&
		binary.BigEndian.Uint16(p.transport[6:]) == 0 && int(binary.BigEndian.Uint16(p.transport[4:])) == len(p.transport)
	switch {
	case before == sumRight && after != sumRight:
		return errors.New("right checksum became wrong")
	case before == sumWrong && after == sumRight && off.Flags&siit.NeedsCsum == 0:
		return errors.New("wrong checksum became right")
	case zeroUDP && q.version == 6 && after != sumRight:
		return errors.New("computed UDP checksum is wrong")
	case q.proto == protoUDP && !p.isFragment() && after != sumUnknown && pkt.Flags&siit.NeedsCsum == 0 && binary.BigEndian.Uint16(q.transport[6:]) == 0:
		return errors.New("UDP checksum 0 came out")
	}
	if q.isICMPError() {
		return nil // the quoted packet is another size now
	}
	if !bytes.Equal(withoutChecksum(p), withoutChecksum(q)) {
		return errors.New("bytes behind the IP header were changed")
	}
	return nil
}

// withoutChecksum is the transport part of p with what translation may change
// blanked out.
func withoutChecksum(p parsed) []byte {
	b := bytes.Clone(p.transport)
	if p.offset > 0 {
		return b
	}
	blank := func(at, n int) { clear(b[min(at, len(b)):min(at+n, len(b))]) }
	switch p.proto {
	case protoTCP:
		blank(16, 2)
	case protoUDP:
		blank(6, 2)
	case protoICMP, protoICMPv6:
		blank(0, 4)
	case 33: // DCCP
		blank(6, 2)
	case 136: // UDP-Lite
		blank(6, 2)
	}
	return b
}
