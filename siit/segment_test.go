package siit_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tnat64d/siit"
)

// segment does in software what a network card does with a super-packet, and
// with a packet whose checksum it was told to complete. The packets it returns
// have every checksum computed from nothing.
func segment(p siit.Packet) ([][]byte, error) {
	whole := p.Bytes()
	ip, err := parse(whole, false)
	if err != nil {
		return nil, err
	}
	if p.GSOType == siit.GSONone {
		b := bytes.Clone(whole)
		if p.Flags&siit.NeedsCsum != 0 {
			at := int(p.CsumStart) + int(p.CsumOffset)
			sum := ^checksum.Checksum(b[p.CsumStart:], 0)
			if sum == 0 {
				sum = 0xffff // as Linux does for any protocol
			}
			binary.BigEndian.PutUint16(b[at:], sum)
		}
		return [][]byte{b}, nil
	}
	if p.GSOSize == 0 || int(p.HdrLen) > len(whole) {
		return nil, errors.New("not a super-packet")
	}
	headers, payload := whole[:p.HdrLen], whole[p.HdrLen:]
	var out [][]byte
	for sent := 0; sent == 0 || sent < len(payload); sent += int(p.GSOSize) {
		n := min(int(p.GSOSize), len(payload)-sent)
		b := append(bytes.Clone(headers), payload[sent:sent+n]...)
		if ip.version == 4 {
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			binary.BigEndian.PutUint16(b[4:], uint16(ip.id)+uint16(len(out)))
			fixIPv4Checksum(b)
		} else {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		}
		t := b[ip.headerLen:]
		if ip.proto == protoTCP {
			binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(sent))
			if len(out) > 0 {
				t[13] &^= 0x80 // CWR belongs to the first segment
			}
			if sent+n < len(payload) {
				t[13] &^= 0x09 // FIN and PSH to the last
			}
			fixTCPChecksum(ip.src, ip.dst, t)
		} else {
			binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
			fixUDPChecksum(ip.src, ip.dst, t)
		}
		out = append(out, b)
	}
	return out, nil
}

// reassemble puts fragments together, of either IP version, and passes whole
// packets on. A reassembled packet stands where its first fragment stood and
// has no Fragment Header. Gaps, overlaps and datagrams without an end are
// errors: the translator has no right to any of them.
func reassemble(packets [][]byte) ([][]byte, error) {
	type key struct {
		src, dst string
		proto    uint8
		id       uint32
	}
	type datagram struct {
		at   int
		next int
		done bool
	}
	var out [][]byte
	open := map[key]*datagram{}
	for _, b := range packets {
		p, err := parse(b, false)
		if err != nil {
			return nil, err
		}
		if !p.isFragment() {
			out = append(out, b)
			continue
		}
		k := key{p.src.String(), p.dst.String(), p.proto, p.id}
		d := open[k]
		if d == nil {
			d = &datagram{at: len(out), next: p.offset}
			open[k] = d
			out = append(out, withoutFragment(b, p))
			if p.offset != 0 {
				return nil, fmt.Errorf("first fragment has offset %d", p.offset)
			}
		} else {
			out[d.at] = append(out[d.at], p.transport...)
		}
		switch {
		case d.done:
			return nil, fmt.Errorf("fragment at %d after the last one: an identification was used twice", p.offset)
		case p.offset != d.next:
			return nil, fmt.Errorf("fragment at %d, expected at %d", p.offset, d.next)
		case p.more && len(p.transport)%8 != 0:
			return nil, fmt.Errorf("fragment of %d bytes is not the last", len(p.transport))
		}
		d.next += len(p.transport)
		d.done = !p.more
	}
	for k, d := range open {
		if !d.done {
			return nil, fmt.Errorf("datagram %v never ends", k)
		}
		fixLength(out[d.at])
	}
	return out, nil
}

// withoutFragment is b as if it had not been fragmented.
func withoutFragment(b []byte, p parsed) []byte {
	if p.version == 4 {
		w := bytes.Clone(b[:p.headerLen])
		w[6], w[7] = w[6]&0x40, 0
		return append(w, p.transport...)
	}
	w := bytes.Clone(b[:40])
	w[6] = p.proto
	return append(w, p.transport...)
}

func fixLength(b []byte) {
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		fixIPv4Checksum(b)
		return
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
}

// reassembleOne puts together what one packet became. If that was a fragment
// itself, the result has its offset and M.
func reassembleOne(packets []siit.Packet) ([]byte, error) {
	var pieces [][]byte
	var first, last parsed
	for i, pkt := range packets {
		p, err := parse(pkt.Bytes(), false)
		if err != nil {
			return nil, err
		}
		if !p.isFragment() {
			return nil, fmt.Errorf("piece %d of %d is no fragment", i, len(packets))
		}
		if i == 0 {
			first = p
		}
		last = p
		pieces = append(pieces, moveFragment(pkt.Bytes(), p, p.offset-first.offset, i < len(packets)-1))
		if i < len(packets)-1 && !p.more {
			return nil, fmt.Errorf("piece %d of %d has M=0", i, len(packets))
		}
	}
	whole, err := reassemble(pieces)
	if err != nil {
		return nil, err
	}
	if len(whole) != 1 {
		return nil, fmt.Errorf("%d datagrams came out of one", len(whole))
	}
	if first.offset == 0 && !last.more {
		return whole[0], nil
	}
	p, err := parse(whole[0], false)
	if err != nil {
		return nil, err
	}
	return refragment(whole[0], p, first.id, first.offset, last.more), nil
}

// moveFragment gives a fragment another offset and M.
func moveFragment(b []byte, p parsed, offset int, more bool) []byte {
	b = bytes.Clone(b)
	if p.version == 4 {
		field := uint16(offset / 8)
		if more {
			field |= 0x2000
		}
		binary.BigEndian.PutUint16(b[6:], field)
		fixIPv4Checksum(b)
		return b
	}
	field := uint16(offset)
	if more {
		field |= 1
	}
	binary.BigEndian.PutUint16(b[p.headerLen-6:], field)
	return b
}

// refragment makes the whole packet b a fragment.
func refragment(b []byte, p parsed, id uint32, offset int, more bool) []byte {
	if p.version == 4 {
		return moveFragment(b, p, offset, more)
	}
	return ip6{src: p.src, dst: p.dst, tc: p.tos, hop: p.ttl, proto: p.proto,
		ext: []extension{fragment(id, offset, more)}, payload: p.transport}.bytes()
}

// isSuper tells whether the GSO type of off fits the packet p.
func isSuper(p parsed, off siit.Offload) bool {
	if off.GSOSize == 0 || p.isFragment() {
		return false
	}
	switch off.GSOType &^ siit.GSOECN {
	case siit.GSOTCPv4:
		return p.version == 4 && p.proto == protoTCP && len(p.transport) >= 20
	case siit.GSOTCPv6:
		return p.version == 6 && p.proto == protoTCP && len(p.transport) >= 20
	case siit.GSOUDPL4:
		return p.proto == protoUDP && len(p.transport) >= 8
	}
	return false
}

// checkSegments checks that the packets which a super-packet became carry
// what its segments would have carried.
func checkSegments(p parsed, off siit.Offload, packets []siit.Packet) error {
	var wire [][]byte
	for i, pkt := range packets {
		segments, err := segment(pkt)
		if err != nil {
			return fmt.Errorf("packet %d: %w", i, err)
		}
		wire = append(wire, segments...)
	}
	whole, err := reassemble(wire)
	if err != nil {
		return err
	}
	hdr := 8
	if p.proto == protoTCP {
		hdr = int(p.transport[12]>>4) * 4
	}
	want := p.transport[hdr:]
	for i, b := range whole {
		q, err := parse(b, false)
		if err != nil {
			return err
		}
		if q.proto != p.proto || len(q.transport) < hdr {
			return fmt.Errorf("segment %d is protocol %d with %d bytes", i, q.proto, len(q.transport))
		}
		if transportState(q, siit.Offload{}) == sumWrong && transportState(p, off) == sumRight {
			return fmt.Errorf("segment %d has a wrong checksum", i)
		}
		got := q.transport[hdr:]
		if i < len(whole)-1 && len(got) != int(off.GSOSize) || len(got) > len(want) || !bytes.Equal(got, want[:len(got)]) {
			return fmt.Errorf("segment %d of %d carries %d bytes, or other bytes", i, len(whole), len(got))
		}
		want = want[len(got):]
	}
	if len(want) > 0 {
		return fmt.Errorf("%d bytes of payload are lost", len(want))
	}
	return nil
}
