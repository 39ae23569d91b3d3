package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// mappedIPv4 are the IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
var mappedIPv4 = netip.MustParsePrefix("::ffff:0:0/96")

// protocolIPv4 is 192.0.0.0/24, IETF protocol assignments (RFC 6890).
var protocolIPv4 = netip.MustParsePrefix("192.0.0.0/24")

// poolPrefix has a place for the gateway's own address and for hosts.
var poolPrefix = format[netip.Prefix]{
	allowed: "an IPv4 prefix of length 8 to 30, for example 100.64.0.0/16",
	parse: func(s string) (netip.Prefix, error) {
		p, err := prefix(s, "IPv4")
		switch {
		case err != nil:
			return p, err
		case p.Bits() < 8:
			return p, errors.New("is larger than a /8")
		case p.Bits() > 30:
			return p, errors.New("has no room for the gateway's own address and a host")
		case p.Overlaps(protocolIPv4):
			return p, fmt.Errorf("overlaps %v, which is reserved for protocols such as 464XLAT", protocolIPv4)
		case thisHost.Overlaps(p) || classE.Overlaps(p):
			return p, errors.New("contains reserved addresses")
		}
		return p, unicast(p.Addr())
	},
}

// clientPrefix is where clients are.
var clientPrefix = format[netip.Prefix]{
	allowed: "a unicast IPv6 prefix, for example 2001:db8:1::/48",
	parse: func(s string) (netip.Prefix, error) {
		p, err := prefixOrAddress(s, "IPv6")
		if err != nil || p.Bits() == 0 {
			return p, err // ::/0 has its own warning
		}
		return p, unicast(p.Addr())
	},
}

// addressRange is an address, a range FIRST-LAST or a prefix.
var addressRange = format[AddrRange]{
	allowed: `an IPv4 address, a range such as "203.0.113.1-203.0.113.4", or a prefix`,
	parse: func(s string) (AddrRange, error) {
		if strings.Contains(s, "/") {
			p, err := prefix(s, "IPv4")
			if err != nil {
				return AddrRange{}, err
			}
			r := AddrRange{p.Addr(), lastOf(p)}
			if err := outsideAddress(r.First); err != nil {
				return r, err
			}
			return r, outsideAddress(r.Last)
		}
		first, last, isRange := strings.Cut(s, "-")
		if !isRange {
			last = first
		}
		var r AddrRange
		var err error
		if r.First, err = hostIPv4(strings.TrimSpace(first)); err != nil {
			return r, rangeError(isRange, "starts with what", err)
		}
		if r.Last, err = hostIPv4(strings.TrimSpace(last)); err != nil {
			return r, rangeError(isRange, "ends with what", err)
		}
		if r.Last.Less(r.First) {
			return r, errors.New("ends before it starts")
		}
		return r, nil
	},
}

func rangeError(isRange bool, which string, err error) error {
	if isRange {
		return fmt.Errorf("%s %w", which, err)
	}
	return err
}

// lastOf returns the highest address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := range 32 {
		if i >= p.Bits() {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	return netip.AddrFrom4(b)
}

func outsideAddress(a netip.Addr) error {
	_, err := hostIPv4(a.String())
	return err
}

var idleTime = format[time.Duration]{
	allowed: `a duration from "1s" to "720h", for example "2h" or "90m"`,
	parse:   func(s string) (time.Duration, error) { return duration(s, time.Second, 720*time.Hour) },
}

// routerLifetime is bounded by RFC 4861 section 6.2.1 as RFC 8781 section 4
// narrows it, in units of 8 s.
var routerLifetime = format[time.Duration]{
	allowed: `a duration from "24s" to "18h", for example "30m"`,
	parse: func(s string) (time.Duration, error) {
		d, err := duration(s, 24*time.Second, 18*time.Hour)
		if err == nil && d%time.Second != 0 {
			return d, errors.New("is not a whole number of seconds")
		}
		return d, err
	},
}

func duration(s string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, errors.New("is not a duration")
	case d < low:
		return d, errors.New("is too short")
	case d > high:
		return d, errors.New("is too long")
	}
	return d, nil
}

var mapIPv4 = format[netip.Addr]{
	allowed: "an address of nat64.pool",
	parse:   hostIPv4,
}

var insideHost = format[netip.Addr]{
	allowed: "a unicast IPv6 address",
	parse: func(s string) (netip.Addr, error) {
		a, err := address(s, "IPv6")
		if err != nil {
			return a, err
		}
		return a, unicast(a)
	},
}

var forwardOutside = format[outsidePort]{
	allowed: `IPV4:PORT/tcp or IPV4:PORT/udp, for example "203.0.113.1:8443/tcp"`,
	parse: func(s string) (o outsidePort, err error) {
		ap, protocol, _ := strings.Cut(s, "/")
		switch protocol {
		case "tcp":
			o.protocol = TCP
		case "udp":
			o.protocol = UDP
		case "":
			return o, errors.New("names no protocol")
		default:
			return o, fmt.Errorf("has the protocol %s", quote(protocol))
		}
		if o.addr, err = addrPort(ap, 0); err != nil {
			return o, err
		}
		_, err = hostIPv4(o.addr.Addr().String())
		return o, err
	},
}

var forwardInside = format[netip.AddrPort]{
	allowed: `[IPV6]:PORT, for example "[2001:db8:1::10]:443"`,
	parse: func(s string) (netip.AddrPort, error) {
		ap, err := addrPort(s, 0)
		if err != nil {
			return ap, err
		}
		_, err = insideHost.parse(ap.Addr().String())
		return ap, err
	},
}

// addrPort parses ADDRESS:PORT. Where the port is missing it is port, unless
// that is 0.
func addrPort(s string, port uint16) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(s)
	if a, isAddr := bareAddr(s); isAddr {
		if port == 0 {
			return ap, errors.New("has no port")
		}
		ap, err = netip.AddrPortFrom(a, port), nil
	}
	switch {
	case err != nil:
		return ap, errors.New("is not ADDRESS:PORT")
	case ap.Port() == 0:
		return ap, errors.New("has port 0")
	case ap.Addr().Is4In6():
		return ap, errors.New("has an IPv4-mapped address")
	case ap.Addr().IsMulticast():
		return ap, errors.New("has a multicast address")
	case ap.Addr().Zone() != "" && !ap.Addr().IsLinkLocalUnicast():
		return ap, errors.New("has a zone but is not link-local")
	}
	return ap, nil
}

// bareAddr parses an address without port, in brackets or not.
func bareAddr(s string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}

var dnsListen = format[netip.AddrPort]{
	allowed: `ADDRESS:PORT of this host, for example "[2001:db8:1::1]:53"; the port may be left out`,
	parse: func(s string) (netip.AddrPort, error) {
		ap, err := addrPort(s, 53)
		if err == nil && ap.Addr().Is6() && ap.Addr().IsLinkLocalUnicast() && ap.Addr().Zone() == "" {
			return ap, errors.New("is link-local but names no interface (fe80::1%lan0)")
		}
		return ap, err
	},
}

var dnsUpstream = format[netip.AddrPort]{
	allowed: `ADDRESS:PORT of a resolver, for example "[2001:db8::53]:53"; the port may be left out`,
	parse: func(s string) (netip.AddrPort, error) {
		ap, err := dnsListen.parse(s)
		if err == nil && ap.Addr().IsUnspecified() {
			return ap, errors.New("is the unspecified address")
		}
		return ap, err
	},
}

// excludedPrefix may be made of IPv4-mapped addresses: they are what is
// excluded by default.
var excludedPrefix = format[netip.Prefix]{
	allowed: "an IPv6 prefix, for example ::ffff:0:0/96",
	parse: func(s string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 && p == p.Masked() {
			return p, nil
		}
		return prefix(s, "IPv6")
	},
}

// zoneName is a domain name of letters, digits, hyphens and underscores (RFC
// 1035 section 2.3).
var zoneName = format[string]{
	allowed: `a domain name, for example "home.arpa"`,
	parse: func(s string) (string, error) {
		name := strings.ToLower(strings.TrimSuffix(s, "."))
		switch {
		case name == "":
			return "", errors.New("is empty")
		case len(name) > 253:
			return "", fmt.Errorf("is %d bytes long", len(name))
		}
		for label := range strings.SplitSeq(name, ".") {
			switch {
			case label == "":
				return "", errors.New("has an empty label")
			case len(label) > 63:
				return "", fmt.Errorf("has a label of %d bytes", len(label))
			}
			for _, r := range label {
				if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r) {
					return "", fmt.Errorf("contains %q", r)
				}
			}
		}
		return name, nil
	},
}

var filePath = format[string]{
	allowed: "an absolute path",
	parse: func(s string) (string, error) {
		switch {
		case s == "":
			return "", errors.New("is empty")
		case !filepath.IsAbs(s):
			return "", errors.New("is not an absolute path")
		case strings.ContainsRune(s, 0):
			return "", errors.New("contains a NUL byte")
		case strings.HasSuffix(s, "/"):
			return "", errors.New("is a directory")
		}
		return filepath.Clean(s), nil
	},
}

// autoconfPrefix is a /64: hosts make addresses in no other (RFC 4862 section
// 5.5.3 d, RFC 4291 section 2.5.1).
var autoconfPrefix = format[netip.Prefix]{
	allowed: "a /64 of unicast IPv6, for example 2001:db8:1::/64",
	parse: func(s string) (netip.Prefix, error) {
		p, err := prefix(s, "IPv6")
		switch {
		case err != nil:
			return p, err
		case p.Bits() != 64:
			return p, fmt.Errorf("has length %d: hosts make addresses only in a /64 (RFC 4862)", p.Bits())
		}
		return p, unicast(p.Addr())
	},
}

var gatewayMetrics = format[string]{
	allowed: strings.ReplaceAll(listenAddress.allowed, "9646", "9647"),
	parse:   listenAddress.parse,
}
