// Package steer brings packets to the user-space translator and away from it,
// by BPF programs at the tc hooks of the uplink and the TUN:
//
//	uplink ingress  IPv6 to one of our addresses     -> TUN, to be read by user space
//	TUN ingress     IPv6 that user space has written -> uplink, by the neighbour table
//	uplink egress   IPv4 of the CLAT, untranslated   -> dropped
//
// So the host needs no IPv6 forwarding (which would make it deaf to router
// advertisements), no proxy neighbour discovery and no firewall rule. The CLAT
// address is an ordinary address of the uplink, which the kernel defends and
// answers solicitations for: neighbour discovery and MLD are left to it. GSO
// super-packets stay whole in both directions. bpf/steer.c has the details.
//
// The programs are attached by tcx (kernel 6.6) or else as clsact filters
// (kernel 5.10). tcx links end with the process; a filter outlives a killed
// process and is found again by its name, see [CleanUp].
//
// What it does not do: look at what is in a packet beyond its addresses, or
// decide which uplink, address and router to use.
package steer
