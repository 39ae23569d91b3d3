// Package doctor finds out why IPv4 does not work on this host and its network.
//
//   - [Examine] runs the probes, in parallel where they do not depend on each
//     other, within a bounded time, and fills in [Findings], which are plain
//     data. It works with and without a running tnat64d, and for ordinary users
//     as far as the kernel permits.
//   - [Lines] describes each finding in one line.
//   - [Diagnose] returns a diagnosis in one sentence and the next step.
//
// The last two are pure functions. Links, tunnels and native IPv4 are judged by
// package clat/plan, as in the daemon.
//
// Nothing is changed on the host, except that with [Options].Deep a temporary
// address is added to the uplink for a few seconds, to test whether the network
// allows more than one. Test packets go to the routers and resolvers
// of the link and to the target that the user names, never to the addresses of
// ipv4only.arpa, which do not exist (RFC 7050 section 5).
package doctor
