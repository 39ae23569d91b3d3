// Explicit mappings: which IPv4 address is which IPv6 address. A gateway has one
// of each for every host. A CLAT has those of its EAM table (RFC 7757). Mappings of
// single addresses are in hash maps, which cost the same however many there are;
// those of prefixes are in tries.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "engine.h"
#include "local.h"
#include "maps.h"

// What a single IPv6 address is mapped to.
struct host {
	__u32 ipv4; // host byte order
	__u32 pad;
	__u64 seen; // when a packet from this address was last translated, in seen_now's unit; 0: never
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // the loader sets it
	__type(key, __u32); // IPv4 address in host byte order
	__type(value, struct addr6);
} hosts4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // the loader sets it
	__type(key, struct addr6);
	__type(value, struct host);
} hosts6 SEC(".maps");

// An explicit mapping of prefixes.
struct eam {
	__u64 hi, lo; // IPv6 prefix; the rest is zero
	__u32 ipv4;   // likewise
	__u32 bits4, bits6;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // the loader sets it
	__type(key, struct network4);
	__type(value, struct eam);
} eam4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // the loader sets it
	__type(key, struct prefix);
	__type(value, struct eam);
} eam6 SEC(".maps");

// IPv4 networks that nobody reaches through a gateway, but for hosts in hosts4.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct network4);
	__type(value, __u8);
} denied4 SEC(".maps");

// seen_now returns the time in units of 64 jiffies: 64 ms to 640 ms.
static __always_inline __u64 seen_now(void)
{
	return bpf_jiffies64() >> 6;
}

// host_to6 maps a single IPv4 address.
static __always_inline bool host_to6(__u32 a, struct addr6 *to)
{
	union slot key = { a };
	struct addr6 *host = bpf_map_lookup_elem(&hosts4, &key.u32);

	if (!host)
		return false;
	to->hi = host->hi;
	to->lo = host->lo;
	return true;
}

// host_to4 maps a single IPv6 address and notes that it has sent a packet.
static __always_inline bool host_to4(struct addr6 a, __u32 *to)
{
	struct addr6 key = a;
	struct host *host = bpf_map_lookup_elem(&hosts6, &key);
	__u64 now;

	if (!host)
		return false;
	*to = host->ipv4;
	// Written seldom, so that the cache line is shared by all processors.
	now = seen_now();
	if (host->seen != now)
		host->seen = now;
	return true;
}

// explicit6 maps an IPv4 address by the EAM table: the longest prefix wins. The
// suffix follows the IPv6 prefix (RFC 7757 section 3.3.1).
static __always_inline bool explicit6(__u32 a, struct addr6 *to)
{
	union whole_network4 key;
	struct eam *e;
	__u64 suffix, hi, lo;
	__u32 bits6;

	if (host_to6(a, to))
		return true;
	set_whole_network4(&key, a);
	e = bpf_map_lookup_elem(&eam4, &key.network);
	if (!e)
		return false;
	hi = e->hi;
	lo = e->lo;
	bits6 = e->bits6;
	suffix = (__u64)a << (e->bits4 & 31) << 32;
	if (bits6 >= 64) {
		lo |= suffix >> (bits6 & 63);
	} else {
		hi |= suffix >> (bits6 & 63);
		if (bits6)
			lo |= suffix << (64 - bits6 & 63);
	}
	to->hi = hi;
	to->lo = lo;
	return true;
}

// explicit4 maps an IPv6 address by the EAM table. Of the suffix, the bits for
// which the IPv4 prefix leaves room follow it (RFC 7757 section 3.3.2).
static __always_inline bool explicit4(struct addr6 a, __u32 *to)
{
	union whole_prefix key;
	__be64 words[2] = { bpf_cpu_to_be64(a.hi), bpf_cpu_to_be64(a.lo) };
	struct eam *e;
	__u64 suffix;
	__u32 bits6;

	if (host_to4(a, to))
		return true;
	set_whole_prefix(&key, words);
	e = bpf_map_lookup_elem(&eam6, &key.prefix);
	if (!e)
		return false;
	bits6 = e->bits6;
	if (bits6 >= 64) {
		suffix = a.lo << (bits6 & 63);
	} else {
		suffix = a.hi << (bits6 & 63);
		if (bits6)
			suffix |= a.lo >> (64 - bits6 & 63);
	}
	*to = e->ipv4 | (__u32)(suffix >> 32 >> (e->bits4 & 63));
	return true;
}

// is_denied says whether nobody reaches an IPv4 address.
static __always_inline bool is_denied(__u32 a)
{
	struct addr6 host;

	return in_networks(&denied4, a) && !host_to6(a, &host);
}
