// Package clat makes a host the CLAT of its 464XLAT networks (RFC 6877).
//
// [Reconciler] makes the host match a [plan.Plan], step by step and idempotently,
// through two interfaces: [Host] (implemented by package clat/host) and
// [Opener] (TUN, steering, engine). A step that fails on one uplink does not
// touch the others. Shutdown is the plan "nothing".
//
// # A change of network
//
// TUN, IPv4 address and engine outlive their network: when that is gone they
// are held for a minute, without a route, so that programs hear at once that
// the network is unreachable; when another PREF64 or /64 appears they continue
// with a new CLAT IPv6 address. From an address whose /64 is gone nothing is sent
// any more, while one that is only deprecated serves until the new one has
// passed DAD. Connections that a change breaks are aborted (SOCK_DESTROY),
// because nothing else ends them soon: TCP treats an ICMP error only as a hint. A
// stop aborts nothing, because a restart may find the same network.
//
// # Several links
//
// Where a CLAT's default route is not the only one (two CLATs, native IPv4 on
// another link) a routing rule and a table of its own keep the packets that
// have its source with it. Whatever the routes say, nothing leaves from the
// addresses of a CLAT that the translator has not sent: every link with a default
// route has a guard, except those that carry somebody else's CLAT.
//
// # What is left on the host
//
// Everything it adds can be found again: the CLAT IPv6 address carries
// [plan.Protocol] as its origin (Linux 5.18) and is in the [Journal]; routes and
// rules carry [plan.Protocol] too, and the TUN an alias. It changes no
// sysctl, and the host never becomes a router.
//
// It does not translate packets (package siit), discover PREF64 (package pref64)
// or speak DHCP.
package clat
