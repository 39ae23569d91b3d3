// Package steernft brings packets to the user-space translator and away from it
// where the kernel refuses BPF (an unprivileged container, a locked-down
// kernel). It does what the BPF programs of package steer do without their
// kernel engine, by an nf_tables table of the netdev family:
//
//	uplink ingress  IPv6 to one of our addresses     -> TUN, to be read by user space
//	                neighbour discovery and MLD      -> the kernel
//	TUN ingress     IPv6 that user space has written -> uplink, by the neighbour table
//	                other IPv6                       -> dropped
//
// So the host needs no IPv6 forwarding, and super-packets stay whole. A [Guard]
// in a table of the inet family keeps untranslated IPv4 of a CLAT, and IPv6
// from the CLAT address that user space did not send, from leaving.
//
// # What user space has to know
//
// A packet from the uplink reaches the TUN with its Ethernet header in front,
// whose first byte is set to 0: no IP packet begins with that. A packet to the
// uplink loses one from its hop limit ([Steering.TakesHop]). Neither holds for an
// uplink without link header.
//
// # Lifetime
//
// Tables belong to the socket that made them (NFT_TABLE_F_OWNER, Linux 5.12):
// other programs cannot change them, `nft flush ruleset` spares them, and they
// vanish with the process. Before that [CleanUp] finds them by name.
package steernft
