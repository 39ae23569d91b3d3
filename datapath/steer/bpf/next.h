// A second CLAT address, while a network is renumbered. The prefix of the CLAT
// address is deprecated (RFC 4862 section 5.5.4) and still valid: flows that exist
// keep the address, and those that begin now have the next one, in the new prefix.
//
// Both addresses stand for the same IPv4 address and are checksum-neutral towards
// the same PREF64. So they have the same sum, and one can take the other's place in
// any header, also in one that an ICMPv6 error quotes, without correcting a checksum
// or knowing the protocol. That happens on the uplink's side of the translation.
// Neither engine knows the next address.

#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/stddef.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "maps.h"
#include "packet.h"
#include "share.h"
#include "transport.h"

// What the map "ours" says of an address.
#define OURS 1
#define OURS_BESIDE_NEXT 2 // the CLAT address, while there is a next one
#define OURS_NEXT 3        // the next one

// In network byte order.
struct next_address {
	__be64 main[2]; // the CLAT address
	__be64 next[2];
	struct next_hop router; // of packets from the next one; family 0: the kernel's routes decide
	__u32 learning; // 1: every flow that sends is one that has begun
};

// At most one entry, key 0; replaced as a whole.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct next_address);
} next_addresses SEC(".maps");

static __always_inline const struct next_address *next_address(void)
{
	union slot zero = { 0 };

	return bpf_map_lookup_elem(&next_addresses, &zero.u32);
}

// The tables are there only while there is a next address. User space makes them
// with more entries than this.
struct began_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, __u64);
} began_template SEC(".maps"); // an unused one, as "template" in engine.h

#define BEGAN_FLOWS 0 // that keep the CLAT address, see began
#define NEXT_FRAGMENTS 1 // datagrams in fragments that leave from the next address

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct began_table);
} began_tables SEC(".maps");

// in_table says whether a table has a key, and adds it before if add is set.
static __always_inline bool in_table(__u32 table, const struct flow_key *key, bool add)
{
	union slot which = { table };
	void *t = bpf_map_lookup_elem(&began_tables, &which.u32);
	__u64 one = 1;

	if (!t)
		return true;
	if (add)
		bpf_map_update_elem(t, key, &one, BPF_ANY);
	return bpf_map_lookup_elem(t, key) != NULL;
}

// began says whether a flow keeps the CLAT address: of a TCP connection and a
// connected UDP socket by both ports, of other UDP sockets by their own port.
static __always_inline bool began(struct flow_key *key)
{
	const struct next_address *n = next_address();

	if (in_table(BEGAN_FLOWS, key, n && n->learning))
		return true;
	if ((key->ports & 0xff) != IPPROTO_UDP)
		return false;
	key->remote[0] = 0;
	key->remote[1] = 0;
	key->ports = flow_ports(IPPROTO_UDP, ON_WIRE, 0, key->ports >> 32);
	return in_table(BEGAN_FLOWS, key, false);
}

#define NO_QUOTE 0

// change_address puts an address in the place of one of the same sum.
static __always_inline bool change_address(struct __sk_buff *skb, __u32 at, const __be64 *to)
{
	__be64 copy[2] = { to[0], to[1] };

	return !bpf_skb_store_bytes(skb, at, copy, sizeof(copy), 0);
}

// What became of the source of a packet that leaves.
enum departed {
	FROM_MAIN,
	FROM_NEXT,
	FROM_NOWHERE, // it could not be changed
};

// choose_source gives a packet of the translator the next address if its flow has
// begun with that. l3 is where its IPv6 header begins. Packets without ports, but
// for echo requests, keep the CLAT address, as do ICMPv6 errors about such.
static __always_inline enum departed choose_source(struct __sk_buff *skb, __u32 l3)
{
	const struct next_address *n = next_address();
	struct ipv6hdr ip6 __attribute__((aligned(8)));
	const __be64 *addrs = (const void *)&ip6.saddr;
	union {
		__u64 all;
		union transport header;
		__be16 ports[4];
	} t = { 0 };
	struct flow_key key;
	struct place p;
	__be64 dst[2];
	__u32 fragment, id, quote = NO_QUOTE;

	if (!n || load_ipv6(skb, &ip6) || addrs[0] != n->main[0] || addrs[1] != n->main[1])
		return FROM_MAIN;
	dst[0] = addrs[2];
	dst[1] = addrs[3];
	key.remote[0] = dst[0];
	key.remote[1] = dst[1];
	p = find_transport(skb, 0, ip6.nexthdr);
	fragment = p.fragment;
	id = p.id;
	if (fragment == LATER_FRAGMENT) {
		key.ports = id;
		if (!in_table(NEXT_FRAGMENTS, &key, false))
			return FROM_MAIN;
		goto next;
	}
	if (load(skb, p.at, &t.all, sizeof(t.all)))
		return FROM_MAIN;
	if (p.next == IPPROTO_ICMPV6) {
		if (t.header.echo.type == ICMP_ECHO_REQUEST)
			goto next;
		if (t.header.echo.type > ICMP_ERROR_MAX || fragment)
			return FROM_MAIN;
		// The quoted packet is one of the remote's.
		quote = p.at + 8;
		if (load(skb, quote, &ip6, sizeof(ip6)) || addrs[2] != n->main[0] || addrs[3] != n->main[1])
			return FROM_MAIN;
		key.remote[0] = addrs[0];
		key.remote[1] = addrs[1];
		p = find_transport(skb, quote, ip6.nexthdr);
		if (p.fragment == LATER_FRAGMENT || load(skb, p.at, &t.all, sizeof(t.all)))
			return FROM_MAIN;
		key.ports = flow_ports(p.next, ON_WIRE, bpf_ntohs(t.ports[0]), bpf_ntohs(t.ports[1]));
	} else {
		key.ports = flow_ports(p.next, ON_WIRE, bpf_ntohs(t.ports[1]), bpf_ntohs(t.ports[0]));
	}
	if ((p.next != IPPROTO_TCP && p.next != IPPROTO_UDP) || began(&key))
		return FROM_MAIN;
next:
	if (fragment == FIRST_FRAGMENT) {
		key.remote[0] = dst[0];
		key.remote[1] = dst[1];
		key.ports = id;
		in_table(NEXT_FRAGMENTS, &key, true);
	}
	n = next_address();
	if (!n)
		return FROM_MAIN; // it has just ended
	if (!change_address(skb, l3 + offsetof(struct ipv6hdr, saddr), n->next))
		return FROM_NOWHERE;
	if (quote != NO_QUOTE) {
		n = next_address();
		if (!n || !change_address(skb, l3 + quote + offsetof(struct ipv6hdr, daddr), n->next))
			return FROM_NOWHERE;
	}
	return FROM_NEXT;
}

// to_main gives a packet to the next address the CLAT address, and the packet that
// it quotes as well.
static __always_inline bool to_main(struct __sk_buff *skb, const struct ipv6hdr *outer)
{
	const struct next_address *n = next_address();
	struct ipv6hdr ip6 __attribute__((aligned(8)));
	const __be64 *addrs = (const void *)&ip6.saddr;
	const __u32 l3 = l3_offset(skb);
	struct place p = find_transport(skb, 0, outer->nexthdr);
	__u32 quote = p.at + 8;
	union slot type = { 0 };

	if (!n)
		return false;
	if (p.next == IPPROTO_ICMPV6 && p.fragment != LATER_FRAGMENT && !load(skb, p.at, &type.u8, sizeof(type.u8)) &&
	    type.all <= ICMP_ERROR_MAX && !load(skb, quote, &ip6, sizeof(ip6)) && addrs[0] == n->next[0] && addrs[1] == n->next[1] &&
	    !change_address(skb, l3 + quote + offsetof(struct ipv6hdr, saddr), n->main))
		return false;
	n = next_address(); // see steer_shared in steer.c
	return n && change_address(skb, l3 + offsetof(struct ipv6hdr, daddr), n->main);
}
