package pref64

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// RouterAdvertisement is what a CLAT wants to know of a Router Advertisement
// (RFC 4861 section 4.2).
type RouterAdvertisement struct {
	Router         netip.Addr    // link-local, without zone
	RouterLifetime time.Duration // 0: not a default router
	Preference     Preference    // as a default router
	MTU            int           // bytes, at least 1280; 0: not given. Nobody adopts more than the link's own
	Prefixes       []PrefixInfo  // in the order of the options
	PREF64         []PREF64      // in the order of the options
	RDNSS          []RDNSS       // in the order of the options
	Ignored        []Ignored     // options that were left out
}

// PrefixInfo is a Prefix Information option (RFC 4861 section 4.6.2).
type PrefixInfo struct {
	Prefix     netip.Prefix
	OnLink     bool
	Autonomous bool          // addresses may be formed from it (SLAAC)
	Valid      time.Duration // Infinite if it never ends
	Preferred  time.Duration // Infinite if it never ends
}

// Infinite is the lifetime of 0xffffffff seconds in a PrefixInfo or RDNSS.
const Infinite = time.Duration(0xffffffff) * time.Second

// PREF64 is a PREF64 option (RFC 8781 section 4) with a usable prefix.
type PREF64 struct {
	Prefix   netip.Prefix
	Lifetime time.Duration // a multiple of 8 s, at most 65528 s; 0: withdrawn
}

// RDNSS is a Recursive DNS Server option (RFC 8106 section 5.1).
type RDNSS struct {
	Servers  []netip.Addr  // at least one, without zones
	Lifetime time.Duration // Infinite if it never ends; 0: withdrawn
}

const (
	typeRouterSolicitation  = 133 // ICMPv6
	typeRouterAdvertisement = 134 // ICMPv6

	optSourceLinkLayer = 1
	optPrefixInfo      = 3
	optMTU             = 5
	optRDNSS           = 25
	optPREF64          = 38

	raFixedLen = 16 // bytes of a Router Advertisement before its options
	minMTU     = 1280
)

// ParseRA reads the ICMPv6 message msg, which came from src with the given hop
// limit, as a Router Advertisement. A Reason other than None means that the
// whole message must be discarded (RFC 4861 section 6.1.2). Options that are wrong by themselves lose only themselves and are
// listed in Ignored; unknown ones are skipped. The result does not refer to
// msg.
//
// The ICMPv6 checksum is not looked at: a raw ICMPv6 socket hands out only
// packets whose checksum the kernel found good, and with checksum offload the
// field need not even hold it yet.
func ParseRA(src netip.Addr, hopLimit int, msg []byte) (RouterAdvertisement, Reason) {
	src = src.WithZone("")
	switch {
	case !isLinkLocal(src):
		return RouterAdvertisement{}, NotLinkLocal
	case hopLimit != 255:
		return RouterAdvertisement{}, HopLimit
	case len(msg) < raFixedLen:
		return RouterAdvertisement{}, Truncated
	case msg[0] != typeRouterAdvertisement:
		return RouterAdvertisement{}, NotRA
	case msg[1] != 0:
		return RouterAdvertisement{}, BadCode
	}
	ra := RouterAdvertisement{
		Router:         src,
		RouterLifetime: time.Duration(binary.BigEndian.Uint16(msg[6:])) * time.Second,
		Preference:     preference(msg[5]),
	}
	for opts := msg[raFixedLen:]; len(opts) > 0; {
		opt, rest, reason := nextOption(opts)
		if reason != None {
			return RouterAdvertisement{}, reason
		}
		if reason := ra.add(opt); reason != None {
			ra.Ignored = append(ra.Ignored, Ignored{Reason: reason, Router: src})
		}
		opts = rest
	}
	return ra, None
}

// contains reports whether p overlaps a prefix that ra makes on-link, or from
// which hosts form addresses.
func (ra *RouterAdvertisement) contains(p netip.Prefix) bool {
	return slices.ContainsFunc(ra.Prefixes, func(own PrefixInfo) bool {
		return (own.OnLink || own.Autonomous) && own.Valid > 0 && own.Prefix.Overlaps(p)
	})
}

// preference reads the flags of a Router Advertisement. The reserved value is
// medium (RFC 4191 section 2.2).
func preference(flags byte) Preference {
	switch flags >> 3 & 3 {
	case 1:
		return High
	case 3:
		return Low
	}
	return Medium
}

// isLinkLocal is stricter than netip, which counts ::ffff:169.254.0.0/112 in.
func isLinkLocal(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.IsLinkLocalUnicast()
}

func (ra *RouterAdvertisement) add(opt []byte) Reason {
	switch opt[0] {
	case optPREF64:
		p, reason := parsePREF64(opt)
		if reason == None {
			ra.PREF64 = append(ra.PREF64, p)
		}
		return reason
	case optRDNSS:
		r, reason := parseRDNSS(opt)
		if reason == None {
			ra.RDNSS = append(ra.RDNSS, r)
		}
		return reason
	case optPrefixInfo:
		p, reason := parsePrefixInfo(opt)
		if reason == None {
			ra.Prefixes = append(ra.Prefixes, p)
		}
		return reason
	case optMTU:
		mtu, reason := parseMTU(opt)
		if reason == None {
			ra.MTU = mtu
		}
		return reason
	}
	return None
}
