// Fragments that wait for user space. The queue of a TUN has no room for all that
// may come, and a datagram of which one fragment is lost is lost as a whole. So a
// datagram is refused with its first fragment, and with it the others, before a
// queue is full: what is read then are whole datagrams.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "engine.h"
#include "maps.h"
#include "order.h"

// No datagram begins while so many fragments wait. Set by the loader.
volatile const __u32 fragments_waiting;

// The datagrams that were refused last, by the hash of what fragments have in
// common. A datagram whose place another one has taken is refused in part.
#define REFUSED_ENTRIES 1024

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, REFUSED_ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} refused SEC(".maps");

// load_fragment returns the hash of the datagram that the packet is a fragment of, 0 if
// it is none. first becomes 1 for its first fragment.
static __always_inline __u64 load_fragment(struct __sk_buff *skb, union slot *first)
{
	union slot version = { 0 }, offset = { 0 }, id = { 0 };
	__u64 flow;

	if (bpf_skb_load_bytes(skb, 0, &version.u8, sizeof(version.u8)))
		return 0;
	if (version.u8 >> 4 == 6) {
		struct {
			__u8 next, reserved;
			__be16 offset;
			__be32 id;
		} header __attribute__((aligned(8)));

		if (bpf_skb_load_bytes(skb, 6, &version.u8, sizeof(version.u8)) || version.u8 != IPPROTO_FRAGMENT)
			return 0;
		if (bpf_skb_load_bytes(skb, sizeof(struct ipv6hdr), &header, sizeof(header)))
			return 0;
		first->all = !(header.offset & bpf_htons(0xfff8));
		id.all = header.id;
	} else {
		if (bpf_skb_load_bytes(skb, 6, &offset.u32, 2) || !(offset.u32 & bpf_htons(0x3fff)))
			return 0;
		if (bpf_skb_load_bytes(skb, 4, &id.u32, 2))
			return 0;
		first->all = !(offset.u32 & bpf_htons(0x1fff));
		if (bpf_skb_load_bytes(skb, 9, &version.u8, sizeof(version.u8))) // the protocol
			return 0;
	}
	flow = load_flow(skb, 0);
	return mix(mix(flow, id.all), version.u8) | 1;
}

// admit says how much of a packet enters its queue (TUNSETFILTEREBPF): all or
// nothing.
SEC("socket")
int admit(struct __sk_buff *skb)
{
	union slot first = { 0 }, key = { 0 };
	__u64 datagram = load_fragment(skb, &first);
	volatile struct queue_state *q;
	__u64 *entry;

	if (!datagram)
		return -1;
	key.all = tun_queues + skb->queue_mapping % tun_queues;
	q = bpf_map_lookup_elem(&queue_states, &key.u32);
	if (!q)
		return -1;
	key.all = (datagram >> 32) % REFUSED_ENTRIES;
	entry = bpf_map_lookup_elem(&refused, &key.u32);
	if (!entry)
		return -1;
	if (!first.all) {
		if (*entry == datagram) {
			COUNT(fragment_backlog);
			return 0;
		}
	} else if ((__s64)(q->sent - q->finished) >= fragments_waiting) {
		*entry = datagram;
		COUNT(fragment_backlog);
		return 0;
	} else if (*entry == datagram) {
		*entry = 0; // an identification was used again
	}
	__sync_fetch_and_add(&q->sent, 1);
	return -1;
}
