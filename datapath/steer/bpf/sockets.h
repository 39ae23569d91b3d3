// Sockets of the host, which know of flows that were evicted from the tables of
// flow.h, or began before these.

#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addr.h"
#include "flow.h"
#include "packet.h"

#define TCP_LISTENS 10
#define TCP_SYN_RECEIVED 12
#define TCP_CONNECTED 1 // of UDP too

// has_connection says whether a socket of the host is connected by these addresses
// and ports: a tuple's source is the remote. A socket that listens does not count.
static __always_inline bool has_connection(struct __sk_buff *skb, __u32 protocol, struct bpf_sock_tuple *tuple, __u32 len)
{
	struct bpf_sock *sk;
	bool connected;

	if (protocol == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(skb, tuple, len, BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return false;
		connected = sk->state != TCP_LISTENS && sk->state != TCP_SYN_RECEIVED;
	} else {
		sk = bpf_sk_lookup_udp(skb, tuple, len, BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return false;
		connected = sk->state == TCP_CONNECTED;
	}
	bpf_sk_release(sk);
	return connected;
}

// has_ipv4_connection says whether an IPv4 socket of the host is connected through the
// translator by the flow of a key. Of remotes that are not in PREF64 nothing is known.
static __always_inline bool has_ipv4_connection(struct __sk_buff *skb, const struct share *s, const struct flow_key *key)
{
	const __u32 protocol = key->ports & 0xff;
	struct addr6 behind = { bpf_be64_to_cpu(key->remote[0]), bpf_be64_to_cpu(key->remote[1]) };
	struct bpf_sock_tuple tuple __attribute__((aligned(8)));

	if (!is_behind_plat(s, key->remote) || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return false;
	__builtin_memset(&tuple, 0, sizeof(tuple));
	tuple.ipv4.saddr = bpf_htonl(extract_at(s->pref_len, behind));
	tuple.ipv4.daddr = s->clat4;
	tuple.ipv4.sport = bpf_htons(key->ports >> 16 & 0xffff);
	tuple.ipv4.dport = bpf_htons(key->ports >> 32);
	return has_connection(skb, protocol, &tuple, sizeof(tuple.ipv4));
}

// has_ipv6_connection says whether an IPv6 socket of the host is connected from the
// shared address by the flow of a key.
static __always_inline bool has_ipv6_connection(struct __sk_buff *skb, const struct share *s, const struct flow_key *key)
{
	const __u32 protocol = key->ports & 0xff;
	struct bpf_sock_tuple tuple __attribute__((aligned(8)));

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return false;
	__builtin_memset(&tuple, 0, sizeof(tuple));
	__builtin_memcpy(tuple.ipv6.saddr, key->remote, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, s->host, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = bpf_htons(key->ports >> 16 & 0xffff);
	tuple.ipv6.dport = bpf_htons(key->ports >> 32);
	return has_connection(skb, protocol, &tuple, sizeof(tuple.ipv6));
}
