package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// ShimDefaultPath is the file of `tnat64 COMMAND` where a user has none.
const ShimDefaultPath = "/etc/tnat64/tnat64.toml"

// Shim is the configuration of `tnat64 COMMAND`. Its zero value is that of an
// empty file.
type Shim struct {
	// Local are IPv4 networks that are never translated, masked (key local).
	Local []netip.Prefix
	// Fallback says when IPv4 is used in the place of NAT64.
	Fallback ShimFallback
	// Method says how the program is taken to NAT64.
	Method ShimMethod
	// Routes are the prefixes by network, masked.
	Routes []ShimRoute
}

// ShimRoute is one [[shim.route]].
type ShimRoute struct {
	Network netip.Prefix // IPv4
	PREF64  netip.Prefix // the zero Prefix: "none", the network is unreachable
}

// ShimFallback says when IPv4 is used in the place of NAT64.
type ShimFallback uint8

const (
	// ShimFallbackAuto: where IPv4 has a route, or IPv6 has none.
	ShimFallbackAuto ShimFallback = iota
	// ShimFallbackNever: not at all.
	ShimFallbackNever
	// ShimFallbackFirst: IPv4 is tried before NAT64.
	ShimFallbackFirst
)

var shimFallbackWords = []string{"auto", "never", "first"}

// ShimMethod says how a program is taken to NAT64.
type ShimMethod uint8

const (
	// ShimMethodAuto: the best that the kernel allows.
	ShimMethodAuto ShimMethod = iota
	// ShimMethodSockets: sockets are replaced one by one.
	ShimMethodSockets
	// ShimMethodNamespace: the program runs in a network namespace.
	ShimMethodNamespace
)

var shimMethodWords = []string{"auto", "sockets", "namespace"}

// shimKeys are the keys of the table [shim], which is all that the shim's file has.
func shimKeys(s *Shim) []key {
	seen := map[netip.Prefix]bool{}
	once := func(c *checker, name string, n *node, r ShimRoute) bool {
		if at := n.get("network"); seen[r.Network] {
			c.refuse(name+".network", at, fmt.Sprintf("%s occurs twice", quote(at.text)), "each network once")
			return false
		}
		seen[r.Network] = true
		return true
	}
	return []key{
		list("local", &s.Local, ipv4Network),
		text("fallback", &s.Fallback, oneOf[ShimFallback](shimFallbackWords)),
		text("method", &s.Method, oneOf[ShimMethod](shimMethodWords)),
		entries("route", &s.Routes, new([]*node), shimRouteKeys, once),
	}
}

func shimRouteKeys(r *ShimRoute) []key {
	return []key{text("network", &r.Network, ipv4Network), text("pref64", &r.PREF64, prefixOrNone)}
}

// ipv4Network is an IPv4 prefix, or an address, which stands for itself.
var ipv4Network = format[netip.Prefix]{
	allowed: `an IPv4 prefix or address, for example "192.168.0.0/16"`,
	parse:   func(s string) (netip.Prefix, error) { return prefixOrAddress(s, "IPv4") },
}

// prefixOrNone is a PREF64, or the word none.
var prefixOrNone = format[netip.Prefix]{
	allowed: translationPrefix.allowed + `, or "none"`,
	parse: func(s string) (netip.Prefix, error) {
		if s == "none" {
			return netip.Prefix{}, nil
		}
		return translationPrefix.parse(s)
	},
}

// ShimPath returns the file that LoadShim reads when none is named: the user's
// if there is one, else [ShimDefaultPath].
func ShimPath() string {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if home := os.Getenv("HOME"); !filepath.IsAbs(dir) && home != "" {
		dir = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(dir) {
		path := filepath.Join(dir, "tnat64", "tnat64.toml")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ShimDefaultPath
}

// LoadShim reads a configuration file of `tnat64 COMMAND`. The empty path means
// [ShimPath], which may be absent. A mistake in the file is an *[Error].
func LoadShim(path string) (Shim, error) {
	named := path != ""
	if !named {
		path = ShimPath()
	}
	data, err := read(path)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return Shim{}, nil
	}
	if err != nil {
		return Shim{}, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return ParseShim(path, data)
}

// ParseShim reads the content of a configuration file of `tnat64 COMMAND`; name
// is for messages. The error is that of [LoadShim].
func ParseShim(name string, data []byte) (Shim, error) {
	var s Shim
	if err := new(checker).read(name, data, []key{table("shim", shimKeys(&s))}); err != nil {
		return Shim{}, err
	}
	return s, nil
}
