// Sharing the host's own IPv6 address with the translator: whose is a packet, and
// which port does it have on the wire.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "flow.h"
#include "maps.h"
#include "packet.h"
#include "ports.h"
#include "sockets.h"
#include "to6.h"
#include "transport.h"

#define TCP_FLAGS 13 // offset of the flags
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define ICMP_ECHO_REQUEST 128
#define ICMP_ECHO_REPLY 129
#define ICMP_ERROR_MAX 127
#define ECHO_ID 4 // offset of the identifier

// Who an incoming packet is for.
enum owner {
	HOST,
	TRANSLATOR,
	BOTH, // nobody knows: a later fragment that came before the first
	NOBODY, // it could not be changed
};

// Owners of packets in fragments: of those, only the first has ports.
struct packet_key {
	__be64 remote[2];
	__u64 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct packet_key);
	__type(value, __u64); // enum owner
} fragment_owners SEC(".maps");

// Where the transport header of an IPv6 packet is.
struct place {
	__u32 at; // bytes behind the start of the IPv6 header that was given
	__u32 next;
	__u32 fragment; // 0: it is none
	__u32 id;
};

#define FIRST_FRAGMENT 1
#define LATER_FRAGMENT 2

// find_transport walks the extension headers behind the IPv6 header at off bytes
// behind the packet's own. A chain that is cut short or too long ends at a header
// that no flow has.
static __always_inline struct place find_transport(struct __sk_buff *skb, __u32 off, __u8 next)
{
	struct place p = { .at = off + sizeof(struct ipv6hdr), .next = next };
	struct {
		__u8 next, len;
		__be16 offset;
		__be32 id;
	} ext __attribute__((aligned(8)));

#pragma unroll
	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		if (p.next != IPPROTO_HOPOPTS && p.next != IPPROTO_DSTOPTS && p.next != IPPROTO_ROUTING && p.next != IPPROTO_FRAGMENT)
			break;
		if (load(skb, p.at, &ext, sizeof(ext))) {
			p.next = IPPROTO_NONE;
			break;
		}
		if (p.next == IPPROTO_FRAGMENT) {
			p.id = ext.id;
			p.fragment = ext.offset & bpf_htons(0xfff8) ? LATER_FRAGMENT : FIRST_FRAGMENT;
			p.at += 8;
		} else {
			p.at += (ext.len + 1) * 8;
		}
		p.next = ext.next;
		if (p.fragment == LATER_FRAGMENT)
			break;
	}
	return p;
}

static __always_inline bool is_movable(__u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6;
}

// is_partner says whether the translator may talk with a remote address.
static __always_inline bool is_partner(const struct share *s, const __be64 *remote)
{
	return s->everybody || is_behind_plat(s, remote);
}

// l3_offset returns how many bytes of an uplink's packet stand before the IPv6 header.
static __always_inline __u32 l3_offset(struct __sk_buff *skb)
{
	union slot type = { 0 };

	if (!uplink_link_header)
		return 0;
	if (bpf_skb_load_bytes(skb, 2 * ETH_ALEN, &type.u32, 2))
		return ETH_HLEN;
	return type.all == bpf_htons(ETH_P_8021Q) || type.all == bpf_htons(ETH_P_8021AD) ? ETH_HLEN + 4 : ETH_HLEN;
}

// change_port puts another port, or identifier, at an offset of the packet, and
// corrects the checksum at check_at. Both are counted from the IPv6 header, which
// begins at l3.
static __always_inline bool change_port(struct __sk_buff *skb, __u32 l3, __u32 at, __u32 check_at, __u32 protocol, __u32 from, __u32 to)
{
	union slot port = { bpf_htons(to) };

	return !bpf_skb_store_bytes(skb, l3 + at, &port.u32, 2, 0) &&
	       !bpf_l4_csum_replace(skb, l3 + check_at, bpf_htons(from), port.all, 2 | (protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0));
}

static __always_inline __u32 checksum_offset(__u32 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return TCP_CHECK;
	case IPPROTO_UDP:
		return UDP_CHECK;
	}
	return ICMP_CHECK;
}

// A packet that belongs to no flow: an ICMP answer or error.
#define NO_FLOW (~0ULL)

// sent_ports returns the ports of a packet that leaves, the own one in the upper
// half and the remote one in the lower, or NO_FLOW. first are the first 6 bytes of
// its transport header, or more. They are a number, as of an array clang would
// compute the address of one or the other port, which takes CAP_PERFMON.
static __always_inline __u64 sent_ports(__u32 next, __u64 first)
{
	if (next == IPPROTO_ICMPV6)
		return (first & 0xff) == ICMP_ECHO_REQUEST ? (__u64)bpf_ntohs(first >> 32 & 0xffff) << 32 : NO_FLOW;
	if (has_ports(next))
		return (__u64)bpf_ntohs(first & 0xffff) << 32 | bpf_ntohs(first >> 16 & 0xffff);
	return 0;
}

// claim_flow remembers the flow of a packet that leaves from the shared address,
// and gives the packet the port that its flow has on the wire. If there is no port
// it returns false. p is where its transport header is, ports are as of sent_ports.
static __always_inline bool claim_flow(struct __sk_buff *skb, struct place p, const __be64 *dst, __u64 ports, bool translator)
{
	const __u32 own = ports >> 32;
	const __u32 at = p.at + (p.next == IPPROTO_ICMPV6 ? ECHO_ID : 0);
	union slot flags = { 0 };
	enum claim how = CLAIM;
	struct flow_key key;
	__u32 closing = 0;
	__s32 port;

	if (p.next == IPPROTO_TCP && !load(skb, p.at + TCP_FLAGS, &flags.u8, sizeof(flags.u8))) {
		if (flags.all & (TCP_FIN | TCP_RST))
			closing = CLOSING;
		// Anybody outside can make the host send these.
		if (flags.all & TCP_RST || (flags.all & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
			how = CLAIM_NOT;
	}
	if (!is_movable(p.next))
		how = CLAIM_FIXED;
	key.remote[0] = dst[0];
	key.remote[1] = dst[1];
	key.ports = flow_ports(p.next, ON_WIRE, ports & 0xffff, own);
	port = translator ? translator_port(skb, &key, how, closing, bpf_ktime_get_ns()) : host_port(skb, &key, how, closing, bpf_ktime_get_ns());
	if (port == NO_PORT) {
		COUNT(no_port);
		return false;
	}
	if ((__u32)port == own)
		return true;
	if (change_port(skb, translator ? tun_header_len : l3_offset(skb), at, p.at + checksum_offset(p.next), p.next, own, port))
		return true;
	COUNT(failed);
	return false;
}

// claim_port is claim_flow for a packet that nobody has looked into.
static __always_inline bool claim_port(struct __sk_buff *skb, bool translator)
{
	const struct share *s = shared();
	struct ipv6hdr ip6 __attribute__((aligned(8)));
	struct place p;
	__u64 first = 0, ports;
	const __be64 *addrs = (const void *)&ip6.saddr;

	if (!s || load_ipv6(skb, &ip6) || addrs[0] != s->host[0] || addrs[1] != s->host[1])
		return true;
	if (!translator && !is_partner(s, addrs + 2))
		return true;
	p = find_transport(skb, 0, ip6.nexthdr);
	if (p.fragment == LATER_FRAGMENT)
		return true;
	if ((p.next == IPPROTO_ICMPV6 || has_ports(p.next)) && load(skb, p.at, &first, sizeof(first)))
		return true;
	ports = sent_ports(p.next, first);
	return ports == NO_FLOW || claim_flow(skb, p, addrs + 2, ports, translator);
}

// claim_translated is claim_flow for a packet that to6 has translated.
static __always_inline bool claim_translated(struct __sk_buff *skb, const struct translated6 *t)
{
	struct place p = { .at = IPV6_LEN, .next = t->next };
	const __u64 ports = sent_ports(t->next, t->first);
	const struct share *s;

	if (ports == NO_FLOW)
		return true;
	// Looked up where it is compared: see steer_shared.
	s = shared();
	if (!s || t->src[0] != s->host[0] || t->src[1] != s->host[1])
		return true;
	return claim_flow(skb, p, t->dst, ports, true);
}

// own_flow looks for the flow that has a port on the wire, and says whose it is.
// port becomes that of the socket.
static __always_inline enum owner own_flow(struct __sk_buff *skb, const struct flow_key *key, __u32 *port)
{
	struct flow found = { .state = REPLIED };
	const struct share *s;
	__u64 now = bpf_ktime_get_ns();
	struct flow *f = find_flow(&established_flows, key, now);

	if (!f)
		f = find_flow(&new_flows, key, now);
	if (f) {
		touch(f, now, REPLIED);
		*port = f->port;
		return TRANSLATOR;
	}
	f = find_flow(&moved_flows, key, now);
	if (!f)
		f = find_flow(&host_flows, key, now);
	if (f) {
		touch(f, now, REPLIED);
		*port = f->port;
		return HOST;
	}
	s = shared(); // see steer_shared
	// A connected IPv4 socket whose flow was evicted, or began before the tables did.
	if (!s || !has_ipv4_connection(skb, s, key) || has_ipv6_connection(skb, s, key))
		return HOST;
	found.seen = now;
	found.port = key->ports >> 32;
	ADD_FLOW(established_flows, key, &found);
	COUNT(recovered);
	return TRANSLATOR;
}

// quoted_owner says who an ICMPv6 error is for, by the packet that it quotes, and
// corrects the port in that. at is where the message begins.
static __always_inline enum owner quoted_owner(struct __sk_buff *skb, const struct share *s, __u32 at)
{
	struct ipv6hdr ip6 __attribute__((aligned(8)));
	const __be64 *addrs = (const void *)&ip6.saddr;
	const __u32 message = at;
	struct flow_key key;
	struct place p;
	union {
		__u64 all;
		union transport header;
		__be16 ports[4];
	} t = { 0 };
	__u32 own = 0, remote = 0, port;
	enum owner owner;

	at += 8;
	if (load(skb, at, &ip6, sizeof(ip6)) || addrs[0] != s->host[0] || addrs[1] != s->host[1])
		return HOST;
	p = find_transport(skb, at, ip6.nexthdr);
	if (p.fragment == LATER_FRAGMENT)
		return BOTH;
	at = p.at;
	if (p.next == IPPROTO_ICMPV6) {
		if (load(skb, p.at, &t.all, sizeof(t.all)) || t.header.echo.type != ICMP_ECHO_REQUEST)
			return HOST;
		own = bpf_ntohs(t.ports[2]);
		at += 4;
	} else if (has_ports(p.next)) {
		if (load(skb, p.at, &t.all, sizeof(t.all)))
			return HOST;
		own = bpf_ntohs(t.ports[0]);
		remote = bpf_ntohs(t.ports[1]);
	}
	key.remote[0] = addrs[2];
	key.remote[1] = addrs[3];
	key.ports = flow_ports(p.next, ON_WIRE, remote, own);
	port = own;
	owner = own_flow(skb, &key, &port);
	if (port != own && !change_port(skb, l3_offset(skb), at, message + ICMP_CHECK, IPPROTO_ICMPV6, own, port))
		return NOBODY;
	return owner;
}

// packet_owner says who a packet to the shared address is for, and gives it the
// port of the socket.
static __always_inline enum owner packet_owner(struct __sk_buff *skb, const struct share *s, const struct ipv6hdr *ip6)
{
	const __be64 *addrs = (const void *)&ip6->saddr;
	struct packet_key packet;
	struct flow_key key;
	struct place p = find_transport(skb, 0, ip6->nexthdr);
	union {
		__u64 all;
		union transport header;
		__be16 ports[4];
	} t = { 0 };
	__u32 own = 0, remote = 0, port, at = p.at;
	__u64 owner;
	__u64 *known;

	packet.remote[0] = addrs[0];
	packet.remote[1] = addrs[1];
	packet.id = p.id;
	if (p.fragment == LATER_FRAGMENT) {
		if (!is_partner(s, addrs))
			return HOST;
		known = bpf_map_lookup_elem(&fragment_owners, &packet);
		return known ? *known : BOTH;
	}
	if (p.next == IPPROTO_ICMPV6) {
		if (load(skb, p.at, &t.all, sizeof(t.all)))
			return HOST;
		if (t.header.echo.type <= ICMP_ERROR_MAX)
			return p.fragment ? HOST : quoted_owner(skb, s, p.at);
		if (t.header.echo.type != ICMP_ECHO_REPLY)
			return HOST;
		own = bpf_ntohs(t.ports[2]);
		at += 4;
	} else if (has_ports(p.next)) {
		if (load(skb, p.at, &t.all, sizeof(t.all)))
			return HOST;
		own = bpf_ntohs(t.ports[1]);
		remote = bpf_ntohs(t.ports[0]);
		at += 2;
	}
	if (!is_partner(s, addrs))
		return HOST;
	key.remote[0] = addrs[0];
	key.remote[1] = addrs[1];
	key.ports = flow_ports(p.next, ON_WIRE, remote, own);
	port = own;
	owner = own_flow(skb, &key, &port);
	if (port != own && !change_port(skb, l3_offset(skb), at, p.at + checksum_offset(p.next), p.next, own, port))
		return NOBODY;
	if (p.fragment == FIRST_FRAGMENT)
		bpf_map_update_elem(&fragment_owners, &packet, &owner, BPF_ANY);
	return owner;
}
