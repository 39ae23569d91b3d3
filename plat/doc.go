// Package plat is a NAT64 gateway, the PLAT of 464XLAT (RFC 6877): each IPv6 host
// gets an IPv4 address of a pool for itself, package siit translates between the
// two (RFC 7915), and behind it the kernel's NAT44 (package plat/nat44) maps the
// pool to the addresses of the gateway, or the pool is routed.
//
//	Table      which host has which address: static maps, and dynamic ones given
//	           with the first packet, kept in a file, taken back when idle
//	Mirror     has the maps too: the kernel engine, for simple packets
//	NAT64      TUN, translator, routes and NAT44 on a router
//
// The kernel forwards between the interfaces and the TUN, so the gateway is a
// router: see [CheckForwarding].
package plat
