// IPv4 networks of a CLAT that are not behind PREF64 but behind another prefix, or
// behind none.

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

// A prefix of RFC 6052. Halves in host byte order.
struct pref64 {
	__u64 hi, lo;
	__u32 bits; // 0: none, nobody reaches the network
	__u32 well_known;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // the loader sets it
	__type(key, struct network4);
	__type(value, struct pref64);
} networks4 SEC(".maps");

// The prefixes of networks4. They do not overlap.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); // the loader sets it
	__type(key, struct prefix);
	__type(value, struct pref64);
} networks6 SEC(".maps");

// network_of returns the longest network that an IPv4 address is in, or NULL.
static __always_inline struct pref64 *network_of(__u32 a)
{
	union whole_network4 key;

	set_whole_network4(&key, a);
	return bpf_map_lookup_elem(&networks4, &key.network);
}

static __always_inline struct pref64 *prefix_of(struct addr6 a)
{
	union whole_prefix key;
	__be64 words[2] = { bpf_cpu_to_be64(a.hi), bpf_cpu_to_be64(a.lo) };

	set_whole_prefix(&key, words);
	return bpf_map_lookup_elem(&networks6, &key.prefix);
}

// network_to6 maps an IPv4 address by its network. It returns 1, 0 if the address is in
// no network, or -1 if user space has to answer. other becomes 1 if the prefix
// is not PREF64.
static __always_inline int network_to6(const struct translation *t, __u32 a, struct addr6 *to, __u32 *other)
{
	struct pref64 *p = network_of(a);
	__u64 hi, lo;
	__u32 bits;

	if (!p)
		return 0;
	hi = p->hi;
	lo = p->lo;
	bits = p->bits;
	if (!bits || (t->drop_private && p->well_known && is_private(a)))
		return -1;
	*other = bits != t->pref_len || hi != t->pref_hi || lo != t->pref_lo;
	*to = embed_at(hi, lo, bits, a);
	return 1;
}

// network_to4 maps an IPv6 address by the prefix of the network that its IPv4 address
// is in. It returns false if the address is in another prefix than that.
static __always_inline bool network_to4(const struct translation *t, struct addr6 a, __u32 *to, __u32 *other)
{
	struct pref64 *p = prefix_of(a);
	__u64 hi = t->pref_hi, lo = t->pref_lo;
	__u32 bits = t->pref_len, well_known = t->well_known;

	if (p) {
		hi = p->hi;
		lo = p->lo;
		bits = p->bits;
	} else if (!in_pref64(t, a)) {
		return false;
	}
	*to = extract_at(bits, a);
	*other = bits != t->pref_len || hi != t->pref_hi || lo != t->pref_lo;
	p = network_of(*to);
	if (p) {
		if (p->bits != bits || p->hi != hi || p->lo != lo)
			return false;
		well_known = p->well_known;
	} else if (*other) {
		return false;
	}
	return !(t->drop_private && well_known && is_private(*to));
}
