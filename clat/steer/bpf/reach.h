// Reading headers in place, and what super-packets stand for.

#pragma once

#include <linux/bpf.h>
#include <linux/stddef.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "engine.h"

// data_start and data_end read the fields of their name. In C these are 32-bit
// numbers, and clang, which has no need to read them again, cuts off the upper
// half of what the verifier takes for a pointer.
static __always_inline void *data_start(struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return p;
}

static __always_inline void *data_end(struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return p;
}

// reach returns the headers at off if the len bytes there can be read, else
// NULL. Drivers that leave headers in pages need the pull. Nothing is written
// through the pointer: for programs that do, the kernel copies every cloned
// packet on the hook before they even see it.
static __always_inline void *reach(struct __sk_buff *skb, __u32 off, __u32 len)
{
	void *data = data_start(skb);

	if (data + off + len <= data_end(skb))
		return data + off;
	if (off + len > skb->len || bpf_skb_pull_data(skb, off + len))
		return NULL;
	data = data_start(skb);
	if (data + off + len <= data_end(skb))
		return data + off;
	return NULL;
}

// The part of a transport header that matters here, and room for that of any
// protocol. TCP is larger: 20 bytes must be there.
#define TRANSPORT_MIN 8
#define TCP_MIN 20

#define TCP_CHECK 16 // offset of the checksum in the header
#define UDP_CHECK 6
#define ICMP_CHECK 2

struct udp_header {
	__be16 source, dest, len, check;
};

struct echo_header {
	__u8 type, code;
	__be16 check;
	__be32 id;
};

// tcp_header_len returns the length of the TCP header, the first TCP_MIN bytes
// of which are at h, in bytes.
static __always_inline __u32 tcp_header_len(const void *h)
{
	return (((const __u8 *)h)[12] >> 4) * 4;
}

// is_tcp_inside says whether a super-packet stands for TCP segments. One that
// begins with a UDP header is a tunnel then (VXLAN and the like). There is no
// field to read this from, but the helper refuses to grow a super-packet of
// datagrams, by nothing as well.
static __always_inline bool is_tcp_inside(struct __sk_buff *skb)
{
	return !bpf_skb_adjust_room(skb, 0, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
}

// are_datagrams says whether a super-packet with a UDP header and len bytes of
// data behind it, as far as one can see, stands for datagrams of that UDP header.
static __always_inline bool are_datagrams(struct __sk_buff *skb, __u32 len)
{
	__u64 size = skb->gso_size, segs = skb->gso_segs;

	// Not so where somebody else announces the segments who is not trusted
	// (a virtual machine), or where they carry more headers.
	return len > (segs - 1) * size && len <= segs * size && !is_tcp_inside(skb);
}
