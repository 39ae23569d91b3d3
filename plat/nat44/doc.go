// Package nat44 is the NAT44 of a NAT64 gateway, behind the translator: it maps the IPv4
// addresses of the pool to those that the gateway has outside, by nftables and
// the kernel's connection tracking, which does ports, timeouts, ICMP errors and
// defragmentation. It also lets nothing into the TUN but what comes from the
// inside, and forwards ports of outside addresses.
//
// The tables belong to the process (NFT_TABLE_F_OWNER, Linux 5.12): other programs
// cannot change them, and they vanish with it. On older kernels [CleanUp] removes
// what a killed process has left.
//
// Connection tracking filters by the remote address and port, where RFC 6146
// section 3.5 would let anybody answer (endpoint-independent filtering).
package nat44
