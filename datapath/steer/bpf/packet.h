// Reading packets, whether they begin with a link header or not.

#pragma once

#include <linux/bpf.h>
#include <linux/icmpv6.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/stddef.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The longest link header in front of an IP header here: Ethernet with one
// VLAN tag left in place (a VLAN device with reorder_hdr off).
#define LINK_HEADER_MAX 18

// How many extension headers are looked behind for a message of neighbour
// discovery or MLD. Real ones carry at most one, hop-by-hop with Router Alert.
#define EXTENSION_HEADERS_MAX 4

#define VLAN_ID 0x0fff // in vlan_tci

// load copies len bytes, off bytes from the start of the IP header, and
// returns 0 if the packet has them. The helper sees only the linear part of
// the packet; drivers that leave headers in pages need the pull first.
static __always_inline long load(struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	__u32 want = LINK_HEADER_MAX + off + len;

	if (!bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET))
		return 0;
	if (want > skb->len)
		want = skb->len;
	if (bpf_skb_pull_data(skb, want))
		return -1;
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

// load_ipv6 reads the IPv6 header. The ethertype alone is not believed: user
// space tells the families apart by the version, and a neighbour that dresses
// up IPv4 as IPv6 must not be taken for a program on this host.
static __always_inline long load_ipv6(struct __sk_buff *skb, struct ipv6hdr *ip6)
{
	if (load(skb, 0, ip6, sizeof(*ip6)))
		return -1;
	return ip6->version == 6 ? 0 : -1;
}

// is_link_control says whether an ICMPv6 type is MLD (RFC 2710, RFC 3810) or
// neighbour discovery (RFC 4861), which the kernel answers for all its
// addresses. Node information (139, 140) and the like are not.
static __always_inline bool is_link_control(__u8 type)
{
	return (type >= 130 && type <= 137) || type == 143;
}

// carries_link_control walks the extension headers that may stand in front of
// ICMPv6. A chain that is cut short or too long is not such a message; user
// space names what is wrong with it.
static __always_inline bool carries_link_control(struct __sk_buff *skb, const struct ipv6hdr *ip6)
{
	struct {
		__u8 next;
		__u8 len; // in units of 8 bytes, not counting the first
	} ext;
	__u32 off = sizeof(*ip6);
	__u8 next = ip6->nexthdr;
	__u8 type;

#pragma unroll
	for (int i = 0; i <= EXTENSION_HEADERS_MAX; i++) {
		if (next == IPPROTO_ICMPV6)
			return !load(skb, off, &type, sizeof(type)) && is_link_control(type);
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING)
			return false;
		if (load(skb, off, &ext, sizeof(ext)))
			return false;
		next = ext.next;
		off += (ext.len + 1) * 8;
	}
	return false;
}
