package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
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

// String returns the word of the file.
func (f ShimFallback) String() string { return shimFallbackWords[f] }

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

// String returns the word of the file.
func (m ShimMethod) String() string { return shimMethodWords[m] }

// shimSchema is every key of the shim's file.
var shimSchema = []key{{"shim", within(shimKeys)}}

var shimKeys = []key{
	{"local", func(c *checker, name string, n *node) { list(c, name, n, &c.shim.Local, ipv4Network) }},
	{"fallback", func(c *checker, name string, n *node) {
		text(c, name, n, &c.shim.Fallback, oneOf[ShimFallback](shimFallbackWords))
	}},
	{"method", func(c *checker, name string, n *node) {
		text(c, name, n, &c.shim.Method, oneOf[ShimMethod](shimMethodWords))
	}},
	{"route", (*checker).shimRoutes},
}

var shimRouteKeys = []key{
	{"network", func(c *checker, name string, n *node) { text(c, name, n, &c.shimRoute.Network, ipv4Network) }},
	{"pref64", func(c *checker, name string, n *node) { text(c, name, n, &c.shimRoute.PREF64, prefixOrNone) }},
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

// shimRoutes reads [[shim.route]].
func (c *checker) shimRoutes(name string, n *node) {
	if !c.wants(name, n, listKind, "a list of tables, [["+name+"]]") {
		return
	}
	seen := map[netip.Prefix]bool{}
	for _, item := range n.items {
		if !c.wants(name, item, tableKind, "a table with network and pref64") {
			continue
		}
		c.shimRoute = ShimRoute{}
		before := len(c.problems)
		c.table(name, item, shimRouteKeys)
		network := item.get("network")
		switch {
		case network == nil || item.get("pref64") == nil:
			c.refuse(name, item, "the entry has not both of its keys", "network and pref64")
		case len(c.problems) > before:
		case seen[c.shimRoute.Network]:
			c.refuse(name+".network", network, fmt.Sprintf("%s occurs twice", quote(network.text)), "each network once")
		default:
			seen[c.shimRoute.Network] = true
			c.shim.Routes = append(c.shim.Routes, c.shimRoute)
		}
	}
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
	c := checker{file: name, data: data, given: map[string]*node{}}
	if len(data) > maxSize {
		return Shim{}, &Error{[]Problem{{File: name, What: "the file is too large", Allowed: fmt.Sprintf("up to %d bytes", maxSize)}}}
	}
	if err := toml.Unmarshal(data, new(map[string]any)); err != nil {
		c.syntax(err)
		return Shim{}, c.err()
	}
	root, err := parseTree(data)
	if err != nil {
		return Shim{}, fmt.Errorf("%s: %w", name, err)
	}
	c.table("", root, shimSchema)
	if err := c.err(); err != nil {
		return Shim{}, err
	}
	return c.shim, nil
}
