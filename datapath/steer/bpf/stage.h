// The stage of a packet that the programs redirect to themselves, in skb->cb: it
// stays there from the redirect to the next hook, across the backlog of the CPU.
// Beside it is a random number, which nobody else knows: a packet without it is
// none of ours. The words are others than those of mark_translated.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include "order.h"

enum stage {
	STAGE_NONE,
	STAGE_FRESH, // not looked at yet: for the TUN's ingress
	STAGE_SLOW,  // for user space: for a gateway's TUN egress
};

static __always_inline void set_stage(struct __sk_buff *skb, enum stage s)
{
	skb->cb[2] = (__u32)flow_seed + s;
	skb->cb[3] = (__u32)(flow_seed >> 32);
}

static __always_inline enum stage stage(const struct __sk_buff *skb)
{
	if (!flow_seed || skb->cb[3] != (__u32)(flow_seed >> 32))
		return STAGE_NONE;
	if (skb->cb[2] == (__u32)flow_seed + STAGE_FRESH)
		return STAGE_FRESH;
	if (skb->cb[2] == (__u32)flow_seed + STAGE_SLOW)
		return STAGE_SLOW;
	return STAGE_NONE;
}

static __always_inline void clear_stage(struct __sk_buff *skb)
{
	skb->cb[2] = 0;
	skb->cb[3] = 0;
}
