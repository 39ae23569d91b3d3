// Transport headers, and what super-packets stand for.

#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "checksum.h"
#include "engine.h"
#include "maps.h"

// The part of a transport header that is looked at.
union transport {
	struct {
		__be16 source, dest, len, check;
	} udp;
	struct {
		__u8 type, code;
		__be16 check;
		__be32 id; // identifier and sequence number
	} echo;
	__u32 words[2];
};

#define TCP_MIN 20

#define TCP_CHECK 16 // offset of the checksum
#define UDP_CHECK 6
#define ICMP_CHECK 2

#define TCP_OFFSET 12 // the header's length, in the upper half of the byte

// is_tcp_inside says whether a super-packet stands for TCP segments. One that
// begins with a UDP header is a tunnel then (VXLAN and the like). There is no
// field to read this from, but the helper, which would have to correct the size
// of segments, refuses to do so for datagrams; also when it grows by nothing.
static __always_inline bool is_tcp_inside(struct __sk_buff *skb)
{
	return !bpf_skb_adjust_room(skb, 0, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET);
}

// tcp_segment returns the length of the largest segment of a TCP super-packet,
// its TCP header included, which begins at off and is len bytes long with all
// that follows. 0: it is none that can be translated. Where direct is set, tcp is
// where off is in the packet, which ends at limit.
static __always_inline __u32 tcp_segment(struct __sk_buff *skb, bool direct, const void *tcp, const void *limit, __u32 off, __u32 len)
{
	__u32 header, size = skb->gso_size;
	union slot offset = { 0 };

	if (!gso_kept)
		return 0;
	if (likely(direct && tcp + TCP_MIN <= limit))
		offset.all = ((const __u8 *)tcp)[TCP_OFFSET];
	else if (bpf_skb_load_bytes(skb, off + TCP_OFFSET, &offset.u8, sizeof(offset.u8)))
		return 0;
	header = (offset.u8 >> 4) * 4;
	if (header < TCP_MIN || header > len)
		return 0;
	return len < header + size ? len : header + size;
}

// udp_segment is tcp_segment for datagrams.
static __always_inline __u32 udp_segment(struct __sk_buff *skb, __u32 len)
{
	const __u32 header = sizeof(union transport);
	__u64 size = skb->gso_size, segs = skb->gso_segs, data = len - header;

	if (!gso_kept)
		return 0;
	// Not so where somebody announces the segments who is not trusted (a
	// virtual machine), or where they have more headers than these.
	if (data <= (segs - 1) * size || data > segs * size || is_tcp_inside(skb))
		return 0;
	return len < header + size ? len : header + size;
}

// change_checksum corrects the transport checksum at an offset of the packet for a
// change of its pseudo-header, which summed up to pseudo, as delta says. The header
// was t.
//
// The helper takes a checksum for an unfinished one if the network card has to
// compute any checksum of the packet. That may be one further inside: the UDP header
// of a tunnel has a finished checksum (Linux computes it so that it becomes right when
// the inner one does). An unfinished checksum is the sum of the pseudo-header.
static __always_inline long change_checksum(struct __sk_buff *skb, __u32 at, enum protocol protocol, const union transport *t, __u64 pseudo, __u32 change)
{
	union slot check = { 0 };

	if (protocol != UDP)
		return bpf_l4_csum_replace(skb, at, 0, change, BPF_F_PSEUDO_HDR);
	if (skb->gso_size || t->udp.check == fold(pseudo + t->udp.len + bpf_htons(IPPROTO_UDP)))
		return bpf_l4_csum_replace(skb, at, 0, change, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
	check.all = (__u16)~fold((__u64)(__u16)~t->udp.check + change);
	if (!check.all) // would mean that there is none (RFC 768, RFC 8200 section 8.1)
		check.all = 0xffff;
	return bpf_skb_store_bytes(skb, at, &check.u32, 2, BPF_F_RECOMPUTE_CSUM);
}
