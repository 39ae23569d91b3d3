// Order within a flow. The kernel engine is faster than user space, so a packet
// that the engine could translate must not overtake an earlier one of its flow
// that user space has not finished with.
//
// A flow is what passes between two addresses in one direction, because
// fragments carry no ports and extension headers hide the protocol. Every packet
// that goes to user space takes a number of the TUN queue it goes to, and the
// number is remembered for its flow. User space counts, for each queue, the
// packets it has finished with: all their translations are written by then. A
// flow is behind while the number it remembers is larger than that count, and
// all its packets go to user space.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "engine.h"

// Set by the loader.
volatile const __u32 tun_queues; // number of the TUN's queues, at least 1
volatile const __u32 processors; // that may run the programs
volatile const __u64 flow_seed;  // random, so that nobody can choose flows that share an entry

// The state of one TUN queue. Each number has a pair of cache lines of its own:
// the programs write the one and user space, which maps the memory, the other.
struct queue_state {
	__u64 sent;     // packets that went to user space, as user space counts them
	__u64 cuts_udp; // not 0: the TUN takes no UDP super-packets (before Linux 6.2). User space sets it once
	__u64 pad1[14];
	__u64 finished; // of those, in the order of sending, that user space has finished with
	__u64 pad2[15];
};

// The queues, and behind them once more each of them for its fragments alone, see
// fragments.h.

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2); // the loader sets 2 * tun_queues
	__type(key, __u32);
	__type(value, struct queue_state);
} queue_states SEC(".maps");

// For each flow the number of its last packet that went to user space, 0: none
// did. Flows with the same hash share an entry, which costs them speed and
// never order, and bounds the memory whatever anybody sends.
#define FLOW_ENTRIES 8192

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} last_sent SEC(".maps");

static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 32;
}

// flow4 is the hash of a flow of IPv4, whose addresses are in network byte order.
static __always_inline __u64 flow4(__u32 src, __u32 dst)
{
	return mix(mix(flow_seed, (__u64)src << 32 | dst), 4);
}

// flow6 is the same for IPv6. addrs are the source and the destination.
static __always_inline __u64 flow6(const __be64 *addrs)
{
	return mix(mix(mix(mix(flow_seed, addrs[0]), addrs[1]), addrs[2]), addrs[3]);
}

// queue_of returns the queue of a flow. Flows that share an entry of last_sent share
// the queue: numbers of different queues cannot be compared.
static __always_inline __u32 queue_of(__u64 flow)
{
	return (__u32)(flow % FLOW_ENTRIES) % tun_queues;
}

// load_flow returns the hash of the flow of the IP packet at off, 0 if it is
// too short to have one.
static __always_inline __u64 load_flow(struct __sk_buff *skb, __u32 off)
{
	union slot first = { 0 };
	union {
		__be32 four[2];
		__be64 six[4];
	} addrs;

	if (bpf_skb_load_bytes(skb, off, &first.u8, sizeof(first.u8)))
		return 0;
	if (first.u8 >> 4 == 6) {
		if (bpf_skb_load_bytes(skb, off + 8, addrs.six, sizeof(addrs.six)))
			return 0;
		return flow6(addrs.six);
	}
	if (bpf_skb_load_bytes(skb, off + 12, addrs.four, sizeof(addrs.four)))
		return 0;
	return flow4(addrs.four[0], addrs.four[1]);
}

// is_behind says whether user space still has packets of a flow.
static __always_inline bool is_behind(__u64 flow)
{
	union slot key = { flow % FLOW_ENTRIES };
	const volatile __u64 *last = bpf_map_lookup_elem(&last_sent, &key.u32);
	const volatile struct queue_state *q;
	__u64 number, finished;

	if (!last)
		return false;
	number = *last;
	if (likely(!number))
		return false;
	key.all = queue_of(flow);
	q = bpf_map_lookup_elem(&queue_states, &key.u32);
	if (!q)
		return false;
	finished = q->finished;
	// On other processors packets with later numbers may have entered the queue
	// earlier. They count as finished first.
	return finished != q->sent && (__s64)(number + processors - finished) > 0;
}

// packets_of returns how many packets user space reads of one: of a super-packet that
// the TUN does not take whole, those that the kernel cuts it into. One too many costs speed
// for half a second, until user space knows that it is missing; one too few costs order.
static __always_inline __u32 packets_of(struct __sk_buff *skb, const volatile struct queue_state *q)
{
	union slot first = { 0 }, protocol = { 0 };
	__u32 segments = skb->gso_segs;

	if (likely(segments < 2))
		return 1;
	if (skb->len - tun_header_len >= 65536) // BIG TCP: longer than a TUN's tso_max_size
		return segments;
	if (!q->cuts_udp)
		return 1;
	if (bpf_skb_load_bytes(skb, tun_header_len, &first.u8, sizeof(first.u8)) ||
	    bpf_skb_load_bytes(skb, tun_header_len + (first.u8 >> 4 == 6 ? 6 : 9), &protocol.u8, sizeof(protocol.u8)))
		return 1;
	return protocol.u8 == IPPROTO_TCP ? 1 : segments;
}

// number_packet is called for every packet that enters the TUN's queues.
static __always_inline void number_packet(struct __sk_buff *skb)
{
	__u64 flow = load_flow(skb, tun_header_len);
	union slot key = { queue_of(flow) };
	volatile struct queue_state *q = bpf_map_lookup_elem(&queue_states, &key.u32);
	volatile __u64 *last;

	if (!q)
		return;
	__sync_fetch_and_add(&q->sent, packets_of(skb, q));
	key.all = flow % FLOW_ENTRIES;
	last = bpf_map_lookup_elem(&last_sent, &key.u32);
	if (last)
		*last = q->sent;
}

// select_queue chooses the TUN queue of a packet (TUNSETSTEERINGEBPF). The kernel
// by itself sends fragments, which have no ports, to another queue than the rest
// of their flow.
SEC("socket")
int select_queue(struct __sk_buff *skb)
{
	return queue_of(load_flow(skb, 0));
}

// tcp_ports is the hash of the ports of a TCP packet, the same in both
// directions. It is 0 for fragments and everything else. A super-packet longer than
// 64 KiB (jumbo.h) has a hop-by-hop header, unlike others of its connection.
static __always_inline __u64 tcp_ports(struct __sk_buff *skb)
{
	union slot first = { 0 }, protocol = { 0 }, fragment = { 0 }, ports = { 0 }, length = { 0 };
	__u32 off = sizeof(struct ipv6hdr), at = 6;

	if (bpf_skb_load_bytes(skb, 0, &first.u8, sizeof(first.u8)))
		return 0;
	if (first.u8 >> 4 != 6) {
		if (bpf_skb_load_bytes(skb, 6, &fragment.u32, 2) || fragment.u32 & bpf_htons(0x3fff))
			return 0;
		at = 9;
		off = (first.u8 & 15) * 4;
	}
	if (bpf_skb_load_bytes(skb, at, &protocol.u8, sizeof(protocol.u8)))
		return 0;
	if (first.u8 >> 4 == 6 && protocol.u8 == IPPROTO_HOPOPTS) {
		if (bpf_skb_load_bytes(skb, off, &protocol.u8, sizeof(protocol.u8)) ||
		    bpf_skb_load_bytes(skb, off + 1, &length.u8, sizeof(length.u8)))
			return 0;
		off += (length.u8 + 1) * 8;
	}
	if (protocol.u8 != IPPROTO_TCP)
		return 0;
	if (bpf_skb_load_bytes(skb, off, &ports.u32, sizeof(ports.u32)))
		return 0;
	return mix(flow_seed, (ports.u32 & 0xffff) + (ports.u32 >> 16) + 1);
}

// load_remote is load_flow without the address of the CLAT: of a packet from PREF64
// with 96 bits, the hash of the same IPv4 address as in the other direction.
static __always_inline __u64 load_remote(struct __sk_buff *skb)
{
	union slot first = { 0 }, addr = { 0 };

	if (bpf_skb_load_bytes(skb, 0, &first.u8, sizeof(first.u8)))
		return 0;
	// The destination of IPv4, and the last part of the source of IPv6.
	if (bpf_skb_load_bytes(skb, first.u8 >> 4 == 6 ? 20 : 16, &addr.u32, sizeof(addr.u32)))
		return 0;
	return mix(mix(flow_seed, addr.u32), 4);
}

// spread_flows is select_queue where there is no kernel engine, which would need
// to know the queue of all that passes between two addresses. Each TCP connection
// has a queue of its own choice, both directions the same one. Hosts do not send
// TCP in fragments, and put in order what routers have cut. Everything else is
// kept together with its fragments.
SEC("socket")
int spread_flows(struct __sk_buff *skb)
{
	__u64 flow = tcp_ports(skb);

	return queue_of(flow ? flow : load_remote(skb));
}
