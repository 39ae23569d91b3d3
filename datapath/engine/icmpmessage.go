package engine

import (
	"bytes"
	"encoding/binary"
	"time"

	"tnat64d/siit"
)

// maxICMPMessage is the largest ICMP message an IPv4 packet can carry.
const maxICMPMessage = 65535 - 20

// icmpMessage is a message in the making. Its fragments never overlap: the
// first one that does ends it, whatever the IP version (RFC 8200 section 4.5,
// RFC 5722), and what comes later is dropped until the deadline. So a message
// is complete when it has as many bytes as its last fragment says, and none of
// them is older than the message.
type icmpMessage struct {
	key      fragmentKey
	source   source
	deadline time.Time // zero: free
	broken   bool      // fragments overlapped

	header  [40]byte // IP header of the first fragment, without options
	version uint8
	first   bool // the first fragment is there
	total   int  // bytes of the message; 0 until the last fragment tells
	end     int  // behind the furthest byte so far
	have    int  // bytes so far

	present blockSet // 8-byte blocks that are there
	starts  blockSet // blocks that a fragment begins with
	body    []byte
}

// blockSet is a set of 8-byte blocks of a message.
type blockSet [maxICMPMessage/8/64 + 1]uint64

func (s *blockSet) has(block int) bool { return s[block/64]&(1<<(block%64)) != 0 }
func (s *blockSet) add(block int)      { s[block/64] |= 1 << (block % 64) }

func (m *icmpMessage) live(now time.Time) bool { return now.Before(m.deadline) }

// reset empties the message for another one.
func (m *icmpMessage) reset(key *fragmentKey, s source, deadline time.Time) {
	body := m.body
	clear(body[:min(m.end, len(body))])
	*m = icmpMessage{key: *key, source: s, deadline: deadline, body: body}
}

// put enters the fragment p with the header h. It reports false when p, or an
// earlier one, overlaps or contradicts the others. Exact copies do neither.
func (m *icmpMessage) put(h *siit.Header, p []byte) bool {
	data := p[h.Len:h.Total]
	if m.broken || !m.fits(h, h.Offset+len(data)) {
		m.broken = true
		return false
	}
	from, to := h.Offset/8, (h.Offset+len(data)+7)/8
	for b := from; b < to; b++ {
		if !m.present.has(b) {
			continue
		}
		if (h.More || m.total != 0) && m.isCopy(h.Offset, data) {
			return true
		}
		m.broken = true
		return false
	}
	end := h.Offset + len(data)
	m.grow(end)
	copy(m.body[h.Offset:], data)
	m.have += len(data)
	m.end = max(m.end, end)
	m.starts.add(from)
	for b := from; b < to; b++ {
		m.present.add(b)
	}
	if !h.More {
		m.total = end
	}
	if h.Offset == 0 {
		m.first, m.version = true, h.Version
		copy(m.header[:], p[:min(h.Len, len(m.header))])
	}
	return true
}

// fits reports whether a fragment up to end agrees with the others on where
// the message ends.
func (m *icmpMessage) fits(h *siit.Header, end int) bool {
	if h.More {
		return m.total == 0 || end < m.total
	}
	return (m.total == 0 || m.total == end) && end >= m.end
}

// isCopy reports whether data at off is exactly a fragment that is there.
func (m *icmpMessage) isCopy(off int, data []byte) bool {
	end := off + len(data)
	if !m.starts.has(off/8) || end > m.end || !bytes.Equal(m.body[off:end], data) {
		return false
	}
	for b := off/8 + 1; b < (end+7)/8; b++ {
		if m.starts.has(b) || !m.present.has(b) {
			return false
		}
	}
	// The fragment that is there must end here too.
	return end == m.total || end%8 == 0 && (!m.present.has(end/8) || m.starts.has(end/8))
}

// grow makes room for so many bytes.
func (m *icmpMessage) grow(n int) {
	if n <= len(m.body) {
		return
	}
	size := max(8<<10, len(m.body))
	for size < n {
		size *= 2
	}
	body := make([]byte, size)
	copy(body, m.body[:m.end])
	m.body = body
}

// complete reports whether every byte is there.
func (m *icmpMessage) complete() bool { return m.first && m.total != 0 && m.have == m.total }

// write puts the whole packet into b and returns its length, at most 20 or 48
// bytes more than maxICMPMessage. An IPv6 packet keeps a Fragment Header that
// says it is whole (an atomic fragment, RFC 6946), so that its IPv4 form gets
// the identification and may be fragmented again.
func (m *icmpMessage) write(b []byte) int {
	h := m.header[:]
	body := m.body[:m.total]
	if m.version == 4 {
		h = h[:20]
		h[0] = 0x45
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		h[6], h[7], h[10], h[11] = 0, 0, 0, 0
		binary.BigEndian.PutUint16(h[10:], ^siit.Sum(h, 0))
		n := copy(b, h)
		return n + copy(b[n:], body)
	}
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(body)))
	h[6] = 44
	n := copy(b, h)
	n += copy(b[n:], []byte{58, 0, 0, 0})
	binary.BigEndian.PutUint32(b[n:], m.key.id)
	n += 4
	return n + copy(b[n:], body)
}
