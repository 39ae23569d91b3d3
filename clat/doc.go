// Package clat makes a host the CLAT of a 464XLAT network (RFC 6877): it
// decides what the host should look like and makes it so.
//
//   - [Plan] is pure and total. From what was observed (links, addresses,
//     default routes, PREF64) and the configuration it says which CLAT should
//     run, or in plain words why none should.
//   - [Reconciler] makes the host match, step by step and idempotently, through
//     two small interfaces: [Host] (netlink) and [Datapath] (TUN, steering,
//     engine). Shutdown is the plan "nothing".
//   - [Kernel] is the real Host, and observes; [Watch] tells when to look again.
//
// The rules behind the plan are those of RFC 6877, RFC 7335 and the claton
// draft: a CLAT address of its own that went through DAD, from the uplink's
// /64 that RFC 6724 would pick towards PREF64, IPv4 from 192.0.0.0/29, and
// nothing at all while the uplink has native IPv4.
//
// Everything it adds can be found again: the CLAT IPv6 address carries
// [Protocol] as its origin (Linux 5.18) and is in the [Journal]; the IPv4
// default route carries [Protocol] too, and the TUN an alias. It writes no
// sysctl, except where BPF is refused and the kernel has to forward
// ([Forwarding]); those are in the journal.
//
// What it does not do: packets (package siit), finding PREF64 (package
// pref64), DHCP.
package clat

// Protocol marks the routes (rtm_protocol) and addresses (IFA_PROTO) that are
// ours. 64 is unassigned in linux/rtnetlink.h and in iproute2's rt_protos.
const Protocol = 64

// aliasPrefix begins the link alias of every TUN of ours.
const aliasPrefix = "tnat64d: CLAT on "
