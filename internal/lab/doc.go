// Package lab is a whole 464XLAT network (RFC 6877) on one machine: hosts are
// network namespaces, links are veth pairs, and nothing but Linux and the
// right to use it (root) is needed.
//
//	laptop ------------------- router ------------ isp ------------- server
//	wlan0                  lan0      wan0    eth0       eth1    eth0
//	2001:db8:1::/64, RAs       |      192.0.2.0/30     198.51.100.0/24
//	with PREF64, no IPv4     nat64                     198.51.100.7
//	                         the PLAT: PREF64 <-> 203.0.113.0/24
//
// The laptop is IPv6-only and configures itself as the kernel does from real
// Router Advertisements. The router advertises PREF64 (RFC 8781) and
// translates, with package siit and one address of its pool for each IPv6
// host. The isp is a plain IPv4 router; the server is an IPv4-only internet of
// one machine with HTTP, echo and DNS.
//
// That is what the zero [Options] give. Options.Kind makes other access networks:
// one address by DHCPv6 or by hand, a bridge, bond, VLAN or PPP link, links without neighbours, tunnels. Others break it in the ways networks
// are broken, or add to it: a resolver with or without DNS64, more PLATs, dead
// PLATs, hops that swallow long packets, an access point that knows few
// addresses, DHCPv6, native IPv4. [Lab.AddNetwork] makes further networks with
// a router each, for the laptop to roam to ([Lab.Roam]) or to be on with a
// second interface ([Lab.AddUplink], Options.Second); a VPN ([Lab.StartVPN])
// and a guest behind the laptop ([Lab.AddGuest]) complete a day's travel.
//
// Everything the routers and the server do runs as goroutines of the process
// that called [New], on sockets opened inside the namespaces. [Lab.Close]
// takes all of it away; what a killed process left, the next New removes.
// Several labs, of one process or of many, do not disturb each other, and the
// machine's own interfaces and settings are never touched.
//
// It does not translate on the laptop: that is what the lab is there to test.
package lab
