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
#include "stage.h"
#include "to6.h"
#include "transport.h"

#define IPV4_TOTAL_MAX 65535

// IPv4 packets up to this size may be fragmented on their way: the sender need
// not hear of an IPv6 MTU below 1280.
#define DF_ABOVE 1260

#define decline4(why)                                                          \
	do {                                                                   \
		count_declined(TO4, DECLINED_##why);                           \
		return DECLINED;                                               \
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
	if (t->has_eam) {
		// Only the translator itself sends from the CLAT address.
		if (is_same(src, t->clat6_hi, t->clat6_lo) || is_illegal_source6(src))
			return false;
		if (explicit4(src, &to->src)) {
			to->neutral = 0;
			return true;
		}
	}
	if (t->has_networks) {
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
	struct {
		__u64 front[2];
		__u32 dst;
	} header;
	enum protocol protocol;
	struct addr6 src6, dst6;
	struct mapped4 addrs;
	__u64 first;
	__u32 len, total, segment, next, check;
	__u32 check_at = 0, change = 0, identification = 0, df = IPV4_DF;
	__u64 check_flags = 0;
	union slot kind = { 0 }; // the new ICMP type
	__u32 replaces = 0;
	int jumbo = 0; // length of a header to be removed

	if (!t)
		return DECLINED;
	if (bpf_skb_load_bytes(skb, l3, &in, sizeof(in)))
		return DECLINED;
	dst6.hi = bpf_be64_to_cpu(in.words[3]);
	dst6.lo = bpf_be64_to_cpu(in.words[4]);
	if (role == CLAT) {
		if (is_same(dst6, t->clat6_hi, t->clat6_lo)) {
			addrs.dst = t->clat4;
			addrs.neutral = t->neutral;
		} else if (t->has_eam && stage(skb) == STAGE_FRESH && explicit4(dst6, &addrs.dst)) {
			addrs.neutral = 0;
		} else {
			return DECLINED;
		}
	}
	first = bpf_be64_to_cpu(in.words[0]);
	if (first >> 60 != 6)
		return DECLINED;
	if (skb->vlan_present)
		decline4(HEADER);
	len = first >> 16 & 0xffff;
	next = first >> 8 & 0xff;
	if (!len && skb->gso_size) {
		if (!jumbo_kept)
			decline4(OFFLOAD);
		len = skb->len - l4;
		jumbo = jumbo_header_len(skb, l4, len, &next);
		if (jumbo < 0)
			decline4(HEADER);
		if (next != IPPROTO_TCP)
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
	if (role == CLAT ? !clat_addresses4(t, src6, &addrs) : !gateway_addresses4(t, src6, dst6, &addrs))
		decline4(ADDRESS);
	if ((first & 0xff) <= 1)
		decline4(TTL);

	segment = len;
	if (!addrs.neutral)
		change = delta(sum_addr6(src6) + sum_addr6(dst6), sum_addr4(addrs.src) + sum_addr4(addrs.dst));

	switch (next) {
	case IPPROTO_TCP:
		if (len < TCP_MIN)
			decline4(MALFORMED);
		if (skb->gso_size) {
			segment = tcp_segment(skb, l4, len);
			if (!segment)
				decline4(OFFLOAD);
		}
		protocol = TCP;
		check_at = TCP_CHECK;
		break;
	case IPPROTO_UDP:
		if (!in.transport.udp.check)
			decline4(CHECKSUM);
		if (bpf_ntohs(in.transport.udp.len) != len)
			decline4(MALFORMED);
		if (skb->gso_size) {
			segment = udp_segment(skb, len);
			if (!segment)
				decline4(OFFLOAD);
		}
		protocol = UDP;
		check_at = UDP_CHECK;
		check_flags = BPF_F_MARK_MANGLED_0; // 0 would mean that there is none
		break;
	case IPPROTO_ICMPV6: {
		__u64 pseudo;
		__s64 sum;

		replaces = in.transport.echo.type;
		if (replaces != 128 && replaces != 129)
			decline4(ICMP);
		if (skb->gso_size)
			decline4(OFFLOAD);
		kind.all = replaces == 128 ? 8 : 0;
		// Where all is zero, siit writes a checksum of 0xffff, and the
		// helper would write 0.
		if (len > MESSAGE_MAX || !(kind.all | in.transport.echo.id))
			decline4(ICMP);
		pseudo = sum_addr6(src6) + sum_addr6(dst6) + bpf_htons(len) + bpf_htons(IPPROTO_ICMPV6);
		sum = sum_message(skb, l4, len);
		if (sum < 0 || fold(sum + pseudo) != 0xffff)
			decline4(CHECKSUM);
		change = delta(pseudo + bpf_htons(replaces << 8), bpf_htons(kind.all << 8));
		next = IPPROTO_ICMP;
		protocol = ECHO;
		check_at = ICMP_CHECK;
		break;
	}
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_DSTOPTS:
		decline4(HEADER);
	default:
		decline4(PROTOCOL);
	}

	if (segment + IPV4_LEN > t->mtu4)
		decline4(SIZE);
	if (is_behind(flow6(in.words + 1)))
		decline4(ORDER);
	if (segment + IPV4_LEN <= DF_ABOVE) {
		df = 0;
		identification = bpf_get_prandom_u32() & 0xffff;
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

	if (jumbo && remove_jumbo_header(skb))
		decline4(MEMORY);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0)) {
		if (jumbo)
			return BROKEN;
		decline4(MEMORY);
	}
	// From here on there is no way back.
	if (bpf_skb_store_bytes(skb, l3, &header, IPV4_LEN, BPF_F_RECOMPUTE_CSUM))
		return BROKEN;
	if (replaces && bpf_skb_store_bytes(skb, l3 + IPV4_LEN, &kind.u8, sizeof(kind.u8), BPF_F_RECOMPUTE_CSUM))
		return BROKEN;
	if (change && bpf_l4_csum_replace(skb, l3 + IPV4_LEN + check_at, 0, change, BPF_F_PSEUDO_HDR | check_flags))
		return BROKEN;
	count_translated(TO4, protocol, len + jumbo + IPV6_LEN);
	return TRANSLATED;
}
