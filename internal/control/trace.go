package control

import (
	"time"
)

// Record is a packet that the translator has seen, as `tnat64ctl trace` gets
// it. While somebody traces, the kernel engine pauses, so that every packet is
// seen.
type Record struct {
	Time      time.Time `json:"time"`
	Uplink    string    `json:"uplink"`
	Direction string    `json:"direction,omitempty"` // 4to6, 6to4; empty if it is no IP packet
	Verdict   Verdict   `json:"verdict"`
	Reason    string    `json:"reason,omitempty"` // why it was not translated
	In        []byte    `json:"in"`               // IP packet as it came, cut to the filter's snapshot length
	InLen     int       `json:"in_len"`
	Out       []Packet  `json:"out"` // the translation, its fragments, or the ICMP error that goes back; never null

	// Limited: an ICMP error would have gone back, and did not because of
	// translation.icmp-errors-per-second. The verdict is drop.
	Limited bool `json:"limited,omitempty"`

	// Missed counts records that were lost before this one, because the reader
	// was too slow.
	Missed uint64 `json:"missed,omitempty"`
}

// Packet is an IP packet, perhaps cut.
type Packet struct {
	Data []byte `json:"data"`
	Len  int    `json:"len"`
}

// Verdict is the result for a packet, in the words of `tnat64ctl translate` and
// [Collected].
type Verdict string

const (
	Translated Verdict = "translated"
	Reply      Verdict = "reply" // an ICMP error went back to the sender
	Drop       Verdict = "drop"

	// Collected: a fragment of an ICMP message, kept until the others are
	// there. The whole message is a Record of its own, after its last fragment.
	Collected Verdict = "collected"
)

// Verdicts returns all of them.
func Verdicts() []Verdict { return []Verdict{Translated, Reply, Drop, Collected} }
