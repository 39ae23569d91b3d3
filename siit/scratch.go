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
	// A packet of 65,535 bytes in the smallest pieces that can come up, with
	// the headers and the headroom of each.
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

// packet returns n bytes of memory with headroom in front. Its Buf is nil when
// the memory is used up.
func (s *Scratch) packet(n int) Packet {
	end := s.used + Headroom + n
	if end > len(s.mem) {
		return Packet{}
	}
	p := Packet{Buf: s.mem[s.used:end:end], Off: Headroom}
	s.used = (end + 15) &^ 15
	return p
}

// emit appends p to what comes out. It reports false when the list is full.
func (s *Scratch) emit(p Packet) bool {
	if len(s.out) == cap(s.out) {
		return false
	}
	s.out = append(s.out, p)
	return true
}
