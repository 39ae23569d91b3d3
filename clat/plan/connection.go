package plan

import "net/netip"

// Connection is a TCP connection or UDP socket of a program.
type Connection struct {
	Protocol uint8 // IPPROTO_TCP or IPPROTO_UDP
	Port     uint16
	Remote   netip.AddrPort // zero: a UDP socket that is not connected
}
