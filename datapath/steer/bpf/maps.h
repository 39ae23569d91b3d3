// What user space tells the programs, and what they tell user space.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

// Set by the loader before the programs are loaded and frozen by it, so that
// the verifier sees constants and removes the branches not taken.
volatile const __u32 tun_ifindex;        // the CLAT's TUN
volatile const __u32 uplink_ifindex;     // the link towards the PLAT
volatile const __u32 uplink_link_header; // 1: frames carry an Ethernet header; 0: they begin with the IP header

// slot is a small number on the stack, for a helper that takes its address.
// Set all of it: without CAP_PERFMON the verifier of 6.1 takes a constant in a
// slot of 8 bytes for a pointer that a later, shorter write would corrupt. The
// number of fewer bytes is at the same address, as all of this is little endian.
// Registers are spilled as a whole too, since code is generated for -mcpu=v2,
// which has no 32-bit ones.
union slot {
	__u64 all;
	__u32 u32;
	__u8 u8;
};

// The IPv6 prefixes whose packets the translator takes and may send: the CLAT
// address (/128) and the IPv6 side of the EAM table.
struct prefix {
	__u32 len; // bits
	__u8 addr[16];
};

// The key of a trie for one IPv6 address, in whole words as union slot.
union whole_prefix {
	__u64 words[3];
	struct {
		__u32 pad;
		struct prefix prefix;
	};
};

static __always_inline void set_whole_prefix(union whole_prefix *key, const void *addr)
{
	key->words[0] = 128ULL << 32;
	__builtin_memcpy(key->words + 1, addr, 16);
}

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC); // the kernel demands it of a trie
	__uint(max_entries, 65536);
	__type(key, struct prefix);
	__type(value, __u8);
} ours SEC(".maps");

// struct bpf_redir_neigh of the kernel, without its union.
struct next_hop {
	__u32 family; // AF_INET6
	__u8 addr[16];
};

_Static_assert(sizeof(struct next_hop) == sizeof(struct bpf_redir_neigh), "the kernel takes one for the other");

// At most one entry, key 0: the router that every packet goes to. Without it
// the kernel's routes decide. A hash because its update replaces the whole
// value at once; that of an array could be seen half done.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct next_hop);
} router SEC(".maps");

// Packets by what became of them. A super-packet counts once.
struct counters {
	__u64 steered_in;     // uplink to TUN
	__u64 left_to_kernel; // neighbour discovery and MLD for one of our addresses
	__u64 steered_out;    // TUN to uplink
	__u64 foreign_source; // dropped: user space sent IPv6 with a source that is not ours
	__u64 untranslated_ipv4; // dropped: IPv4 of a CLAT on its way out of a link
	__u64 bound_source;      // dropped: IPv6 from a CLAT's address on its way out of a link, not from the translator
	__u64 stray_ipv4;        // dropped: IPv4 to a CLAT's address that came by a link
	__u64 unicast_to_many;   // dropped: IPv6 for one of our addresses in a broadcast or multicast frame
	__u64 failed;         // dropped: no memory to change the packet's link header
	__u64 rejected;       // dropped: user space sent IPv6 to what a route rejects
	__u64 fragment_backlog; // dropped: too many fragments wait for user space
	__u64 no_port;        // dropped: no port is free on the shared address, or it cannot be changed
	__u64 other_port;     // flows on the shared address that were given another port
	// Entries of the tables of flows that programs have added and deleted. What is
	// neither deleted nor there any more has been evicted.
	__u64 established_flows_added, established_flows_deleted;
	__u64 new_flows_added, new_flows_deleted;
	__u64 host_flows_added, host_flows_deleted;
	__u64 moved_flows_added, moved_flows_deleted;
	__u64 recovered; // flows that were evicted, or never known, and found again by their IPv4 socket
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

#define COUNT(what)                                                            \
	do {                                                                   \
		union slot zero_ = { 0 };                                      \
		struct counters *c_ = bpf_map_lookup_elem(&counts, &zero_.u32); \
		if (c_)                                                        \
			c_->what++;                                            \
	} while (0)
