// Guards: what must not leave the host from a CLAT's addresses, and must not
// come to them, by other ways than the translator. Which addresses are guarded
// is data, so that each can be taken out.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/stddef.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "packet.h"

// The translator's own packets carry this number in skb->cb from the redirect
// to the egress hook of the uplink, across the queue of an unresolved neighbour
// as well. It is random, and a program that sends cannot write there: unlike
// with skb->mark nobody's firewall or routing rule looks at it either. All
// programs of a process have the same, as an uplink may be stacked on another
// link with a guard (a VLAN, a MACVLAN).
volatile const __u64 token;

// IPv4 addresses of CLATs, in network byte order.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u8);
} guarded4 SEC(".maps");

// The IPv6 sources that only the translator sends from.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct prefix);
	__type(value, __u8);
} guarded6 SEC(".maps");

// What the host does with IPv6 unicast in frames to many.
struct multicast_policy {
	__u32 drop; // 1: the uplink's sysctl drop_unicast_in_l2_multicast is set
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct multicast_policy);
} multicast SEC(".maps");

// mark_translated marks a packet that the translator sends.
static __always_inline void mark_translated(struct __sk_buff *skb)
{
	skb->cb[0] = (__u32)token;
	skb->cb[1] = (__u32)(token >> 32);
}

static __always_inline bool is_translated(const struct __sk_buff *skb)
{
	return token && skb->cb[0] == (__u32)token && skb->cb[1] == (__u32)(token >> 32);
}

// is_guarded4 says whether the address at offset off of the IPv4 header is one
// of a CLAT.
static __always_inline bool is_guarded4(struct __sk_buff *skb, __u32 off)
{
	struct {
		__u32 addr;
		__u32 pad;
	} key __attribute__((aligned(8))) = { 0 };

	if (load(skb, off, &key.addr, sizeof(key.addr)))
		return false;
	return bpf_map_lookup_elem(&guarded4, &key.addr) != NULL;
}

static __always_inline bool is_guarded6(const struct in6_addr *addr)
{
	union whole_prefix key;

	set_whole_prefix(&key, addr);
	return bpf_map_lookup_elem(&guarded6, &key.prefix) != NULL;
}

// guard_egress drops what leaves from a CLAT's addresses and has not been
// translated: IPv4, and IPv6 of a program that has bound the CLAT address or of
// the host's kernel. The kernel's neighbour discovery and MLD pass.
static __always_inline int guard_egress(struct __sk_buff *skb)
{
	struct ipv6hdr ip6 __attribute__((aligned(8)));

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!is_guarded4(skb, offsetof(struct iphdr, saddr)))
			return TC_ACT_UNSPEC;
		COUNT(untranslated_ipv4);
		return TC_ACT_SHOT;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || is_translated(skb))
		return TC_ACT_UNSPEC;
	if (load_ipv6(skb, &ip6) || !is_guarded6(&ip6.saddr) || carries_link_control(skb, &ip6))
		return TC_ACT_UNSPEC;
	COUNT(bound_source);
	return TC_ACT_SHOT;
}

// How many priority tags are looked behind. The kernel takes off any number.
#define PRIORITY_TAGS_MAX 4

static __always_inline bool is_vlan_tag(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

// is_stray_ipv4 says whether IPv4 comes to a CLAT's address from the link. The
// kernel would deliver it where rp_filter is off, also behind a priority tag (VLAN 0)
// in another: only the outer one has become metadata here. A frame with more tags
// than anybody needs is taken for such a packet.
static __always_inline bool is_stray_ipv4(struct __sk_buff *skb)
{
	struct {
		__be16 tci;
		__be16 protocol;
	} tag;
	__be16 protocol = skb->protocol;
	__u32 off = 0;

	if (skb->pkt_type == PACKET_OTHERHOST)
		return false;
	if (protocol != bpf_htons(ETH_P_IP)) {
		if (!is_vlan_tag(protocol) || (skb->vlan_tci & VLAN_ID))
			return false;
#pragma unroll
		for (int i = 0; i < PRIORITY_TAGS_MAX; i++) {
			if (load(skb, off, &tag, sizeof(tag)) || (bpf_ntohs(tag.tci) & VLAN_ID))
				return false;
			off += sizeof(tag);
			protocol = tag.protocol;
			if (!is_vlan_tag(protocol))
				break;
		}
		if (is_vlan_tag(protocol))
			return true;
		if (protocol != bpf_htons(ETH_P_IP))
			return false;
	}
	return is_guarded4(skb, off + offsetof(struct iphdr, daddr));
}

// is_unicast_to_many says whether a packet to one of our addresses came in a
// broadcast or multicast frame, and the host drops such ("hole 196" of
// wireless networks).
static __always_inline bool is_unicast_to_many(const struct __sk_buff *skb)
{
	struct multicast_policy *policy;
	union slot key = { 0 };

	if (skb->pkt_type != PACKET_BROADCAST && skb->pkt_type != PACKET_MULTICAST)
		return false;
	policy = bpf_map_lookup_elem(&multicast, &key.u32);
	return policy && policy->drop;
}
