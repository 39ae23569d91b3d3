// The Internet checksum (RFC 1071). A sum is one's complement and may be taken
// over wide words in either byte order, if only all of them are in the same;
// here that is the packet's own.

#pragma once

#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"

// fold reduces a sum to 16 bits. It is 0 only if the sum is.
static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// sum_word sums up 8 bytes as they are in the packet.
static __always_inline __u64 sum_word(__u64 w)
{
	return (w & 0xffffffff) + (w >> 32);
}

static __always_inline __u64 sum64(__u64 host_order)
{
	return sum_word(bpf_cpu_to_be64(host_order));
}

static __always_inline __u64 sum_addr6(struct addr6 a)
{
	return sum64(a.hi) + sum64(a.lo);
}

static __always_inline __u64 sum_addr4(__u32 a)
{
	return bpf_htonl(a);
}

// fold32 reduces a sum to 32 bits, for bpf_csum_update.
static __always_inline __u32 fold32(__u64 sum)
{
	return sum_word(sum_word(sum));
}

// A large multiple of 0xffff, which is zero in one's complement.
#define LARGE_ZERO (0xffffULL << 40)

// delta returns what has to be added to a sum when words that sum up to from
// are replaced by words that sum up to to (RFC 1624). Both are less than
// LARGE_ZERO. It is never 0.
static __always_inline __u32 delta(__u64 from, __u64 to)
{
	return fold(LARGE_ZERO - from + to);
}

// The largest message whose checksum is computed here.
#define MESSAGE_MAX 512
#define MESSAGE_PART 64

static __always_inline __u64 sum_part(const __u64 *part)
{
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < MESSAGE_PART / 8; i++)
		sum += sum_word(part[i]);
	return sum;
}

// sum_message sums up the len bytes of a message, off bytes from the start of
// the packet; -1 if it is too long, or the packet too short.
static __always_inline __s64 sum_message(struct __sk_buff *skb, __u32 off, __u32 len)
{
	__u64 part[MESSAGE_PART / 8];
	__u64 sum = 0;
	__u32 done = 0, last;

	if (len > MESSAGE_MAX)
		return -1;
	// Unrolled: without CAP_PERFMON the verifier of 6.1 takes every jump the
	// wrong way too, as a processor might, and never gets out of a loop.
#pragma unroll
	for (int i = 0; i < MESSAGE_MAX / MESSAGE_PART; i++) {
		if (done + MESSAGE_PART > len)
			break;
		if (bpf_skb_load_bytes(skb, off + done, part, MESSAGE_PART))
			return -1;
		sum += sum_part(part);
		done += MESSAGE_PART;
	}
	if (done == len)
		return sum;
	__builtin_memset(part, 0, sizeof(part));
	// Written so that every verifier sees a number from 1 to the part's size.
	last = len - done - 1;
	barrier_var(last);
	last &= MESSAGE_PART - 1;
	if (bpf_skb_load_bytes(skb, off + done, part, last + 1))
		return -1;
	return sum + sum_part(part);
}
