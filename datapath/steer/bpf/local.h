// The host's own IPv4 networks.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

struct network4 {
	__u32 len; // bits
	__be32 addr;
};

// The key of a trie for one IPv4 address in host byte order, in whole words as union
// slot.
union whole_network4 {
	__u64 words[2];
	struct {
		__u32 pad;
		struct network4 network;
	};
};

static __always_inline void set_whole_network4(union whole_network4 *key, __u32 a)
{
	key->words[0] = 32ULL << 32;
	key->words[1] = bpf_htonl(a);
}

// Nobody behind the PLAT has an address in these. At least those of the
// translation in force: what is there by mistake is left to user space.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct network4);
	__type(value, __u8);
} local4 SEC(".maps");

// in_networks says whether an address, in host byte order, is in one of the
// networks of a trie.
static __always_inline bool in_networks(void *trie, __u32 a)
{
	union whole_network4 key;

	set_whole_network4(&key, a);
	return bpf_map_lookup_elem(trie, &key.network) != NULL;
}

static __always_inline bool is_local4(__u32 a)
{
	return in_networks(&local4, a);
}
