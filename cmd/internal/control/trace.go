package control

import (
	"net/netip"
	"time"
)

// Record is a packet that the translator has seen, as `tnat64ctl trace` gets
// it. While somebody traces, the kernel engine pauses, so that every packet is
// seen.
type Record struct {
	Time      time.Time `json:"time"`
	Uplink    string    `json:"uplink"`
	Direction string    `json:"direction"` // 4to6, 6to4
	Verdict   string    `json:"verdict"`   // translated, reply, drop: as in `tnat64ctl translate`
	Reason    string    `json:"reason,omitempty"`
	In        []byte    `json:"in"` // IP packet as it came, cut to the filter's snapshot length
	InLen     int       `json:"in_len"`
	Out       []Packet  `json:"out"` // the translation, its fragments, or the ICMP error that goes back

	// Missed counts records that were lost before this one, because the reader
	// was too slow.
	Missed uint64 `json:"missed,omitempty"`
}

// Packet is an IP packet, perhaps cut.
type Packet struct {
	Data []byte `json:"data"`
	Len  int    `json:"len"`
}

// Filter selects Records: all fields that are set must match. As query
// parameters of /v1/trace: uplink, reason, verdict, protocol, address, snaplen.
type Filter struct {
	Uplink   string       // name
	Reason   string       // drop reason
	Verdict  string       // translated, reply, drop
	Protocol string       // tcp, udp, icmp, or a protocol number
	Address  netip.Prefix // contains source or destination of the packet as it came, or of what came out
	Snaplen  int          // bytes kept of each packet; 0: 256
}
