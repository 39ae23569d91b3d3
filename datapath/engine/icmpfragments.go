package engine

import (
	"encoding/binary"
	"sync"
	"time"
)

// icmpFragments puts fragmented ICMP messages together. A fragment of any other
// protocol is translated as it comes, but an ICMPv6 checksum covers the length
// of the whole message, which a fragment does not tell (RFC 7915 section 1.2),
// so `ping -s 4000` needs somebody who collects the pieces first.
//
// Memory is bounded: as many messages as there are slots, the oldest gives way.
// All queues share one, since nothing promises that the fragments of a message
// come from the same queue; ICMP fragments are rare enough for a lock.
type icmpFragments struct {
	mu    sync.Mutex
	slots [16]icmpMessage
}

// reassemblyTimeout is how long a message waits for its last piece. Hosts wait
// 30 to 60 seconds (RFC 1122 section 3.3.2, RFC 8200 section 4.5); whoever
// pings does not.
const reassemblyTimeout = 10 * time.Second

// maxICMPMessage is the largest ICMP message an IPv4 packet can carry.
const maxICMPMessage = 65535 - 20

// fragmentKey tells which fragments belong together (RFC 791, RFC 8200 section 4.5).
type fragmentKey struct {
	addrs   [32]byte // source and destination; IPv4 addresses use the first 8 bytes
	id      uint32
	version uint8
}

// icmpMessage is a message in the making. A zero deadline marks a free slot.
type icmpMessage struct {
	key      fragmentKey
	deadline time.Time
	header   [40]byte // IP header of the first fragment, without options
	first    bool     // the first fragment is there
	total    int      // bytes of the message; 0 until the last fragment tells
	have     int      // bytes collected
	blocks   [maxICMPMessage/8/64 + 1]uint64
	body     []byte // allocated when the slot is used for the first time
}

// piece is a fragment taken apart.
type piece struct {
	key    fragmentKey
	header []byte // IP header
	off    int
	more   bool
	data   []byte
}

// cutPiece takes the fragment p apart. The translator has checked its lengths.
func cutPiece(p []byte) (f piece, ok bool) {
	f.key.version = p[0] >> 4
	switch {
	case f.key.version == 4:
		ihl := int(p[0]&0x0f) * 4
		frag := binary.BigEndian.Uint16(p[6:])
		f.header = p[:20]
		f.off, f.more = int(frag&0x1fff)*8, frag&0x2000 != 0
		f.data = p[ihl:binary.BigEndian.Uint16(p[2:])]
		f.key.id = uint32(binary.BigEndian.Uint16(p[4:]))
		copy(f.key.addrs[:], p[12:20])
	case p[6] == 44: // the Fragment Header comes first
		f.header = p[:40]
		frag := binary.BigEndian.Uint16(p[42:])
		f.off, f.more = int(frag&^7), frag&1 != 0
		f.data = p[48 : 40+int(binary.BigEndian.Uint16(p[4:]))]
		f.key.id = binary.BigEndian.Uint32(p[44:])
		copy(f.key.addrs[:], p[8:40])
	default:
		return f, false
	}
	return f, len(f.data) > 0 && f.off+len(f.data) <= maxICMPMessage
}

// add takes the ICMP fragment p, which the translator refused as such, and says
// whether it was kept, for what it is worth. When it completes a message, the
// whole packet is written to buf from off on, where p may lie, and its length
// returned; otherwise n is 0.
func (r *icmpFragments) add(p, buf []byte, off int, now time.Time) (n int, kept bool) {
	f, ok := cutPiece(p)
	if !ok {
		return 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.slot(f.key, now)
	if !m.put(&f) {
		m.deadline = time.Time{}
		return 0, false
	}
	if !m.first || m.total == 0 || m.have != m.total {
		return 0, true
	}
	m.deadline = time.Time{}
	return m.write(buf[off:]), true
}

// slot returns the message that key belongs to, a new one in the place of an
// expired or the oldest if it is the first of its kind.
func (r *icmpFragments) slot(key fragmentKey, now time.Time) *icmpMessage {
	oldest := &r.slots[0]
	for i := range r.slots {
		m := &r.slots[i]
		if m.key == key && now.Before(m.deadline) {
			return m
		}
		if m.deadline.Before(oldest.deadline) {
			oldest = m
		}
	}
	body := oldest.body
	if body == nil {
		body = make([]byte, maxICMPMessage)
	}
	*oldest = icmpMessage{key: key, deadline: now.Add(reassemblyTimeout), body: body}
	return oldest
}

// put enters a fragment. It reports false when the fragments contradict each
// other or overlap, which ends the message (RFC 5722).
func (m *icmpMessage) put(f *piece) bool {
	end := f.off + len(f.data)
	if !f.more {
		if m.total != 0 && m.total != end {
			return false
		}
		m.total = end
	}
	if m.total != 0 && end > m.total {
		return false
	}
	present, blocks := 0, 0
	for b := f.off / 8; b < (end+7)/8; b++ {
		blocks++
		if m.blocks[b/64]&(1<<(b%64)) != 0 {
			present++
		}
		m.blocks[b/64] |= 1 << (b % 64)
	}
	switch present {
	case 0:
	case blocks:
		return true // a duplicate
	default:
		return false
	}
	copy(m.body[f.off:], f.data)
	m.have += len(f.data)
	if f.off == 0 {
		m.first = true
		copy(m.header[:], f.header)
	}
	return true
}

// write puts the whole packet into b. An IPv6 packet keeps a Fragment Header
// that says it is whole (an atomic fragment, RFC 6946), so that its IPv4 form
// gets the identification and may be fragmented again.
func (m *icmpMessage) write(b []byte) int {
	h := m.header[:]
	body := m.body[:m.total]
	if m.key.version == 4 {
		h = h[:20]
		h[0] = 0x45
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		h[6], h[7], h[10], h[11] = 0, 0, 0, 0
		binary.BigEndian.PutUint16(h[10:], headerChecksum(h))
		n := copy(b, h)
		return n + copy(b[n:], body)
	}
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(body)))
	n := copy(b, h)
	n += copy(b[n:], []byte{58, 0, 0, 0})
	binary.BigEndian.PutUint32(b[n:], m.key.id)
	n += 4
	return n + copy(b[n:], body)
}

// headerChecksum returns the checksum of an IPv4 header whose field is zero.
func headerChecksum(h []byte) uint16 {
	var s uint32
	for i := 0; i < len(h); i += 2 {
		s += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	s = s>>16 + s&0xffff
	return ^uint16(s>>16 + s)
}
