// The kernel engine: what user space tells it, and what it counts.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "maps.h"

// Set by the loader like the variables in maps.h.
volatile const __u32 gso_kept;          // bpf_skb_change_proto leaves the size of segments alone (kernel 5.14)
volatile const __u32 jumbo_kept;        // IPv4 super-packets may be longer than 64 KiB (kernel 6.3)
volatile const __u32 tun_header_len;    // bytes in front of the IP header at the TUN: 0, but 14 in BPF_PROG_TEST_RUN

// The path of the usual packet is kept together in the code, and all else behind it:
// between two packets the processor runs both ends' network stack, and has to load
// the program from its larger caches again, line by line.
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

// ip_header and packet_end are where the bytes of a packet begin and end that a
// program reads and writes without a helper. A helper that changes the packet makes
// both void. Without CAP_PERFMON the verifier lets only constants of the code be
// added to such a pointer, not tun_header_len.
static __always_inline void *ip_header(const struct __sk_buff *skb)
{
	void *p = (void *)(long)skb->data;

	if (tun_header_len)
		asm volatile("%0 += 14" : "+r"(p));
	return p;
}

static __always_inline void *packet_end(const struct __sk_buff *skb)
{
	return (void *)(long)skb->data_end;
}

// What a translator does. A constant in each program.
enum role {
	CLAT,    // translates between the host's addresses and PREF64
	GATEWAY, // translates between the hosts of a network and PREF64
};

// One translation between PREF64 and the CLAT pair or, in a gateway, the hosts in
// hosts.h. Numbers are in host byte order, also the halves of IPv6 addresses.
struct translation {
	__u64 clat6_hi, clat6_lo; // not of a gateway, like clat4
	__u64 pref_hi, pref_lo;
	__u64 mask_hi, mask_lo;
	// What is kept of the first 64 bits of an IPv6 header: all, or all but the Traffic
	// Class. Applied before anything is known of them, so that the verifier of 6.1
	// (without CAP_PERFMON) has no more states to go through.
	__u64 first_mask;
	__u32 class_mask; // what of the TOS becomes the Traffic Class: 0xff or 0
	__u32 pref_len; // bits: 32, 40, 48, 56, 64 or 96
	__u32 clat4;
	__u32 mtu6, mtu4;   // of the next hops on either side
	__u32 limit6;       // larger IPv4 packets without DF have to be fragmented
	__u32 neutral;      // 1: transport checksums stay right by themselves
	__u32 drop_private; // 1: decline private IPv4 addresses behind the well-known prefix
	__u32 well_known;   // 1: PREF64 is that
	__u32 has_local; // 1: decline sources in local4
	__u32 has_eam;   // 1: a CLAT with explicit mappings
	__u32 has_networks; // 1: a CLAT with networks that are behind other prefixes
	// The router of the map "router", family 0 if it has none, and whether the
	// map "routes" has any. Here they share the cache lines of the rest.
	__u32 has_routes;
	struct next_hop router;
	__u32 has_next; // 1: there is a next address, see next.h
};

// No entry, or an array with one translation. The array is exchanged as a
// whole and the old one lives on until no program uses it any more: unlike the
// value of any map in place, it is never seen half done.
struct translation_array {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct translation);
} template SEC(".maps"); // an unused one, from which clang and Go learn the types

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct translation_array);
} translations SEC(".maps");

// current returns the translation in force, or NULL: user space does it all.
static __always_inline const struct translation *current(void)
{
	union slot zero = { 0 };
	void *array = bpf_map_lookup_elem(&translations, &zero.u32);

	return array ? bpf_map_lookup_elem(array, &zero.u32) : NULL;
}

// What became of a packet.
enum outcome {
	DECLINED, // nothing: it is as it was
	TRANSLATED,
	BROKEN, // half translated when a helper failed, which has not been seen to happen
};

enum way {
	TO6, // IPv4 to IPv6
	TO4,
	WAYS,
};

enum protocol {
	TCP,
	UDP,
	ECHO,
	PROTOCOLS,
};

// Why a packet was left to user space, roughly. Only user space knows why it
// then drops one, if it does.
enum declined {
	DECLINED_MALFORMED, // lengths that lie, wrong header checksum
	DECLINED_ADDRESS, // not between the CLAT pair and PREF64, or an illegal address
	DECLINED_TTL, // 0 or 1: needs an answer
	DECLINED_HEADER, // fragments, IPv4 options, IPv6 extension headers, VLAN tags
	DECLINED_PROTOCOL, // not TCP, UDP or ICMP
	DECLINED_ICMP, // not echo, or a large one
	DECLINED_CHECKSUM, // UDP without one, wrong one of ICMP
	DECLINED_SIZE, // must be fragmented or refused
	DECLINED_OFFLOAD, // a super-packet of a kind that is not understood
	DECLINED_MEMORY,
	DECLINED_ORDER, // user space has not finished with an earlier packet of the flow
	DECLINED_ROUTE, // a route rejects it: needs an answer
	DECLINED_REASONS,
};

struct amount {
	__u64 packets; // a super-packet counts once
	__u64 bytes;   // before translation, IP header included
};

// The counters are told apart by the key and not by offsets in one value:
// clang would compute those, and arithmetic with pointers takes CAP_PERFMON.

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WAYS * PROTOCOLS);
	__type(key, __u32); // way, protocol
	__type(value, struct amount);
} translated SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WAYS * DECLINED_REASONS);
	__type(key, __u32); // way, reason
	__type(value, __u64);
} declined SEC(".maps");

// translated_by returns where this processor counts.
static __always_inline struct amount *translated_by(enum way way, enum protocol protocol)
{
	union slot key = { way * PROTOCOLS + protocol };

	return bpf_map_lookup_elem(&translated, &key.u32);
}

// count_translated counts a packet of len bytes.
static __always_inline void count_translated(enum way way, enum protocol protocol, __u32 len)
{
	struct amount *a = translated_by(way, protocol);

	if (!a)
		return;
	a->packets++;
	a->bytes += len;
}

static __always_inline void count_declined(enum way way, enum declined why)
{
	union slot key = { way * DECLINED_REASONS + why };
	__u64 *n = bpf_map_lookup_elem(&declined, &key.u32);

	if (n)
		(*n)++;
}
