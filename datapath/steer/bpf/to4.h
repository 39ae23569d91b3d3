// IPv6 to IPv4: RFC 7915 section 5, for simple packets.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "checksum.h"
#include "engine.h"
#include "hosts.h"
#include "local.h"
#include "networks.h"
#include "jumbo.h"
#include "order.h"
#include "packet.h"
#include "stage.h"
#include "to6.h"
#include "transport.h"

#define IPV4_TOTAL_MAX 65535

// IPv4 packets up to this size may be fragmented on their way: the sender need
// not hear of an IPv6 MTU below 1280.
#define DF_ABOVE 1260

#define decline4(reason)                                                       \
	do {                                                                   \
		why = DECLINED_##reason;                                       \
		goto declined;                                                 \
	} while (0)

// What the addresses of an IPv6 packet become.
struct mapped4 {
	__u32 src, dst;
	__u32 neutral; // 1: their sum is that of the IPv6 addresses
};

// clat_addresses4 maps the source of a packet whose destination is mapped; false:
// user space has to see it.
static __always_inline bool clat_addresses4(const struct translation *t, struct addr6 src, struct mapped4 *to)
{
	if (unlikely(t->has_eam)) {
		// Only the translator itself sends from the CLAT address.
		if (is_same(src, t->clat6_hi, t->clat6_lo) || is_illegal_source6(src))
			return false;
		if (explicit4(src, &to->src)) {
			to->neutral = 0;
			return !t->has_local || !is_local4(to->src);
		}
	}
	if (unlikely(t->has_networks)) {
		__u32 other = 0;

		if (!network_to4(t, src, &to->src, &other))
			return false;
		if (other)
			to->neutral = 0;
	} else {
		if (!in_pref64(t, src))
			return false;
		to->src = extract(t, src);
		if (t->drop_private && t->well_known && is_private(to->src))
			return false;
	}
	if (is_illegal_destination(to->src)) // which is more: link-local too
		return false;
	return !t->has_local || !is_local4(to->src);
}

// gateway_addresses4 maps source and destination of a packet of one of a
// gateway's hosts.
static __always_inline bool gateway_addresses4(const struct translation *t, struct addr6 src, struct addr6 dst, struct mapped4 *to)
{
	to->neutral = 0;
	if (!in_pref64(t, dst))
		return false;
	to->dst = extract(t, dst);
	if (is_illegal_destination(to->dst) || (t->drop_private && t->well_known && is_private(to->dst)))
		return false;
	if (is_illegal_source6(src) || is_link_local6(src) || in_pref64(t, src))
		return false;
	return host_to4(src, &to->src) && !is_denied(to->dst);
}

// local_identification returns the identification of a packet that this host
// receives. On one processor it repeats after 65,536 packets of the protocol, which
// is better than a random number and cheaper. Only the host sees it.
static __always_inline __u32 local_identification(enum protocol protocol)
{
	const struct amount *a = translated_by(TO4, protocol);

	return a ? (a->packets * 0x9e37 + flow_seed) & 0xffff : 0;
}

// to4 translates an IPv6 packet. In a CLAT, what is for somebody else is declined
// without being counted.
static __always_inline enum outcome to4(struct __sk_buff *skb, enum role role)
{
	const struct translation *t = current();
	const __u32 l3 = tun_header_len;
	__u32 l4 = l3 + IPV6_LEN;
	struct {
		__be64 words[IPV6_LEN / 8];
		union transport transport;
	} in;
	union {
		struct {
			__u64 front[2];
			__u32 dst;
		};
		__u32 words[IPV4_LEN / 4];
	} header;
	void *p, *limit;
	enum protocol protocol;
	enum declined why;
	struct addr6 src6, dst6;
	struct mapped4 addrs;
	__u64 first;
	__u32 len, total, segment, next, check;
	__u32 check_at = 0, change = 0, identification = 0, df = IPV4_DF;
	union slot kind = { 0 }; // the new ICMP type
	__u32 replaces = 0;
	int jumbo = 0; // length of a header to be removed

	if (!t)
		return DECLINED;
	p = ip_header(skb);
	limit = packet_end(skb);
	if (unlikely(p + IPV6_LEN + sizeof(in.transport) > limit)) {
		// Headers may be in pages.
		if (bpf_skb_pull_data(skb, l4 + sizeof(in.transport)))
			return DECLINED;
		p = ip_header(skb);
		limit = packet_end(skb);
		if (p + IPV6_LEN + sizeof(in.transport) > limit)
			return DECLINED;
	}
	for (unsigned int i = 0; i < IPV6_LEN / 8; i++)
		in.words[i] = ((const __be64 *)p)[i];
	in.transport.words[0] = ((const __u32 *)(p + IPV6_LEN))[0];
	in.transport.words[1] = ((const __u32 *)(p + IPV6_LEN))[1];
	dst6.hi = bpf_be64_to_cpu(in.words[3]);
	dst6.lo = bpf_be64_to_cpu(in.words[4]);
	if (role == CLAT) {
		if (is_same(dst6, t->clat6_hi, t->clat6_lo)) {
			addrs.dst = t->clat4;
			addrs.neutral = t->neutral;
		} else if (unlikely(t->has_eam) && stage(skb) == STAGE_FRESH && explicit4(dst6, &addrs.dst)) {
			addrs.neutral = 0;
		} else {
			return DECLINED;
		}
	}
	first = bpf_be64_to_cpu(in.words[0]) & t->first_mask;
	if (first >> 60 != 6)
		return DECLINED;
	if (unlikely(skb->vlan_present))
		decline4(HEADER);
	len = first >> 16 & 0xffff;
	next = first >> 8 & 0xff;
	if (!len && skb->gso_size) {
		if (unlikely(!jumbo_kept))
			decline4(OFFLOAD);
		len = skb->len - l4;
		jumbo = jumbo_header_len(skb, l4, len, &next);
		if (unlikely(jumbo < 0))
			decline4(HEADER);
		if (unlikely(next != IPPROTO_TCP))
			decline4(OFFLOAD);
		len -= jumbo;
		l4 += jumbo;
	} else if (len + IPV6_LEN != skb->len - l3) {
		decline4(MALFORMED);
	} else if (len + IPV4_LEN > IPV4_TOTAL_MAX && !(jumbo_kept && skb->gso_size && next == IPPROTO_TCP)) {
		decline4(SIZE);
	}

	src6.hi = bpf_be64_to_cpu(in.words[1]);
	src6.lo = bpf_be64_to_cpu(in.words[2]);
	if (unlikely(role == CLAT ? !clat_addresses4(t, src6, &addrs) : !gateway_addresses4(t, src6, dst6, &addrs)))
		decline4(ADDRESS);
	if (unlikely((first & 0xff) <= 1))
		decline4(TTL);

	segment = len;
	if (!addrs.neutral)
		change = delta(sum_addr6(src6) + sum_addr6(dst6), sum_addr4(addrs.src) + sum_addr4(addrs.dst));

	if (likely(next == IPPROTO_TCP)) {
		if (unlikely(len < TCP_MIN))
			decline4(MALFORMED);
		if (skb->gso_size) {
			segment = tcp_segment(skb, !jumbo, p + IPV6_LEN, limit, l4, len);
			if (unlikely(!segment))
				decline4(OFFLOAD);
		}
		protocol = TCP;
		check_at = TCP_CHECK;
	} else if (likely(next == IPPROTO_UDP)) {
		if (unlikely(!in.transport.udp.check))
			decline4(CHECKSUM);
		if (unlikely(bpf_ntohs(in.transport.udp.len) != len))
			decline4(MALFORMED);
		if (skb->gso_size) {
			segment = udp_segment(skb, len);
			if (unlikely(!segment))
				decline4(OFFLOAD);
		}
		protocol = UDP;
		check_at = UDP_CHECK;
	} else if (next == IPPROTO_ICMPV6) {
		__u64 pseudo;
		__s64 sum;

		replaces = in.transport.echo.type;
		if (unlikely(replaces != 128 && replaces != 129))
			decline4(ICMP);
		if (unlikely(skb->gso_size))
			decline4(OFFLOAD);
		kind.all = replaces == 128 ? 8 : 0;
		// Where all is zero, siit writes a checksum of 0xffff, and the
		// helper would write 0.
		if (unlikely(len > MESSAGE_MAX || !(kind.all | in.transport.echo.id)))
			decline4(ICMP);
		pseudo = sum_addr6(src6) + sum_addr6(dst6) + bpf_htons(len) + bpf_htons(IPPROTO_ICMPV6);
		sum = sum_message(skb, l4, len);
		if (unlikely(sum < 0 || fold(sum + pseudo) != 0xffff))
			decline4(CHECKSUM);
		change = delta(pseudo + bpf_htons(replaces << 8), bpf_htons(kind.all << 8));
		next = IPPROTO_ICMP;
		protocol = ECHO;
		check_at = ICMP_CHECK;
	} else if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT || next == IPPROTO_DSTOPTS) {
		decline4(HEADER);
	} else {
		decline4(PROTOCOL);
	}

	if (unlikely(segment + IPV4_LEN > t->mtu4))
		decline4(SIZE);
	if (unlikely(is_behind(flow6(in.words + 1))))
		decline4(ORDER);
	if (segment + IPV4_LEN <= DF_ABOVE) {
		df = 0;
		identification = role == CLAT ? local_identification(protocol) : bpf_get_prandom_u32() & 0xffff;
	}

	// The header, as three numbers in host order, and its checksum.
	total = len + IPV4_LEN;
	if (total > IPV4_TOTAL_MAX)
		total = 0;
	header.front[0] = 0x45ULL << 56 | (first >> 52 & 0xff) << 48 | (__u64)total << 32 | identification << 16 | df;
	header.front[1] = ((first & 0xff) - 1) << 56 | (__u64)next << 48 | addrs.src;
	check = (__u16)~fold((header.front[0] >> 32) + (header.front[0] & 0xffffffff) +
			     (header.front[1] >> 32) + (header.front[1] & 0xffffffff) + addrs.dst);
	header.front[0] = bpf_cpu_to_be64(header.front[0]);
	header.front[1] = bpf_cpu_to_be64(header.front[1] | (__u64)check << 32);
	header.dst = bpf_htonl(addrs.dst);

	if (unlikely(jumbo && remove_jumbo_header(skb)))
		decline4(MEMORY);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0)) {
		if (unlikely(jumbo))
			return BROKEN;
		decline4(MEMORY);
	}
	// From here on there is no way back.
	p = ip_header(skb);
	limit = packet_end(skb);
	if (unlikely(p + IPV4_LEN > limit))
		return BROKEN;
	for (unsigned int i = 0; i < IPV4_LEN / 4; i++)
		((__u32 *)p)[i] = header.words[i];
	// The network card may have made a sum of the whole packet. change_proto has left
	// the end of the IPv6 header in it, and the sum of an IPv4 header is zero.
	bpf_csum_update(skb, ~fold32((in.words[2] >> 32) + sum_word(in.words[3]) + sum_word(in.words[4])));
	if (unlikely(replaces) && bpf_skb_store_bytes(skb, l3 + IPV4_LEN, &kind.u8, sizeof(kind.u8), BPF_F_RECOMPUTE_CSUM))
		return BROKEN;
	if (change && unlikely(change_checksum(skb, l3 + IPV4_LEN + check_at, protocol, &in.transport, sum_addr6(src6) + sum_addr6(dst6), change)))
		return BROKEN;
	count_translated(TO4, protocol, len + jumbo + IPV6_LEN);
	return TRANSLATED;

declined:
	count_declined(TO4, why);
	return DECLINED;
}
