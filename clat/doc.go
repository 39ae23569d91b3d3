// Package clat makes a host the CLAT of its 464XLAT networks (RFC 6877): it
// decides what the host should look like and makes it so.
//
//   - [Plan] is pure and total. From what was observed (links, addresses,
//     default routes, PREF64) and the configuration it says for every uplink
//     which CLAT should run, or in plain words why none should. [Uplinks] says
//     before that for which links somebody has to look for PREF64.
//   - [Reconciler] makes the host match, step by step and idempotently, through
//     two small interfaces: [Host] (netlink) and [Datapath] (TUN, steering,
//     engine). What fails on one uplink does not touch the others. Shutdown is
//     the plan "nothing".
//   - [Kernel] is the real Host, and observes; [Watch] tells when to look again.
//
// The rules behind the plan are those of RFC 6877, RFC 7335 and the claton
// draft: a CLAT for each uplink, with an address of its own that went through
// DAD, from the uplink's /64 that RFC 6724 would pick towards PREF64, IPv4 from
// 192.0.0.0/29, and nothing at all while the uplink has native IPv4 or another
// CLAT. Its IPv4 default route is worse than every native one.
//
// # A change of network
//
// TUN, IPv4 address and engine outlive their network: when that is gone they
// are held for a minute, without a route, so that programs hear at once that
// the network is unreachable; when another PREF64 or /64 comes they go on with
// a new CLAT IPv6 address. From an address whose /64 is gone nothing is sent
// any more, while one that is only deprecated serves until the new one has
// passed DAD. Connections that a change breaks are aborted (SOCK_DESTROY),
// because nothing else ends them soon: an ICMP error is but a hint to TCP. A
// stop aborts nothing, as a restart may find the same network.
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
// [Protocol] as its origin (Linux 5.18) and is in the [Journal]; routes and
// rules carry [Protocol] too, and the TUN an alias. It changes no
// sysctl, and the host never becomes a router.
//
// What it does not do: packets (package siit), finding PREF64 (package
// pref64), DHCP.
package clat
