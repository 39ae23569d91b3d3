package siit

// Scratch is the memory of one goroutine that translates: where fragments,
// segments and ICMP errors are put together, the list that a Result points
// to, and the counter that IPv4 identifications are taken from. About 450 KiB;
// nothing is allocated after NewScratch.
type Scratch struct {
	out  []Packet
	mem  []byte
	used int
	id   uint16
}

const (
	// Enough for a packet of 65,575 bytes that comes without headroom, and for
	// a whole packet in the smallest pieces that can come up, with the headers
	// and the headroom of each: 1,365 IPv4 fragments of 48 bytes. Segments of a
	// super-packet may be smaller than that: see fitsScratch.
	scratchBytes   = 384 << 10
	scratchPackets = 1400
)

// NewScratch returns a Scratch whose IPv4 identification counter starts at
// seed, which should be random so that a restart does not repeat it.
func NewScratch(seed uint16) *Scratch {
	return &Scratch{out: make([]Packet, 0, scratchPackets), mem: make([]byte, scratchBytes), id: seed}
}

func (s *Scratch) reset() { s.out, s.used = s.out[:0], 0 }

// nextID returns an IPv4 identification (RFC 6864).
func (s *Scratch) nextID() uint16 {
	s.id++
	return s.id
}

// TakeIDs reserves n consecutive IPv4 identifications and returns the first. A
// packet that the kernel cuts into n gets it, since each piece counts one up.
func (s *Scratch) TakeIDs(n int) uint16 {
	first := s.id + 1
	s.id += uint16(n)
	return first
}

// slot returns how many bytes of a Scratch a packet of n bytes takes.
func slot(n int) int { return (Headroom + n + 15) &^ 15 }

// packet returns n bytes of memory with headroom in front. It is up to the
// caller that there is as much.
func (s *Scratch) packet(n int) Packet {
	end := s.used + Headroom + n
	p := Packet{Buf: s.mem[s.used:end:end], Off: Headroom}
	s.used += slot(n)
	return p
}

// emit appends p to what comes out.
func (s *Scratch) emit(p Packet) { s.out = append(s.out, p) }

// fitsScratch reports whether a Scratch has room for the segments of a
// super-packet of total bytes, each with header bytes of headers and at most
// size bytes of payload, and for the fragments of each, which carry at most
// chunk bytes behind a header of ipLen bytes.
func fitsScratch(total, header, size, chunk, ipLen int) bool {
	segments := (total - header + size - 1) / size
	pieces := (header+size)/chunk + 1
	bytes := slot(header+size) + pieces*slot(ipLen+chunk)
	return segments*pieces <= scratchPackets && segments*bytes <= scratchBytes-slot(ipv6Len+65535)
}
