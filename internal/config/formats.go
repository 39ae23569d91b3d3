package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"tnat64d/siit"
)

// interfaceName is what the kernel takes as the name of an interface
// (dev_valid_name), without the names that mean something else in sysctl and
// the % that the kernel would fill in.
var interfaceName = format[string]{
	allowed: `an interface name: 1 to 15 bytes without space, "/", ":" or "%"`,
	parse: func(s string) (string, error) {
		switch {
		case s == "":
			return "", errors.New("is empty")
		case len(s) > 15:
			return "", fmt.Errorf("is %d bytes long", len(s))
		case s == "." || s == ".." || s == "all" || s == "default":
			return "", errors.New("cannot be an interface name")
		}
		for _, r := range s {
			if strings.ContainsRune("/:%", r) || unicode.IsSpace(r) || !unicode.IsPrint(r) {
				return "", fmt.Errorf("contains %q", r)
			}
		}
		return s, nil
	},
}

// translationPrefix is a PREF64.
var translationPrefix = format[netip.Prefix]{
	allowed: "an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 (RFC 6052), for example 64:ff9b::/96",
	parse: func(s string) (netip.Prefix, error) {
		p, err := prefix(s, "IPv6")
		if err != nil {
			return p, err
		}
		return p, checkPREF64(p)
	},
}

// prefix parses a prefix of one family whose address has no bits beyond the
// length: such bits are more often a slip than meant.
func prefix(s, family string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		if _, err := address(s, family); err != nil {
			return netip.Prefix{}, err
		}
		return netip.Prefix{}, errors.New("has no prefix length")
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New("is not a prefix")
	}
	if err := isFamily(p.Addr(), family); err != nil {
		return p, err
	}
	if p != p.Masked() {
		return p, fmt.Errorf("has bits beyond its length (did you mean %q?)", p.Masked())
	}
	return p, nil
}

// address parses an address of one family without zone.
func address(s, family string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		if strings.Contains(s, "/") {
			return a, errors.New("is not an address (it takes no prefix length)")
		}
		return a, errors.New("is not an address")
	}
	if a.Zone() != "" {
		return a, errors.New("has a zone")
	}
	return a, isFamily(a, family)
}

func isFamily(a netip.Addr, family string) error {
	is := "IPv6"
	if a.Is4() {
		is = "IPv4"
	}
	if a.Is4In6() {
		return fmt.Errorf("is an IPv4-mapped address, not %s", family)
	}
	if is != family {
		return fmt.Errorf("is %s, not %s", is, family)
	}
	return nil
}

// sharedIPv6 is what clat.ipv6 may be instead of an address.
const sharedIPv6 = "shared"

var clatIPv6 = format[netip.Addr]{
	allowed: `a unicast IPv6 address of the uplink's network, or "shared" for the host's own`,
	parse: func(s string) (netip.Addr, error) {
		a, err := address(s, "IPv6")
		if err != nil {
			return a, err
		}
		return a, unicast(a)
	},
}

var clatIPv4 = format[netip.Addr]{
	allowed: "a unicast IPv4 address, preferably one of 192.0.0.0/29",
	parse: func(s string) (netip.Addr, error) {
		a, err := hostIPv4(s)
		if err == nil && a == siit.DummyIPv4 {
			return a, errors.New("is the IPv4 dummy address, which is only a source of ICMP errors (RFC 7600)")
		}
		return a, err
	},
}

// icmpSource may be the dummy address: it exists for this.
var icmpSource = format[netip.Addr]{
	allowed: "a unicast IPv4 address other than clat.ipv4, preferably one of 192.0.0.0/29",
	parse:   hostIPv4,
}

var (
	thisHost = netip.MustParsePrefix("0.0.0.0/8")
	classE   = netip.MustParsePrefix("240.0.0.0/4")
)

// hostIPv4 parses an IPv4 address that a host may have.
func hostIPv4(s string) (netip.Addr, error) {
	a, err := address(s, "IPv4")
	if err != nil {
		return a, err
	}
	switch a.As4() {
	case [4]byte{192, 0, 0, 170}, [4]byte{192, 0, 0, 171}:
		return a, errors.New("is an address of ipv4only.arpa, which is for discovering PREF64 (RFC 7050)")
	case [4]byte{192, 0, 0, 9}:
		return a, errors.New("is the anycast address of PCP servers (RFC 7723)")
	case [4]byte{192, 0, 0, 10}:
		return a, errors.New("is the anycast address of TURN servers (RFC 8155)")
	}
	if thisHost.Contains(a) || classE.Contains(a) {
		return a, errors.New("is a reserved address")
	}
	return a, unicast(a)
}

// unicast refuses what no host can be reached by from beyond its link.
func unicast(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return errors.New("is the unspecified address")
	case a.IsLoopback():
		return errors.New("is a loopback address")
	case a.IsMulticast():
		return errors.New("is a multicast address")
	case a.IsLinkLocalUnicast():
		return errors.New("is a link-local address")
	}
	return nil
}

// dnsServer is IPv6 only: before there is a CLAT no other can be reached. It
// may be link-local, as many routers announce themselves.
var dnsServer = format[netip.Addr]{
	allowed: "a unicast IPv6 address",
	parse: func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return a, errors.New("is not an address")
		}
		switch err := isFamily(a, "IPv6"); {
		case err != nil:
			return a, err
		case a.IsLinkLocalUnicast():
			return a, nil
		case a.Zone() != "":
			return a, errors.New("has a zone but is not link-local")
		}
		return a, unicast(a)
	},
}

// linkLocal is an address of a link, which another key names.
var linkLocal = format[netip.Addr]{
	allowed: "a link-local IPv6 address, such as \"fe80::64\"",
	parse: func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return a, errors.New("is not an address")
		case a.Zone() != "":
			return a, errors.New("has a zone: the interfaces are those of advertise.interfaces")
		case !a.Is6() || !a.IsLinkLocalUnicast():
			return a, errors.New("is not link-local (fe80::/10)")
		}
		return a, nil
	},
}

// platProbe is an address that the user chooses: pinging somebody who has not
// been asked is impolite (and for those of ipv4only.arpa RFC 8880 forbids it).
var platProbe = format[netip.Addr]{
	allowed: "a unicast IPv4 address whose owner agrees to be pinged",
	parse: func(s string) (netip.Addr, error) {
		a, err := hostIPv4(s)
		if err == nil && continuity.Contains(a) {
			return a, errors.New("is an address of CLATs (RFC 7335)")
		}
		return a, err
	},
}

var continuity = netip.MustParsePrefix("192.0.0.0/29")

var socketPath = format[string]{
	allowed: "an absolute path of up to 107 bytes",
	parse: func(s string) (string, error) {
		const most = 107 // sun_path of unix(7), less its final NUL
		switch {
		case s == "":
			return "", errors.New("is empty")
		case !filepath.IsAbs(s):
			return "", errors.New("is not an absolute path")
		case len(s) > most:
			return "", fmt.Errorf("is %d bytes long", len(s))
		case strings.ContainsRune(s, 0):
			return "", errors.New("contains a NUL byte")
		case strings.HasSuffix(s, "/"):
			return "", errors.New("is a directory")
		}
		return filepath.Clean(s), nil
	},
}

var listenAddress = format[string]{
	allowed: `"127.0.0.1:9646", "[::1]:9646", ":9646" (every address) or any other ADDRESS:PORT; "" is off`,
	parse: func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return "", errors.New("is not host:port")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("has the port %q, which is not between 1 and 65535", port)
		}
		// A name would have to be resolved when the network is just coming up.
		if host != "" && host != "localhost" {
			if _, err := netip.ParseAddr(host); err != nil {
				return "", fmt.Errorf("has the host %q, which is neither an address nor localhost", host)
			}
		}
		return s, nil
	},
}
