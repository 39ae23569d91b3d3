// IPv4 to IPv6: RFC 7915 section 4, for simple packets.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "checksum.h"
#include "engine.h"
#include "maps.h"
#include "reach.h"

#define IPV4_LEN 20
#define IPV6_LEN 40

#define IPV4_DF 0x4000

// decline leaves a packet to user space as it is.
#define decline6(why)                                                          \
	do {                                                                   \
		count_declined(TO6, DECLINED_##why);                           \
		return false;                                                  \
	} while (0)

// to6 translates an IPv4 packet that a program sends. False means that it has
// not been touched; true that it is IPv6 now, unless *verdict is TC_ACT_SHOT.
static __always_inline bool to6(struct __sk_buff *skb, int *verdict)
{
	const struct translation *t = current();
	const __u32 l3 = tun_header_len, l4 = l3 + IPV4_LEN;
	const struct iphdr *ip;
	const __u32 *words;
	__u64 header[IPV6_LEN / 8];
	enum protocol protocol;
	struct addr6 dst6;
	__u32 src, dst, total, len, segment, next;
	__u32 check_at = 0, change = 0;
	__u64 check_flags = 0;
	__u8 kind = 0;
	__u16 frag;

	if (!t)
		return false;
	if (skb->vlan_present)
		decline6(HEADER);
	ip = reach(skb, l3, IPV4_LEN + TRANSPORT_MIN);
	if (!ip)
		decline6(MALFORMED);

	// The header (RFC 1812 section 5.2.2). A link's padding at the end counts
	// as a lie here.
	if (((const __u8 *)ip)[0] != 0x45)
		decline6(HEADER);
	total = bpf_ntohs(ip->tot_len);
	if (total != skb->len - l3)
		decline6(MALFORMED);
	words = (const __u32 *)ip;
	if (fold((__u64)words[0] + words[1] + words[2] + words[3] + words[4]) != 0xffff)
		decline6(MALFORMED);
	frag = bpf_ntohs(ip->frag_off);
	if (frag & ~IPV4_DF)
		decline6(HEADER);

	src = bpf_ntohl(ip->saddr);
	dst = bpf_ntohl(ip->daddr);
	if (src != t->clat4 || dst == src || is_illegal_destination(dst))
		decline6(ADDRESS);
	if (t->drop_private && is_private(dst))
		decline6(ADDRESS);
	if (ip->ttl <= 1)
		decline6(TTL);
	dst6 = embed(t, dst);

	header[0] = bpf_cpu_to_be64(6ULL << 60 | (__u64)ip->tos << 52 | (__u64)(total - IPV4_LEN) << 16 | (ip->ttl - 1));
	header[1] = bpf_cpu_to_be64(t->clat6_hi);
	header[2] = bpf_cpu_to_be64(t->clat6_lo);
	header[3] = bpf_cpu_to_be64(dst6.hi);
	header[4] = bpf_cpu_to_be64(dst6.lo);
	len = total - IPV4_LEN;
	segment = len;
	if (!t->neutral)
		change = delta(sum_addr4(src) + sum_addr4(dst),
			       sum64(t->clat6_hi) + sum64(t->clat6_lo) + sum_addr6(dst6));

	next = ip->protocol;
	switch (next) {
	case IPPROTO_TCP: {
		const void *tcp = reach(skb, l4, TCP_MIN);

		if (!tcp)
			decline6(MALFORMED);
		if (skb->gso_size) {
			__u32 tcp_len = tcp_header_len(tcp);

			if (tcp_len < TCP_MIN || tcp_len > len || !gso_kept)
				decline6(OFFLOAD);
			if (segment > tcp_len + skb->gso_size)
				segment = tcp_len + skb->gso_size;
		}
		protocol = TCP;
		check_at = TCP_CHECK;
		break;
	}
	case IPPROTO_UDP: {
		const struct udp_header *udp = (const void *)(ip + 1);

		if (!udp->check)
			decline6(CHECKSUM);
		if (bpf_ntohs(udp->len) != len)
			decline6(MALFORMED);
		if (skb->gso_size) {
			if (!gso_kept || !are_datagrams(skb, len - sizeof(*udp)))
				decline6(OFFLOAD);
			if (segment > sizeof(*udp) + skb->gso_size)
				segment = sizeof(*udp) + skb->gso_size;
		}
		protocol = UDP;
		check_at = UDP_CHECK;
		check_flags = BPF_F_MARK_MANGLED_0; // RFC 8200 section 8.1
		break;
	}
	case IPPROTO_ICMP: {
		const struct echo_header *echo = (const void *)(ip + 1);
		__u32 old;
		__s64 sum;

		if (skb->gso_size)
			decline6(OFFLOAD);
		if (echo->type != 8 && echo->type != 0)
			decline6(ICMP);
		kind = echo->type == 8 ? 128 : 129;
		old = echo->type;
		// A wrong checksum must not become a right one.
		if (len > MESSAGE_MAX)
			decline6(ICMP);
		sum = sum_message(skb, l4, len);
		if (sum < 0 || fold(sum) != 0xffff)
			decline6(CHECKSUM);
		// The type is another, and unlike ICMPv4's this checksum covers a
		// pseudo-header. What it gains is what changes.
		change = delta(bpf_htons(old << 8),
			       (__u64)bpf_htons(kind << 8) + bpf_htons(len) + bpf_htons(IPPROTO_ICMPV6) +
			       sum64(t->clat6_hi) + sum64(t->clat6_lo) + sum_addr6(dst6));
		next = IPPROTO_ICMPV6;
		protocol = ECHO;
		check_at = ICMP_CHECK;
		break;
	}
	default:
		decline6(PROTOCOL);
	}
	header[0] |= bpf_cpu_to_be64((__u64)next << 8);

	// Size: what is too big needs an answer if DF is set, else fragments.
	if (segment + IPV6_LEN > (frag & IPV4_DF ? t->mtu6 : t->limit6))
		decline6(SIZE);

	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0))
		decline6(MEMORY);
	// From here on there is no way back.
	*verdict = TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, l3, header, sizeof(header), BPF_F_RECOMPUTE_CSUM))
		goto failed;
	if (kind && bpf_skb_store_bytes(skb, l3 + IPV6_LEN, &kind, sizeof(kind), BPF_F_RECOMPUTE_CSUM))
		goto failed;
	if (change && bpf_l4_csum_replace(skb, l3 + IPV6_LEN + check_at, 0, change, BPF_F_PSEUDO_HDR | check_flags))
		goto failed;
	*verdict = TC_ACT_UNSPEC;
	count_translated(TO6, protocol, total);
	return true;

failed:
	COUNT(failed);
	return true;
}
