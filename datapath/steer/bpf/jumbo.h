// Super-packets longer than 64 KiB (BIG TCP). Such a packet of IPv6 has no payload
// length. Before kernel 7.0 a hop-by-hop header with the Jumbo Payload option (RFC
// 2675) says how long it is; it exists in the memory of the host only, as the
// segments on the wire have none. IPv4 has no total length then.

#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "engine.h"

#define JUMBO_HEADER_LEN 8
#define JUMBO_OPTION 0xc204 // option type 194, of 4 bytes

// jumbo_header_len returns the length of the header that must be removed from an
// IPv6 super-packet without payload length, whose payload begins at off and is
// len bytes long: 0 if there is none, -1 if it is another one. next, which is the
// IPv6 header's next header, becomes that of the super-packet.
static __always_inline int jumbo_header_len(struct __sk_buff *skb, __u32 off, __u32 len, __u32 *next)
{
	struct {
		__u8 next, len;
		__be16 option;
		__be32 jumbo_len;
	} header __attribute__((aligned(8)));

	if (*next != IPPROTO_HOPOPTS)
		return 0;
	if (bpf_skb_load_bytes(skb, off, &header, sizeof(header)))
		return -1;
	if (header.len || header.option != bpf_htons(JUMBO_OPTION) || bpf_ntohl(header.jumbo_len) != len)
		return -1;
	*next = header.next;
	return JUMBO_HEADER_LEN;
}

// remove_jumbo_header removes the header behind the IPv6 header.
static __always_inline long remove_jumbo_header(struct __sk_buff *skb)
{
	return bpf_skb_adjust_room(skb, -JUMBO_HEADER_LEN, BPF_ADJ_ROOM_NET,
				   BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
}
