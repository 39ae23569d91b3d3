// Flows of an IPv6 address that the translator shares with the host. The host's
// kernel and the translator choose source ports independently, so that both may
// choose the same one towards the same remote port. Whoever comes second gets
// another port on the wire.
//
// A flow is what passes between two ports (TCP, UDP and their like), by one
// identifier (ICMP echo), or between two addresses (other protocols). Only packets
// that leave the host begin one, so that nobody outside fills the tables. A table
// that is full evicts the flow that was silent for longest. A connection of a socket
// of this host survives that: see sockets.h.

#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "engine.h"
#include "maps.h"
#include "packet.h"

// The address that is shared, and with whom the translator talks from there: what
// is in PREF64, or everybody where explicit address mappings, or networks with other
// prefixes, lead elsewhere. In network byte order.
struct share {
	__be64 host[2];
	__be64 pref[2];
	__be64 mask[2]; // of PREF64
	__be32 clat4;   // the CLAT IPv4 address
	__u32 pref_len; // bits of PREF64
	__u64 everybody; // 1: not only with who is in PREF64
};

// No entry, or an array with one share, which is exchanged as a whole like a
// translation, see engine.h.
struct share_array {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct share);
} share_template SEC(".maps"); // an unused one, from which clang and Go learn the types

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct share_array);
} shares SEC(".maps");

static __always_inline const struct share *shared(void)
{
	union slot zero = { 0 };
	void *array = bpf_map_lookup_elem(&shares, &zero.u32);

	return array ? bpf_map_lookup_elem(array, &zero.u32) : NULL;
}

// is_behind_plat says whether a remote address is in PREF64.
static __always_inline bool is_behind_plat(const struct share *s, const __be64 *remote)
{
	return !((remote[0] ^ s->pref[0]) & s->mask[0]) && !((remote[1] ^ s->pref[1]) & s->mask[1]);
}

// has_ports says whether a protocol's header begins with two ports.
static __always_inline bool has_ports(__u32 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
	       protocol == IPPROTO_DCCP || protocol == IPPROTO_SCTP;
}

// The key is written in whole 64-bit words: see union slot.
struct flow_key {
	__be64 remote[2];
	__u64 ports; // flow_ports
};

// What a key's port is.
enum port_kind {
	ON_WIRE, // the own port in the packets on the uplink; flow.port is that of the socket
	OF_SOCKET, // that of the socket, where another is on the wire: flow.port
};

// flow_ports packs ports in host byte order.
static __always_inline __u64 flow_ports(__u32 protocol, enum port_kind kind, __u32 remote, __u32 own)
{
	return (__u64)own << 32 | (__u64)remote << 16 | kind << 8 | protocol;
}

// Whole words, as in the key.
struct flow {
	__u64 seen; // when the last packet passed, in ns, to the second
	__u64 port; // in host byte order
	__u64 state;
};

#define REPLIED 1 // the remote has sent something
#define CLOSING 2 // the socket has sent FIN or RST
#define OWNER_SHIFT 32 // the bits from here on are a flow_owner

#define UNKNOWN_OWNER 0xffffffffULL

// flow_owner returns a number for the user whose socket has sent a packet. What came
// in by an interface, as packets of guests, counts as one user's. 0 is nobody's: flows
// that are not known by a packet.
static __always_inline __u64 flow_owner(struct __sk_buff *skb)
{
	if (skb->ingress_ifindex)
		return UNKNOWN_OWNER;
	return (__u64)bpf_get_socket_uid(skb) + 1;
}

// As many as conntrack remembers by default on a machine of up to 4 GB.
#define FLOWS 65536

// Flows of the translator. One that is not answered, or has not sent anything
// after an answer, is new, and so is one that is closing: a flood of those does
// not push established flows out.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow);
} established_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow);
} new_flows SEC(".maps");

// Flows of the host itself.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow);
} host_flows SEC(".maps");

// Both entries of those flows of the host that have another port on the wire and are
// established, as in established_flows. No socket knows that port, so they do not
// survive an eviction. Other flows of the host do: what no table has is the host's.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct flow_key);
	__type(value, struct flow);
} moved_flows SEC(".maps");

#define SECOND 1000000000ULL

// lifetime returns for how long a silent flow is remembered, as conntrack does.
static __always_inline __u64 lifetime(const struct flow_key *key, const struct flow *f)
{
	switch (key->ports & 0xff) {
	case IPPROTO_TCP:
		return f->state & REPLIED && !(f->state & CLOSING) ? 432000 * SECOND : 120 * SECOND;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return 180 * SECOND;
	case IPPROTO_ICMPV6:
		return 60 * SECOND;
	}
	return 600 * SECOND;
}

// find_flow returns the flow of a table, NULL if it is not there or was silent for
// too long.
static __always_inline struct flow *find_flow(void *flows, const struct flow_key *key, __u64 now)
{
	struct flow *f = bpf_map_lookup_elem(flows, key);

	if (!f || (__s64)(now - f->seen) > (__s64)lifetime(key, f))
		return NULL;
	return f;
}

static __always_inline void touch(struct flow *f, __u64 now, __u32 state)
{
	if ((__s64)(now - f->seen) > (__s64)SECOND)
		f->seen = now;
	if (state & ~f->state)
		f->state |= state;
}

// ADD_FLOW enters a flow into a table, in the place of one that has expired.
#define ADD_FLOW(table, key, flow)                                             \
	do {                                                                   \
		if (!bpf_map_update_elem(&table, key, flow, BPF_NOEXIST))      \
			COUNT(table##_added);                                  \
		else                                                           \
			bpf_map_update_elem(&table, key, flow, BPF_ANY);       \
	} while (0)

#define DELETE_FLOW(table, key)                                                \
	do {                                                                   \
		if (!bpf_map_delete_elem(&table, key))                         \
			COUNT(table##_deleted);                                \
	} while (0)

// MOVE_FLOW moves an entry to another table.
#define MOVE_FLOW(from, to, key, was, now, flags)                              \
	do {                                                                   \
		struct flow copy = { .seen = now, .port = (was)->port, .state = (was)->state | (flags) }; \
									       \
		ADD_FLOW(to, key, &copy);                                      \
		DELETE_FLOW(from, key);                                        \
	} while (0)

// establish moves a flow of the translator to those that a flood of new ones does
// not evict. Until then what the remote sends is noted in the entry ON_WIRE only.
static __always_inline void establish(const struct flow_key *key, const struct flow *f, __u64 now)
{
	MOVE_FLOW(new_flows, established_flows, key, f, now, REPLIED);
}

// disestablish is the reverse.
static __always_inline void disestablish(const struct flow_key *key, const struct flow *f, __u64 now)
{
	MOVE_FLOW(established_flows, new_flows, key, f, now, 0);
}

// establish_moved is establish for an entry of a flow of the host that has another
// port on the wire.
static __always_inline void establish_moved(const struct flow_key *key, const struct flow *f, __u64 now)
{
	MOVE_FLOW(host_flows, moved_flows, key, f, now, REPLIED);
}

// disestablish_moved is the reverse.
static __always_inline void disestablish_moved(const struct flow_key *key, const struct flow *f, __u64 now)
{
	MOVE_FLOW(moved_flows, host_flows, key, f, now, 0);
}
