// The users of the IPv4 flows that user space translates. A translation comes from the
// TUN and has no socket, so the user is noted when the IPv4 packet enters the TUN.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "engine.h"
#include "flow.h"

// The key is written in whole 64-bit words: see union slot.
struct owner_key {
	__u64 remote; // IPv4, in host byte order
	__u64 ports; // flow_ports, OF_SOCKET; of ICMP as of ICMPv6
};

// An entry is read when the translation of a flow's first packet leaves, a moment after
// it was written. If a flood evicts it before, the flow has UNKNOWN_OWNER.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct owner_key);
	__type(value, __u64); // flow_owner
} owners SEC(".maps");

// note_owner is called for every packet that is to be read by user space.
static __always_inline void note_owner(struct __sk_buff *skb)
{
	struct iphdr ip __attribute__((aligned(8)));
	struct owner_key key;
	const __u64 *known;
	__u64 owner, first = 0;
	__u32 protocol, own = 0, remote = 0;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, tun_header_len, &ip, sizeof(ip)))
		return;
	if (ip.frag_off & bpf_htons(0x1fff)) // only the first fragment has ports
		return;
	protocol = ip.protocol;
	if (protocol == IPPROTO_ICMP || has_ports(protocol)) {
		if (bpf_skb_load_bytes(skb, tun_header_len + ip.ihl * 4, &first, sizeof(first)))
			return;
		// Shifts instead of an array: see sent_ports.
		if (protocol == IPPROTO_ICMP) {
			protocol = IPPROTO_ICMPV6;
			own = bpf_ntohs(first >> 32 & 0xffff);
		} else {
			own = bpf_ntohs(first & 0xffff);
			remote = bpf_ntohs(first >> 16 & 0xffff);
		}
	}
	key.remote = bpf_ntohl(ip.daddr);
	key.ports = flow_ports(protocol, OF_SOCKET, remote, own);
	owner = flow_owner(skb);
	known = bpf_map_lookup_elem(&owners, &key);
	if (!known || *known != owner)
		bpf_map_update_elem(&owners, &key, &owner, BPF_ANY);
}

// translator_owner is flow_owner for a packet of the translator. key has the port of
// the socket, as ON_WIRE.
static __always_inline __u64 translator_owner(struct __sk_buff *skb, const struct flow_key *key)
{
	struct addr6 behind = { bpf_be64_to_cpu(key->remote[0]), bpf_be64_to_cpu(key->remote[1]) };
	const struct share *s;
	struct owner_key socket;
	const __u64 *owner;

	if (!skb->ingress_ifindex)
		return flow_owner(skb);
	s = shared(); // see steer_shared
	if (!s || !is_behind_plat(s, key->remote))
		return UNKNOWN_OWNER;
	socket.remote = extract_at(s->pref_len, behind);
	socket.ports = (key->ports & ~0xff00ULL) | OF_SOCKET << 8;
	owner = bpf_map_lookup_elem(&owners, &socket);
	return owner ? *owner : UNKNOWN_OWNER;
}
