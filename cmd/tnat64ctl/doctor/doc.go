// Package doctor looks at the network of this host as a person would who has
// to find out why IPv4 does not work on it, and says what is the matter.
//
//   - [Examine] runs the probes, in parallel where they do not need each
//     other, within a bounded time, and fills in [Findings], which are plain
//     data. It works beside a running tnat64d and without one, and as far as
//     the kernel lets it for ordinary users.
//   - [Lines] says each finding in one line.
//   - [Diagnose] comes to one sentence and one next step.
//
// The last two are pure.
//
// Nothing is changed on the host, except that with [Options].Deep a temporary
// address is put on the uplink for a few seconds, to see whether the network
// lets a host have more than one. Test packets go to the routers and resolvers
// of the link and to the target that the user names, never to the addresses of
// ipv4only.arpa, which do not exist (RFC 7050 section 5).
package doctor
