// Package steer brings packets to the user-space translator and away from it,
// by BPF programs at the tc hooks of the uplink and the TUN, and translates the
// simple ones on the way:
//
//	TUN egress      simple IPv4 of a program         -> translated, uplink
//	                any other                        -> read by user space
//	TUN ingress     IPv6 that user space has written -> uplink, by the neighbour table
//	uplink ingress  simple IPv6 to the CLAT address  -> translated, received from the TUN
//	                other IPv6 to one of our addresses -> read by user space
//	uplink egress   from the CLAT, not translated    -> dropped
//
// So the host needs no IPv6 forwarding (which would make it deaf to router
// advertisements), no proxy neighbour discovery and no firewall rule. The CLAT
// address is an ordinary address of the uplink, which the kernel defends and
// answers solicitations for: neighbour discovery and MLD are left to it. GSO
// super-packets stay whole in both directions. bpf/steer.c has the details.
//
// # The kernel engine
//
// Simple packets are TCP, UDP with a checksum, and ICMP echo up to 512 bytes,
// between the CLAT's addresses (its pair and up to [MaxEAM] explicit mappings) and
// PREF64 or other mapped addresses, without fragments, options and extension
// headers, with a TTL above 1, that fit the MTU. They get the same bytes as
// from package siit, IPv4 identifications apart. Everything else, and everything
// that siit would not translate, reaches user space as it is: there it is
// answered, dropped and counted. Steering works without the kernel engine, where
// the kernel refuses it or nobody wants it; see [Config.KernelEngine] and
// [Steering.SetTranslation].
//
// Programs cannot see two things, and translate wrongly what has them: that a
// super-packet came together by fraglist GRO (ethtool rx-gro-list, which is off
// by default), and that datagrams of UDP_SEGMENT were sent through a TUN whose
// checksum offload was switched off (ethtool tx, which package tun has on).
//
// # Attachment
//
// The programs are attached by tcx (kernel 6.6) or else as clsact filters
// (kernel 5.10). tcx links end with the process; a filter outlives a killed
// process and is found again by its name, see [CleanUp].
//
// # Guards
//
// Nothing leaves from the addresses of a CLAT that has not come through the TUN
// or the kernel engine, except the kernel's neighbour discovery and MLD: IPv4,
// which would be untranslated, nor IPv6 of a program that has bound the CLAT
// address, whose answers would be translated and reach another program. Nor is
// IPv4 to a CLAT's address taken from a link. The translator's packets carry a
// [Token]. A [Guard] does the same on links that are no CLAT's uplink but might
// become the way out when routes change. [Guarded] says which addresses.
//
// What it does not do: decide which uplink, address and router to use.
package steer
