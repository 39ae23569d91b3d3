package engine

import (
	"hash/maphash"
	"slices"

	"tnat64d/siit"
	"tnat64d/tun"
)

const (
	// maxBatch is how many packets are read before all that came of them is
	// written, if the queue does not get empty earlier.
	maxBatch = 64

	trainSets = 16
	trainWays = 4
)

// coalescer joins translated packets of one flow that follow each other into
// super-packets, which cost the kernel hardly more than one packet. It holds
// packets until flush, in the order of each flow.
//
// Packets whose flow cannot be told, fragments above all, wait for everything
// that is held. Either segments are held or fragments.
type coalescer struct {
	put  func(p siit.Packet, segments int)
	ids  *siit.Scratch
	udp  bool // the kernel takes UDP super-packets
	seed maphash.Seed
	sets [trainSets][trainWays]train
	held []*train // oldest first
	free [][]byte // buffers of bufferLen bytes

	fragments fragments  // of IPv4
	memory    tun.Memory // of the buffers
}

func newCoalescer(udp bool, ids *siit.Scratch, put func(p siit.Packet, segments int)) *coalescer {
	const trains = trainSets * trainWays
	c := &coalescer{put: put, ids: ids, udp: udp, seed: maphash.MakeSeed(), held: make([]*train, 0, trains)}
	// The last buffer is that of the fragments.
	c.memory = tun.NewMemory((trains + 1) * bufferLen)
	all := c.memory.Bytes
	c.fragments.buf = all[trains*bufferLen:]
	for i := range trains {
		c.free = append(c.free, all[i*bufferLen:(i+1)*bufferLen:(i+1)*bufferLen])
	}
	return c
}

// release gives the buffers back. Nothing may be added afterwards, and what add
// has returned must not be used.
func (c *coalescer) release() {
	c.memory.Free()
	c.held, c.free, c.fragments.buf = nil, nil, nil
}

// add takes what one packet became. If it is a single packet in buf, of
// bufferLen bytes, add may keep buf: it returns the buffer that takes its place.
// plain says that the packet had neither IPv4 options nor extension headers.
func (c *coalescer) add(packets []siit.Packet, buf []byte, plain bool) []byte {
	if len(packets) != 1 {
		c.pass(packets)
		return buf
	}
	if c.fragments.take(&packets[0]) {
		return buf
	}
	c.endFragments()
	if !plain {
		c.flush()
		if &packets[0].Buf[0] == &buf[0] {
			if instead, ok := c.fragments.begin(packets[0], buf); ok {
				return instead
			}
		}
		c.put(packets[0], 1)
		return buf
	}
	s, ok := parseSegment(packets[0], c.seed)
	if !ok {
		c.pass(packets)
		return buf
	}
	s.joins = s.joins && (s.tcp || c.udp) && &s.p.Buf[0] == &buf[0]
	set := &c.sets[s.hash%trainSets]
	t := find(set, &s)
	if t != nil {
		if t.take(&s) {
			return buf
		}
		c.write(t)
	}
	if !s.joins {
		c.put(s.p, 1)
		return buf
	}
	if t == nil {
		t = c.vacate(set)
	}
	t.begin(s, buf)
	c.held = append(c.held, t)
	last := len(c.free) - 1
	buf, c.free = c.free[last], c.free[:last]
	return buf
}

// pass writes packets behind all that is held.
func (c *coalescer) pass(packets []siit.Packet) {
	c.flush()
	for _, p := range packets {
		c.put(p, 1)
	}
}

// find returns the train of the flow of s, or nil.
func find(set *[trainWays]train, s *segment) *train {
	for i := range set {
		if t := &set[i]; t.count > 0 && t.sameFlow(s) {
			return t
		}
	}
	return nil
}

// vacate returns a free train of set. If there is none, the oldest is written.
func (c *coalescer) vacate(set *[trainWays]train) *train {
	for i := range set {
		if set[i].count == 0 {
			return &set[i]
		}
	}
	for _, t := range c.held {
		for i := range set {
			if t == &set[i] {
				c.write(t)
				return t
			}
		}
	}
	panic("a train is in use and not held")
}

// write writes a train before the others.
func (c *coalescer) write(t *train) {
	i := slices.Index(c.held, t)
	c.held = slices.Delete(c.held, i, i+1)
	c.end(t)
}

// endFragments writes the fragments that are held.
func (c *coalescer) endFragments() {
	if c.fragments.count > 0 {
		c.put(c.fragments.end())
	}
}

// flush writes all that is held.
func (c *coalescer) flush() {
	c.endFragments()
	for _, t := range c.held {
		c.end(t)
	}
	c.held = c.held[:0]
}

func (c *coalescer) end(t *train) {
	c.put(t.finish(c.ids), t.count)
	c.free = append(c.free, t.buf)
	t.count, t.buf = 0, nil
}
