// IPv4 to IPv6: RFC 7915 section 4, for simple packets.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "checksum.h"
#include "engine.h"
#include "hosts.h"
#include "networks.h"
#include "order.h"
#include "packet.h"
#include "routes.h"
#include "transport.h"

#define IPV4_LEN 20
#define IPV6_LEN 40

#define IPV4_DF 0x4000

// decline leaves a packet to user space as it is.
#define decline6(reason)                                                       \
	do {                                                                   \
		why = DECLINED_##reason;                                       \
		goto declined;                                                 \
	} while (0)

// What the addresses of an IPv4 packet become.
struct mapped6 {
	struct addr6 src, dst;
	__u32 neutral; // 1: their sum is that of the IPv4 addresses
};

// clat_addresses6 maps the addresses of a packet that a program of the host
// sends; false: user space has to see it.
static __always_inline bool clat_addresses6(const struct translation *t, __u32 src, __u32 dst, struct mapped6 *to)
{
	to->neutral = 0;
	if (src == t->clat4) {
		to->src.hi = t->clat6_hi;
		to->src.lo = t->clat6_lo;
		to->neutral = t->neutral;
	} else if (!t->has_eam || !explicit6(src, &to->src)) {
		return false;
	}
	if (dst == t->clat4)
		return false;
	if (unlikely(t->has_eam) && explicit6(dst, &to->dst)) {
		to->neutral = 0;
		return true;
	}
	if (is_illegal_destination(dst))
		return false;
	if (unlikely(t->has_networks)) {
		__u32 other = 0;
		int found = network_to6(t, dst, &to->dst, &other);

		if (found < 0)
			return false;
		if (found) {
			if (other)
				to->neutral = 0;
			return true;
		}
	}
	if (t->drop_private && t->well_known && is_private(dst))
		return false;
	to->dst = embed(t, dst);
	return true;
}

// gateway_addresses6 is the same for a packet to one of a gateway's hosts.
static __always_inline bool gateway_addresses6(const struct translation *t, __u32 src, __u32 dst, struct mapped6 *to)
{
	to->neutral = 0;
	if (is_illegal_source(src) || (t->drop_private && t->well_known && is_private(src)))
		return false;
	if (!host_to6(dst, &to->dst))
		return false;
	to->src = embed(t, src);
	return true;
}

// Where a translated packet of a CLAT goes. Only what to6 knows anyway is copied:
// without CAP_PERFMON the verifier of 6.1 does not believe that its pointers were
// compared with NULL.
struct departure {
	__be64 dst[2];
	__u64 has_routes;       // there may be a route for dst; in a slot of its own, see union slot
	__u64 has_next;         // there is a next address, see next.h
	struct next_hop router; // family 0: there is none
};

// A translated packet of a CLAT, for who asks which flow it belongs to.
struct translated6 {
	__be64 src[2], dst[2];
	__u64 next;  // the transport protocol, whose header follows the IPv6 header
	__u64 first; // the first 6 bytes of that header
};

// to6 translates an IPv4 packet. Of a CLAT's it says in to where it goes, and in
// became what it is now.
static __always_inline enum outcome to6(struct __sk_buff *skb, enum role role, struct departure *to, struct translated6 *became)
{
	const struct translation *t = current();
	const __u32 l3 = tun_header_len, l4 = l3 + IPV4_LEN;
	struct {
		union {
			struct iphdr ip;
			__u32 words[IPV4_LEN / 4];
		};
		union transport transport;
	} in __attribute__((aligned(8)));
	__u64 header[IPV6_LEN / 8];
	void *p, *limit;
	enum protocol protocol;
	enum declined why;
	struct route *route;
	struct mapped6 addrs;
	__u32 src, dst, total, len, segment, next;
	__u32 check_at = 0, change = 0, mtu6, limit6;
	union slot kind = { 0 }; // the new ICMP type
	__u16 frag;

	if (!t)
		return DECLINED;
	if (unlikely(skb->vlan_present))
		decline6(HEADER);
	p = ip_header(skb);
	limit = packet_end(skb);
	if (unlikely(p + IPV4_LEN + sizeof(in.transport) > limit)) {
		// Headers may be in pages.
		if (unlikely(bpf_skb_pull_data(skb, l4 + sizeof(in.transport))))
			decline6(MALFORMED);
		p = ip_header(skb);
		limit = packet_end(skb);
		if (unlikely(p + IPV4_LEN + sizeof(in.transport) > limit))
			decline6(MALFORMED);
	}
	for (unsigned int i = 0; i < IPV4_LEN / 4; i++)
		in.words[i] = ((const __u32 *)p)[i];
	in.transport.words[0] = ((const __u32 *)(p + IPV4_LEN))[0];
	in.transport.words[1] = ((const __u32 *)(p + IPV4_LEN))[1];

	// The header (RFC 1812 section 5.2.2). A link's padding at the end counts
	// as a lie here.
	if (unlikely(*(__u8 *)&in.ip != 0x45))
		decline6(HEADER);
	total = bpf_ntohs(in.ip.tot_len);
	// Longer than 64 KiB (BIG TCP), from a guest: the kernel splits it for user
	// space.
	if (unlikely(!total && skb->gso_size))
		decline6(OFFLOAD);
	if (unlikely(total != skb->len - l3))
		decline6(MALFORMED);
	if (unlikely(fold((__u64)in.words[0] + in.words[1] + in.words[2] + in.words[3] + in.words[4]) != 0xffff))
		decline6(MALFORMED);
	frag = bpf_ntohs(in.ip.frag_off);
	if (unlikely(frag & ~IPV4_DF))
		decline6(HEADER);

	src = bpf_ntohl(in.ip.saddr);
	dst = bpf_ntohl(in.ip.daddr);
	if (unlikely(role == CLAT ? !clat_addresses6(t, src, dst, &addrs) : !gateway_addresses6(t, src, dst, &addrs)))
		decline6(ADDRESS);
	if (unlikely(in.ip.ttl <= 1))
		decline6(TTL);

	header[0] = bpf_cpu_to_be64(6ULL << 60 | (__u64)(in.ip.tos & t->class_mask) << 52 | (__u64)(total - IPV4_LEN) << 16 | (in.ip.ttl - 1));
	header[1] = bpf_cpu_to_be64(addrs.src.hi);
	header[2] = bpf_cpu_to_be64(addrs.src.lo);
	header[3] = bpf_cpu_to_be64(addrs.dst.hi);
	header[4] = bpf_cpu_to_be64(addrs.dst.lo);
	len = total - IPV4_LEN;
	segment = len;
	if (!addrs.neutral)
		change = delta(sum_addr4(src) + sum_addr4(dst), sum_addr6(addrs.src) + sum_addr6(addrs.dst));

	next = in.ip.protocol;
	if (likely(next == IPPROTO_TCP)) {
		if (unlikely(len < TCP_MIN))
			decline6(MALFORMED);
		if (skb->gso_size) {
			segment = tcp_segment(skb, true, p + IPV4_LEN, limit, l4, len);
			if (unlikely(!segment))
				decline6(OFFLOAD);
		}
		protocol = TCP;
		check_at = TCP_CHECK;
	} else if (likely(next == IPPROTO_UDP)) {
		if (unlikely(!in.transport.udp.check))
			decline6(CHECKSUM);
		if (unlikely(bpf_ntohs(in.transport.udp.len) != len))
			decline6(MALFORMED);
		if (skb->gso_size) {
			segment = udp_segment(skb, len);
			if (unlikely(!segment))
				decline6(OFFLOAD);
		}
		protocol = UDP;
		check_at = UDP_CHECK;
	} else if (next == IPPROTO_ICMP) {
		__u32 old = in.transport.echo.type;
		__s64 sum;

		if (unlikely(skb->gso_size))
			decline6(OFFLOAD);
		if (unlikely(old != 8 && old != 0))
			decline6(ICMP);
		kind.all = old == 8 ? 128 : 129;
		// A wrong checksum must not become a right one.
		if (unlikely(len > MESSAGE_MAX))
			decline6(ICMP);
		sum = sum_message(skb, l4, len);
		if (unlikely(sum < 0 || fold(sum) != 0xffff))
			decline6(CHECKSUM);
		// The type is another, and unlike ICMPv4's this checksum covers a
		// pseudo-header. What it gains is what changes.
		change = delta(bpf_htons(old << 8),
			       (__u64)bpf_htons(kind.all << 8) + bpf_htons(len) + bpf_htons(IPPROTO_ICMPV6) +
			       sum_addr6(addrs.src) + sum_addr6(addrs.dst));
		next = IPPROTO_ICMPV6;
		protocol = ECHO;
		check_at = ICMP_CHECK;
	} else {
		decline6(PROTOCOL);
	}
	header[0] |= bpf_cpu_to_be64((__u64)next << 8);

	// Size: what is too big needs an answer if DF is set, else fragments.
	mtu6 = t->mtu6;
	limit6 = t->limit6;
	barrier_var(mtu6); // or clang chooses between their addresses, see engine.h
	if (unlikely(segment + IPV6_LEN > (frag & IPV4_DF ? mtu6 : limit6)))
		decline6(SIZE);
	if (role == CLAT) { // what a gateway sends is forwarded by the kernel
		became->src[0] = header[1];
		became->src[1] = header[2];
		became->dst[0] = to->dst[0] = header[3];
		became->dst[1] = to->dst[1] = header[4];
		became->next = next;
		became->first = in.transport.udp.source | (__u32)in.transport.udp.dest << 16 | (__u64)in.transport.udp.len << 32;
		if (kind.all)
			became->first = (became->first & ~0xffULL) | kind.all;
		to->router = t->router;
		to->has_routes = t->has_routes;
		to->has_next = t->has_next;
		if (unlikely(to->has_routes)) {
			route = find_route(to->dst);
			if (unlikely(route && route->action == ROUTE_REJECT))
				decline6(ROUTE);
			if (unlikely(route && segment + IPV6_LEN > route->mtu))
				decline6(SIZE);
		}
	}
	if (unlikely(is_behind(flow4(in.ip.saddr, in.ip.daddr))))
		decline6(ORDER);

	if (unlikely(bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0)))
		decline6(MEMORY);
	// From here on there is no way back.
	p = ip_header(skb);
	limit = packet_end(skb);
	if (unlikely(p + IPV6_LEN > limit))
		return BROKEN;
	for (unsigned int i = 0; i < IPV6_LEN / 8; i++)
		((__u64 *)p)[i] = header[i];
	// What a gateway forwards may come with a sum that its network card has made of
	// the whole packet. That of the IPv4 header in it is zero. The host itself
	// forwards nothing with such a sum.
	if (role == GATEWAY)
		bpf_csum_update(skb, fold32(sum_word(header[0]) + sum_word(header[1]) + sum_word(header[2]) +
					    sum_word(header[3]) + sum_word(header[4])));
	if (unlikely(kind.all) && bpf_skb_store_bytes(skb, l3 + IPV6_LEN, &kind.u8, sizeof(kind.u8), BPF_F_RECOMPUTE_CSUM))
		return BROKEN;
	if (change && unlikely(change_checksum(skb, l3 + IPV6_LEN + check_at, protocol, &in.transport, sum_addr4(src) + sum_addr4(dst), change)))
		return BROKEN;
	count_translated(TO6, protocol, total);
	return TRANSLATED;

declined:
	count_declined(TO6, why);
	return DECLINED;
}
