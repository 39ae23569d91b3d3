// Addresses: RFC 6052, and those that must not be translated. The rules are
// those of siit/addr.go.

#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>

#include "engine.h"

// An IPv6 address in host byte order.
struct addr6 {
	__u64 hi, lo;
};

static __always_inline bool is_same(struct addr6 a, __u64 hi, __u64 lo)
{
	return a.hi == hi && a.lo == lo;
}

// is_illegal_source6 says whether no packet may come from an IPv6 address: the
// unspecified one, loopback and multicast.
static __always_inline bool is_illegal_source6(struct addr6 a)
{
	return a.hi >> 56 == 0xff || (!a.hi && a.lo <= 1);
}

// is_link_local6 says whether an address is in fe80::/10.
static __always_inline bool is_link_local6(struct addr6 a)
{
	return a.hi >> 54 == 0x3fa;
}

static __always_inline bool in_pref64(const struct translation *t, struct addr6 a)
{
	return ((a.hi ^ t->pref_hi) & t->mask_hi) == 0 && ((a.lo ^ t->pref_lo) & t->mask_lo) == 0;
}

// embed_at puts an IPv4 address behind a prefix of so many bits (RFC 6052 section
// 2.2). In all but the /96 the octet u, bits 64 to 71, stays zero in the midst of it.
static __always_inline struct addr6 embed_at(__u64 hi, __u64 lo, __u32 bits, __u32 v4)
{
	struct addr6 a = { hi, lo };
	__u32 behind; // bits of the IPv4 address behind the octet u

	if (likely(bits == 96)) {
		a.lo |= v4;
		return a;
	}
	a.lo = 0;
	if (bits == 32) {
		a.hi |= v4;
		return a;
	}
	behind = bits - 32;
	a.hi |= (__u64)v4 >> (behind & 63);
	a.lo = (__u64)v4 << (64 - behind & 63) >> 8;
	return a;
}

// embed puts an IPv4 address behind PREF64.
static __always_inline struct addr6 embed(const struct translation *t, __u32 v4)
{
	return embed_at(t->pref_hi, t->pref_lo, t->pref_len, v4);
}

// extract_at returns the IPv4 address behind a prefix of so many bits. The octet u
// and the suffix are ignored.
static __always_inline __u32 extract_at(__u32 bits, struct addr6 a)
{
	__u32 behind;

	if (likely(bits == 96))
		return a.lo;
	if (bits == 32)
		return a.hi;
	behind = bits - 32;
	return a.hi << (behind & 63) | a.lo << 8 >> (64 - behind & 63);
}

// extract returns the IPv4 address behind PREF64.
static __always_inline __u32 extract(const struct translation *t, struct addr6 a)
{
	return extract_at(t->pref_len, a);
}

// is_illegal_source says whether no packet may come from an IPv4 address:
// "this network", loopback, multicast, class E, and in a CLAT the block of the
// CLATs themselves.
static __always_inline bool is_illegal_source(__u32 a)
{
	__u32 net = a >> 24;

	return net == 0 || net == 127 || net >= 224 || (a & 0xfffffff8) == 0xc0000000;
}

static __always_inline bool is_illegal_destination(__u32 a)
{
	return is_illegal_source(a) || a >> 16 == 0xa9fe; // link-local
}

// is_private says whether an address is one of those that RFC 6052 section 3.1
// bans from the well-known prefix.
static __always_inline bool is_private(__u32 a)
{
	return (a & 0xff000000) == 0x0a000000 || // 10.0.0.0/8
	       (a & 0xffc00000) == 0x64400000 || // 100.64.0.0/10
	       (a & 0xffff0000) == 0xa9fe0000 || // 169.254.0.0/16
	       (a & 0xfff00000) == 0xac100000 || // 172.16.0.0/12
	       (a & 0xffffff00) == 0xc0000000 || // 192.0.0.0/24
	       (a & 0xffff0000) == 0xc0a80000 || // 192.168.0.0/16
	       (a & 0xfffe0000) == 0xc6120000;   // 198.18.0.0/15
}
