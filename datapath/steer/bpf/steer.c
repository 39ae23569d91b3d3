// Steering: packets reach the user-space translator and leave it again without
// IPv6 forwarding, proxy neighbour discovery or firewall rules. And the kernel
// engine, which translates the simple packets on the way, so that user space
// never sees them.
//
//   TUN egress      simple IPv4 of a program         -> translated, uplink
//                   any other                        -> read by user space
//   TUN ingress     IPv6 that user space has written -> uplink, by the neighbour table
//                   simple IPv6 to the CLAT address  -> translated, as received there
//                   other IPv6 to one of ours        -> TUN egress, to be read by user space
//   uplink ingress  IPv6 to one of ours              -> TUN ingress, or with no kernel engine
//                                                       TUN egress, to be read by user space
//   uplink egress   from the CLAT, not translated    -> dropped, see guard.h
//
// Where the translator shares an address with the host, other programs stand in the
// place of these ("sharing_..."): the flow of a packet decides whose it is, see
// share.h.
//
// A redirect to the TUN's ingress goes through the backlog of the CPU. What is
// translated and what is not passes it in the order of arrival, and only behind
// it is decided which is which: see order.h.
//
// Every program ends in TC_ACT_UNSPEC for what is not its business, which is
// TCX_NEXT too: other programs and filters on the same hook still run.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <stdbool.h>

#include "engine.h"
#include "fragments.h"
#include "gateway.h"
#include "guard.h"
#include "maps.h"
#include "next.h"
#include "order.h"
#include "owners.h"
#include "packet.h"
#include "routes.h"
#include "share.h"
#include "stage.h"
#include "to4.h"
#include "to6.h"

char _license[] SEC("license") = "Dual MIT/GPL";

// is_ours says whether the translator owns an address: 0 or one of OURS_*.
static __always_inline __u32 is_ours(const struct in6_addr *addr)
{
	union whole_prefix key;
	const __u8 *found;

	set_whole_prefix(&key, addr);
	found = bpf_map_lookup_elem(&ours, &key.prefix);
	return found ? *found : 0;
}

// steer_in redirects an IPv6 packet to the TUN: with flags 0 to user space. The
// redirect strips the link header, because the TUN has none; a GSO super-packet
// stays whole.
static __always_inline int steer_in(struct __sk_buff *skb, __u64 flags)
{
	// A tag that is left is a priority tag. The TUN would write it into the
	// packet, behind where the MAC addresses were.
	if (skb->vlan_present && bpf_skb_vlan_pop(skb)) {
		COUNT(failed);
		return TC_ACT_SHOT;
	}
	if (!flags)
		COUNT(steered_in);
	return bpf_redirect(tun_ifindex, flags);
}

// add_link_header puts an Ethernet header of zeros in front of an IPv6 packet that
// has none. bpf_redirect_neigh replaces all of it, and silently drops what has no
// link header to replace.
static __always_inline bool add_link_header(struct __sk_buff *skb)
{
	if (!bpf_skb_change_head(skb, ETH_HLEN, 0))
		return true;
	COUNT(failed);
	return false;
}

// send_by sends an IPv6 packet without link header by a route that is an
// exception. dst is its destination.
static __always_inline int send_by(struct __sk_buff *skb, struct route *r, const void *dst)
{
	__u32 ifindex = r->ifindex;
	union { // as union whole_prefix
		__u64 words[3];
		struct {
			__u32 pad;
			struct next_hop hop;
		};
	} on_link;

	switch (r->action) {
	case ROUTE_NO_LINK_HEADER:
		return bpf_redirect(ifindex, 0);
	case ROUTE_GATEWAY:
		if (!add_link_header(skb))
			return TC_ACT_SHOT;
		return bpf_redirect_neigh(ifindex, (struct bpf_redir_neigh *)&r->hop, sizeof(r->hop), 0);
	case ROUTE_ON_LINK:
		if (!add_link_header(skb))
			return TC_ACT_SHOT;
		on_link.words[0] = (__u64)AF_INET6 << 32;
		__builtin_memcpy(on_link.words + 1, dst, sizeof(on_link.hop.addr));
		return bpf_redirect_neigh(ifindex, (struct bpf_redir_neigh *)&on_link.hop, sizeof(on_link.hop), 0);
	case ROUTE_KERNEL:
		if (!add_link_header(skb))
			return TC_ACT_SHOT;
		return bpf_redirect_neigh(ifindex, NULL, 0, 0);
	}
	COUNT(rejected);
	return TC_ACT_SHOT;
}

// send_out sends an IPv6 packet that has no link header out of the uplink, or by
// r, unless that is NULL.
static __always_inline int send_out(struct __sk_buff *skb, struct route *r, const void *dst)
{
	struct next_hop *via;
	union slot key = { 0 };

	mark_translated(skb);
	if (r)
		return send_by(skb, r, dst);
	if (!uplink_link_header)
		return bpf_redirect(uplink_ifindex, 0);
	if (!add_link_header(skb))
		return TC_ACT_SHOT;
	via = bpf_map_lookup_elem(&router, &key.u32);
	if (via)
		return bpf_redirect_neigh(uplink_ifindex, (struct bpf_redir_neigh *)via, sizeof(*via), 0);
	return bpf_redirect_neigh(uplink_ifindex, NULL, 0, 0);
}

// send_next is send_out for what has the next address, which may have a router of its
// own.
static __always_inline int send_next(struct __sk_buff *skb, struct route *r, const void *dst)
{
	const struct next_address *n;

	mark_translated(skb);
	if (r)
		return send_by(skb, r, dst);
	if (!uplink_link_header)
		return bpf_redirect(uplink_ifindex, 0);
	if (!add_link_header(skb))
		return TC_ACT_SHOT;
	n = next_address();
	if (n && n->router.family == AF_INET6)
		return bpf_redirect_neigh(uplink_ifindex, (struct bpf_redir_neigh *)&n->router, sizeof(n->router), 0);
	return bpf_redirect_neigh(uplink_ifindex, NULL, 0, 0);
}

// steer_shared takes what is for us of the packets to a shared address.
static __always_inline int steer_shared(struct __sk_buff *skb, const struct ipv6hdr *ip6, __u64 flags)
{
	// Looked up once more: without CAP_PERFMON the verifier of 6.1 does not
	// believe that the caller's was compared with NULL.
	const struct share *s = shared();

	if (!s)
		return TC_ACT_UNSPEC;
	switch (packet_owner(skb, s, ip6)) {
	case TRANSLATOR:
		return steer_in(skb, flags);
	case BOTH:
		// The fragments that are not theirs are of no use to either, as the first
		// never comes. The clone has no link header, nor a tag.
		if (!skb->vlan_present && !bpf_clone_redirect(skb, tun_ifindex, flags) && !flags)
			COUNT(steered_in);
		break;
	case NOBODY:
		COUNT(failed);
		return TC_ACT_SHOT;
	case HOST:
		break;
	}
	clear_stage(skb);
	return TC_ACT_UNSPEC;
}

// is_simple says whether a packet of the uplink is TCP or UDP to the CLAT's IPv6
// address, for the kernel engine: what most are, and is cheap to see. Where it errs,
// behind a VLAN tag that was left in place, the TUN's ingress looks again.
static __always_inline bool is_simple(struct __sk_buff *skb)
{
	const struct translation *t = current();
	const __u8 *p = (void *)(long)skb->data, *limit = (void *)(long)skb->data_end;
	const __be64 *dst;

	if (!t || skb->protocol != bpf_htons(ETH_P_IPV6) || skb->vlan_present || skb->pkt_type != PACKET_HOST)
		return false;
	if (uplink_link_header)
		asm volatile("%0 += 14" : "+r"(p));
	if (p + IPV6_LEN > limit || p[0] >> 4 != 6)
		return false;
	if (p[6] != IPPROTO_TCP && p[6] != IPPROTO_UDP)
		return false;
	dst = (const __be64 *)(p + 24);
	return dst[0] == bpf_cpu_to_be64(t->clat6_hi) && dst[1] == bpf_cpu_to_be64(t->clat6_lo);
}

// from_uplink takes what is for us.
static __always_inline int from_uplink(struct __sk_buff *skb, bool translate, bool sharing)
{
	const struct share *s = NULL;
	bool shares;
	__u32 owned;
	struct ipv6hdr ip6 __attribute__((aligned(8)));

	if (translate && !sharing && likely(is_simple(skb))) {
		set_stage(skb, STAGE_FRESH);
		return bpf_redirect(tun_ifindex, BPF_F_INGRESS);
	}
	if (is_stray_ipv4(skb)) {
		COUNT(stray_ipv4);
		return TC_ACT_SHOT;
	}
	// skb->protocol is what is behind a VLAN tag in the packet's metadata.
	if (skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	// A tag other than a priority tag: the packet belongs to a VLAN device on
	// top of the uplink, that is to another link.
	if (skb->vlan_present && (skb->vlan_tci & VLAN_ID))
		return TC_ACT_UNSPEC;
	// Seen only because the interface is promiscuous.
	if (skb->pkt_type == PACKET_OTHERHOST)
		return TC_ACT_UNSPEC;
	if (load_ipv6(skb, &ip6))
		return TC_ACT_UNSPEC;
	owned = is_ours(&ip6.daddr);
	if (!owned)
		return TC_ACT_UNSPEC;

	// The CLAT address is an ordinary address of the kernel's, which does
	// duplicate address detection for it and answers solicitations.
	if (carries_link_control(skb, &ip6)) {
		COUNT(left_to_kernel);
		return TC_ACT_UNSPEC;
	}
	if (is_unicast_to_many(skb)) {
		COUNT(unicast_to_many);
		return TC_ACT_SHOT;
	}
	if (!sharing && unlikely(owned == OURS_NEXT) && !to_main(skb, &ip6)) {
		COUNT(failed);
		return TC_ACT_SHOT;
	}
	shares = false;
	if (sharing) {
		s = shared();
		shares = s && ((const __be64 *)&ip6.daddr)[0] == s->host[0] && ((const __be64 *)&ip6.daddr)[1] == s->host[1];
	}
	if (!translate || !current())
		return shares ? steer_shared(skb, &ip6, 0) : steer_in(skb, 0);
	set_stage(skb, STAGE_FRESH);
	if (!shares)
		return steer_in(skb, BPF_F_INGRESS);
	return steer_shared(skb, &ip6, BPF_F_INGRESS);
}

SEC("tc")
int uplink_ingress(struct __sk_buff *skb)
{
	return from_uplink(skb, false, false);
}

SEC("tc")
int sharing_ingress(struct __sk_buff *skb)
{
	return from_uplink(skb, false, true);
}

// uplink_translate is uplink_ingress with the kernel engine, which tun_translate
// is. Programs of their own, so that a kernel which refuses the engine still
// steers.
SEC("tc")
int uplink_translate(struct __sk_buff *skb)
{
	return from_uplink(skb, true, false);
}

SEC("tc")
int sharing_translate(struct __sk_buff *skb)
{
	return from_uplink(skb, true, true);
}

// send_translated is send_out for what the kernel engine has translated. A route is
// looked up where it is used: without CAP_PERFMON the verifier of 6.1 also takes
// the branch for a route where there is none.
static __always_inline int send_translated(struct __sk_buff *skb, struct departure *to)
{
	if (to->has_routes)
		return send_out(skb, find_route(to->dst), to->dst);
	mark_translated(skb);
	if (!uplink_link_header)
		return bpf_redirect(uplink_ifindex, 0);
	if (!add_link_header(skb))
		return TC_ACT_SHOT;
	if (to->router.family == AF_INET6)
		return bpf_redirect_neigh(uplink_ifindex, (struct bpf_redir_neigh *)&to->router, sizeof(to->router), 0);
	return bpf_redirect_neigh(uplink_ifindex, NULL, 0, 0);
}

// to_tun translates what the kernel engine can.
static __always_inline int to_tun(struct __sk_buff *skb, bool sharing)
{
	struct departure to;
	struct translated6 became;

	// IPv6 comes from steer_in: user space is to read it.
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		switch (to6(skb, CLAT, &to, &became)) {
		case TRANSLATED:
			if (sharing && !claim_translated(skb, &became))
				return TC_ACT_SHOT;
			if (!sharing && unlikely(to.has_next)) {
				switch (choose_source(skb, tun_header_len)) {
				case FROM_NEXT:
					return send_next(skb, find_route(to.dst), to.dst);
				case FROM_NOWHERE:
					COUNT(failed);
					return TC_ACT_SHOT;
				case FROM_MAIN:
					break;
				}
			}
			return send_translated(skb, &to);
		case BROKEN:
			COUNT(failed);
			return TC_ACT_SHOT;
		case DECLINED:
			break;
		}
	}
	if (sharing)
		note_owner(skb);
	number_packet(skb);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int tun_egress(struct __sk_buff *skb)
{
	return to_tun(skb, false);
}

SEC("tc")
int sharing_tun_egress(struct __sk_buff *skb)
{
	return to_tun(skb, true);
}

// sharing_tun_owners is sharing_tun_egress without the kernel engine.
SEC("tc")
int sharing_tun_owners(struct __sk_buff *skb)
{
	note_owner(skb);
	return TC_ACT_UNSPEC;
}

// from_tun sends what user space has written out of the uplink. With the kernel
// engine it also translates what uplink_translate has redirected.
static __always_inline int from_tun(struct __sk_buff *skb, bool translate, bool sharing)
{
	struct ipv6hdr ip6 __attribute__((aligned(8)));
	bool fresh = translate && stage(skb) == STAGE_FRESH;
	enum departed source = FROM_MAIN;
	__u32 ours;
	int verdict;

	// IPv4 is a translated packet for the local stack and its firewall.
	if (skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	if (translate) {
		switch (to4(skb, CLAT)) {
		case TRANSLATED:
			return TC_ACT_UNSPEC;
		case BROKEN:
			COUNT(failed);
			return TC_ACT_SHOT;
		case DECLINED:
			break;
		}
	}
	if (load_ipv6(skb, &ip6)) {
		COUNT(foreign_source);
		return TC_ACT_SHOT;
	}
	ours = is_ours(&ip6.saddr);
	// From the uplink.
	if (translate && (!ours || fresh) && is_ours(&ip6.daddr))
		return steer_in(skb, 0);
	if (!ours || fresh) {
		COUNT(foreign_source);
		return TC_ACT_SHOT;
	}
	if (sharing && !claim_port(skb, true))
		return TC_ACT_SHOT;
	if (!sharing && unlikely(ours == OURS_BESIDE_NEXT))
		source = choose_source(skb, tun_header_len);
	if (source == FROM_NOWHERE) {
		COUNT(failed);
		return TC_ACT_SHOT;
	}
	if (source == FROM_NEXT)
		verdict = send_next(skb, find_route(&ip6.daddr), &ip6.daddr);
	else
		verdict = send_out(skb, find_route(&ip6.daddr), &ip6.daddr);
	if (verdict != TC_ACT_SHOT)
		COUNT(steered_out);
	return verdict;
}

SEC("tc")
int tun_ingress(struct __sk_buff *skb)
{
	return from_tun(skb, false, false);
}

SEC("tc")
int sharing_tun_ingress(struct __sk_buff *skb)
{
	return from_tun(skb, false, true);
}

// tun_translate is tun_ingress with the kernel engine.
SEC("tc")
int tun_translate(struct __sk_buff *skb)
{
	return from_tun(skb, true, false);
}

SEC("tc")
int sharing_tun_translate(struct __sk_buff *skb)
{
	return from_tun(skb, true, true);
}

SEC("tc")
int uplink_egress(struct __sk_buff *skb)
{
	return guard_egress(skb);
}

SEC("tc")
int sharing_egress(struct __sk_buff *skb)
{
	int verdict = guard_egress(skb);

	if (verdict != TC_ACT_UNSPEC || skb->protocol != bpf_htons(ETH_P_IPV6) || is_translated(skb))
		return verdict;
	return claim_port(skb, false) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

// guard_ingress is for links that are no uplink.
SEC("tc")
int guard_ingress(struct __sk_buff *skb)
{
	if (!is_stray_ipv4(skb))
		return TC_ACT_UNSPEC;
	COUNT(stray_ipv4);
	return TC_ACT_SHOT;
}

// gso_probe returns 1 if change_proto leaves gso_size alone. Before kernel
// 5.14 it corrected it by the 20 bytes that the header grows or shrinks, which
// splits every segment of a stream in two. Only for BPF_PROG_TEST_RUN.
SEC("tc")
int gso_probe(struct __sk_buff *skb)
{
	__u32 size = skb->gso_size;

	return !bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0) && skb->gso_size == size;
}
