// The kernel engine of a gateway. The kernel forwards packets to its TUN, and
// forwards what comes of them as received there: netfilter and connection
// tracking of both families see every packet, whichever engine translates it.
//
//   TUN egress   as forwarded           -> TUN ingress, through the backlog of the CPU
//                from TUN ingress       -> read by user space
//   TUN ingress  simple, to be forwarded-> translated, as received
//                any other, not yet     -> TUN egress, to be read by user space
//                translated
//                of user space          -> as received
//
// What is translated and what is not passes the backlog in the order of arrival,
// and only behind it is decided which is which: see order.h.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "engine.h"
#include "maps.h"
#include "order.h"
#include "stage.h"
#include "to4.h"
#include "to6.h"

SEC("tc")
int gateway_egress(struct __sk_buff *skb)
{
	if (stage(skb) != STAGE_SLOW && current()) {
		set_stage(skb, STAGE_FRESH);
		return bpf_redirect(tun_ifindex, BPF_F_INGRESS);
	}
	clear_stage(skb);
	number_packet(skb);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int gateway_ingress(struct __sk_buff *skb)
{
	enum outcome outcome = DECLINED;

	if (stage(skb) != STAGE_FRESH)
		return TC_ACT_UNSPEC;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		outcome = to4(skb, GATEWAY);
	else if (skb->protocol == bpf_htons(ETH_P_IP))
		outcome = to6(skb, GATEWAY, NULL, NULL);
	switch (outcome) {
	case TRANSLATED:
		// As what user space writes: nobody's mark on the packet before it
		// was translated counts.
		skb->mark = 0;
		clear_stage(skb);
		return TC_ACT_UNSPEC;
	case BROKEN:
		COUNT(failed);
		return TC_ACT_SHOT;
	case DECLINED:
		break;
	}
	set_stage(skb, STAGE_SLOW);
	return bpf_redirect(tun_ifindex, 0);
}
