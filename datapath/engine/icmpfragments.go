package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"tnat64d/siit"
)

// icmpFragments puts fragmented ICMP messages together. A fragment of any other
// protocol is translated as it comes, but an ICMPv6 checksum covers the length
// of the whole message, which a fragment does not tell (RFC 7915 section 1.2),
// so `ping -s 4000` needs somebody who collects the pieces first.
//
// All queues share one, since nothing promises that the fragments of a message
// come from the same queue; ICMP fragments are rare enough for a lock. Each
// side has its own place, so that nobody on one side can push out messages of
// the other.
type icmpFragments struct{ from4, from6 reassembler }

// fragmentFate is what became of a fragment.
type fragmentFate uint8

const (
	fragmentForeign  fragmentFate = iota // not a fragment of ICMP that can be collected
	fragmentKept                         // kept until the others are there
	fragmentComplete                     // the last that was missing
	fragmentOverlaps                     // its message is dropped (RFC 5722)
)

// add takes the packet p, which the translator refused with FragmentedICMP. If
// p completes a message, the whole packet is written to buf from off on, where
// p may lie, and its length returned.
func (f *icmpFragments) add(p, buf []byte, off int, now time.Time) (n int, fate fragmentFate) {
	h, ok := siit.ParseHeader(p)
	if !ok || !h.More && h.Offset == 0 || h.Total > len(p) {
		return 0, fragmentForeign
	}
	// What is wrong by itself is no word against the others (RFC 8200 section 4.5).
	if data := h.Total - h.Len; data <= 0 || h.Offset+data > maxICMPMessage || h.More && data%8 != 0 {
		return 0, fragmentForeign
	}
	r := &f.from6
	if h.Version == 4 {
		r = &f.from4
	}
	return r.add(&h, p, buf[off:], now)
}

// evicted returns how many messages were given up for lack of space.
func (f *icmpFragments) evicted() uint64 { return f.from4.evicted.Load() + f.from6.evicted.Load() }

const (
	// reassemblyTimeout is how long a message waits for its last piece. Hosts
	// wait 30 to 60 seconds (RFC 1122 section 3.3.2, RFC 8200 section 4.5);
	// whoever pings does not.
	reassemblyTimeout = 10 * time.Second

	// maxMessages is how many messages of one side may be incomplete.
	maxMessages = 32
	// maxPerSource is how many of them may come from one source.
	maxPerSource = maxMessages / 4
)

// reassembler collects the messages of one side.
type reassembler struct {
	mu       sync.Mutex
	messages [maxMessages]*icmpMessage // made when they are needed, and kept
	evicted  atomic.Uint64
}

// fragmentKey tells which fragments belong together (RFC 791, RFC 8200 section 4.5).
type fragmentKey struct {
	addrs [32]byte // source and destination; IPv4 addresses use the first 8 bytes
	id    uint32
}

func keyOf(h *siit.Header, p []byte) (k fragmentKey) {
	if h.Version == 4 {
		copy(k.addrs[:], p[12:20])
	} else {
		copy(k.addrs[:], p[8:40])
	}
	k.id = h.ID
	return k
}

// source tells whose messages count together. A host's programs share one IPv4
// address, so in IPv4 the destination belongs to it.
type source [16]byte

func (k *fragmentKey) source() source { return source(k.addrs[:16]) }

func (r *reassembler) add(h *siit.Header, p, buf []byte, now time.Time) (n int, fate fragmentFate) {
	key := keyOf(h, p)
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.find(&key, now)
	if m == nil {
		m = r.begin(&key, now)
	}
	if !m.put(h, p) {
		return 0, fragmentOverlaps
	}
	if !m.complete() {
		return 0, fragmentKept
	}
	m.deadline = time.Time{}
	return m.write(buf), fragmentComplete
}

// find returns the message that key belongs to, or nil.
func (r *reassembler) find(key *fragmentKey, now time.Time) *icmpMessage {
	for _, m := range r.messages {
		if m != nil && m.live(now) && m.key == *key {
			return m
		}
	}
	return nil
}

// begin returns an empty message for key. Where all places are taken, or the
// source has its share, the oldest message of the source gives way, or of the
// source that has most.
func (r *reassembler) begin(key *fragmentKey, now time.Time) (m *icmpMessage) {
	s := key.source()
	var free **icmpMessage
	mine := 0
	for i := range r.messages {
		m := r.messages[i]
		switch {
		case m == nil || !m.live(now):
			if free == nil || *free == nil {
				free = &r.messages[i] // one that has memory already, if there is any
			}
		case m.source == s:
			mine++
		}
	}
	switch {
	case mine >= maxPerSource:
		m = r.oldest(s, now)
		r.evicted.Add(1)
	case free == nil:
		m = r.oldest(r.greediest(), now)
		r.evicted.Add(1)
	default:
		if *free == nil {
			*free = new(icmpMessage)
		}
		m = *free
	}
	m.reset(key, s, now.Add(reassemblyTimeout))
	return m
}

// oldest returns the live message of source that was begun first.
func (r *reassembler) oldest(s source, now time.Time) (oldest *icmpMessage) {
	for _, m := range r.messages {
		if m != nil && m.live(now) && m.source == s && (oldest == nil || m.deadline.Before(oldest.deadline)) {
			oldest = m
		}
	}
	return oldest
}

// greediest returns the source with most messages, of equals the one with the
// oldest. All places are taken.
func (r *reassembler) greediest() (s source) {
	most, begun := 0, time.Time{}
	for _, m := range r.messages {
		n := 0
		first := m.deadline
		for _, o := range r.messages {
			if o.source == m.source {
				n++
				if o.deadline.Before(first) {
					first = o.deadline
				}
			}
		}
		if n > most || n == most && first.Before(begun) {
			most, begun, s = n, first, m.source
		}
	}
	return s
}
