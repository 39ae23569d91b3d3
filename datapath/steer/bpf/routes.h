// The host's routes inside PREF64, which are exceptions from the router that all
// other packets go to. User space mirrors them: bpf_fib_lookup answers only for
// input devices that forward, and bpf_redirect_neigh drops without a word what a
// route rejects.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "engine.h"
#include "maps.h"

#define AF_INET6 10

enum route_action {
	ROUTE_REJECT,  // user space drops the packet and answers it
	ROUTE_GATEWAY, // by the router "hop"
	ROUTE_ON_LINK, // to the neighbour that is the destination itself
	ROUTE_KERNEL,  // by the next hop that the kernel chooses on the link
	ROUTE_NO_LINK_HEADER, // to the link, which has no link header
};

struct route {
	__u32 action;
	__u32 ifindex;
	struct next_hop hop;
	__u32 mtu; // of what leaves by it, in bytes
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct prefix);
	__type(value, struct route);
} routes SEC(".maps");

// find_route returns the route to an IPv6 address, if it is an exception.
static __always_inline struct route *find_route(const void *dst)
{
	union whole_prefix key;

	set_whole_prefix(&key, dst);
	return bpf_map_lookup_elem(&routes, &key.prefix);
}
