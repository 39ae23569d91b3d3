// Which port a flow of a shared address has on the wire.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "maps.h"
#include "owners.h"
#include "sockets.h"

// Where the ports are tried that a flow gets instead of its own: beyond those that
// Linux chooses from by default (net.ipv4.ip_local_port_range).
#define OTHER_PORTS_FROM 61000
#define OTHER_PORTS 4536
#define OTHER_PORTS_TRIED 8

// holder returns the flow that has a port on the wire, or NULL.
static __always_inline struct flow *holder(const struct flow_key *key, __u64 now)
{
	struct flow *f = find_flow(&host_flows, key, now);

	if (!f)
		f = find_flow(&moved_flows, key, now);
	if (!f)
		f = find_flow(&established_flows, key, now);
	if (!f)
		f = find_flow(&new_flows, key, now);
	return f;
}

// is_free says whether a flow may have its socket's port on the wire. A connected
// socket of the other family has it, even if its flow was evicted, so that no user
// takes over the connections of another one by a flood of flows; unless it is known to
// have another port on the wire.
static __always_inline bool is_free(struct __sk_buff *skb, const struct flow_key *key, bool translator, __u64 now)
{
	struct flow_key socket = *key;
	const struct share *s;

	if (holder(key, now))
		return false;
	s = shared(); // see steer_shared
	if (!s || !(translator ? has_ipv6_connection(skb, s, key) : has_ipv4_connection(skb, s, key)))
		return true;
	socket.ports |= OF_SOCKET << 8;
	if (translator)
		return find_flow(&host_flows, &socket, now) || find_flow(&moved_flows, &socket, now);
	return find_flow(&established_flows, &socket, now) || find_flow(&new_flows, &socket, now);
}

// What a packet that leaves means for its flow.
enum claim {
	CLAIM, // the flow is remembered from now on
	CLAIM_NOT, // nor by this packet if it is not yet
	CLAIM_FIXED, // its port cannot be changed
};

#define NO_PORT (-1)

// other_port returns a port on the wire that is not the socket's, and sets key to it.
// base is the key without a port. If all that are tried are taken, and none by the
// same owner, who has few then, one is taken over: no user keeps all of a
// destination from others by flows from every port. NO_PORT otherwise.
static __always_inline __s32 other_port(struct flow_key *key, __u64 base, __u64 owner, __u64 now)
{
	bool has_some = false;
	struct flow *f;
	__u32 port = 0;

#pragma unroll
	for (int i = 0; i < OTHER_PORTS_TRIED; i++) {
		port = OTHER_PORTS_FROM + bpf_get_prandom_u32() % OTHER_PORTS;
		key->ports = base | (__u64)port << 32;
		f = holder(key, now);
		if (!f)
			return port;
		if (f->state >> OWNER_SHIFT == owner)
			has_some = true;
	}
	if (has_some)
		return NO_PORT;
	DELETE_FLOW(host_flows, key);
	DELETE_FLOW(moved_flows, key);
	DELETE_FLOW(established_flows, key);
	DELETE_FLOW(new_flows, key);
	return port;
}

// translator_port returns which port a packet of the translator has on the wire,
// NO_PORT if there is none left. key has the port of the socket, as ON_WIRE.
// closing is CLOSING or 0.
static __always_inline __s32 translator_port(struct __sk_buff *skb, struct flow_key *key, enum claim how, __u32 closing, __u64 now)
{
	const __u64 base = key->ports & 0xffffffff;
	const __u32 own = key->ports >> 32;
	struct flow begin = { .seen = now, .port = own, .state = closing };
	__u64 owner;
	struct flow_key socket;
	struct flow *f;
	__s32 port;

	f = find_flow(&established_flows, key, now);
	if (f && f->port == own) {
		touch(f, now, closing);
		if (closing)
			disestablish(key, f, now);
		return own;
	}
	if (!f) {
		f = find_flow(&new_flows, key, now);
		if (f && f->port == own) {
			touch(f, now, closing);
			if ((__u32)f->state == REPLIED)
				establish(key, f, now);
			return own;
		}
	}
	socket = *key;
	socket.ports |= OF_SOCKET << 8;
	f = find_flow(&established_flows, &socket, now);
	if (!f)
		f = find_flow(&new_flows, &socket, now);
	if (f) {
		port = f->port & 0xffff;
		touch(f, now, closing);
		key->ports = base | (__u64)(__u32)port << 32;
		f = find_flow(&established_flows, key, now);
		if (f && f->port == own) {
			touch(f, now, closing);
			return port;
		}
		f = find_flow(&new_flows, key, now);
		if (f && f->port == own) {
			touch(f, now, closing);
			if ((__u32)f->state == REPLIED) {
				establish(key, f, now);
				f = find_flow(&new_flows, &socket, now);
				if (f)
					establish(&socket, f, now);
			}
			return port;
		}
		// The other entry was evicted, or its port taken over: see other_port.
		DELETE_FLOW(established_flows, &socket);
	}
	key->ports = base | (__u64)own << 32;
	owner = translator_owner(skb, key);
	begin.state |= owner << OWNER_SHIFT;
	if (is_free(skb, key, true, now)) {
		ADD_FLOW(new_flows, key, &begin);
		return own;
	}
	if (how == CLAIM_FIXED)
		return NO_PORT;
	port = other_port(key, base, owner, now);
	if (port == NO_PORT)
		return NO_PORT;
	ADD_FLOW(new_flows, key, &begin);
	begin.port = port;
	ADD_FLOW(new_flows, &socket, &begin);
	COUNT(other_port);
	return port;
}

// host_port is translator_port for a packet of the host.
static __always_inline __s32 host_port(struct __sk_buff *skb, struct flow_key *key, enum claim how, __u32 closing, __u64 now)
{
	const __u64 base = key->ports & 0xffffffff;
	const __u32 own = key->ports >> 32;
	struct flow begin = { .seen = now, .port = own, .state = closing };
	__u64 owner;
	struct flow_key socket;
	struct flow *f;
	__s32 port;

	f = find_flow(&host_flows, key, now);
	if (f && f->port == own) {
		touch(f, now, closing);
		return own;
	}
	socket = *key;
	socket.ports |= OF_SOCKET << 8;
	f = find_flow(&moved_flows, &socket, now);
	if (!f)
		f = find_flow(&host_flows, &socket, now);
	if (f) {
		port = f->port & 0xffff;
		touch(f, now, closing);
		key->ports = base | (__u64)(__u32)port << 32;
		f = find_flow(&moved_flows, key, now);
		if (f && f->port == own) {
			touch(f, now, closing);
			if (closing) {
				disestablish_moved(key, f, now);
				f = find_flow(&moved_flows, &socket, now);
				if (f)
					disestablish_moved(&socket, f, now);
			}
			return port;
		}
		f = find_flow(&host_flows, key, now);
		if (f && f->port == own) {
			touch(f, now, closing);
			if ((__u32)f->state == REPLIED) {
				establish_moved(key, f, now);
				f = find_flow(&host_flows, &socket, now);
				if (f)
					establish_moved(&socket, f, now);
			}
			return port;
		}
		// The other entry was evicted, or its port taken over: see other_port.
		DELETE_FLOW(moved_flows, &socket);
	}
	owner = flow_owner(skb);
	begin.state |= owner << OWNER_SHIFT;
	key->ports = base | (__u64)own << 32;
	if (is_free(skb, key, false, now)) {
		if (how != CLAIM_NOT)
			ADD_FLOW(host_flows, key, &begin);
		return own;
	}
	if (how != CLAIM)
		return NO_PORT;
	port = other_port(key, base, owner, now);
	if (port == NO_PORT)
		return NO_PORT;
	ADD_FLOW(host_flows, key, &begin);
	begin.port = port;
	ADD_FLOW(host_flows, &socket, &begin);
	COUNT(other_port);
	return port;
}
