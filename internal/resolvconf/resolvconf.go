// Package resolvconf reads the DNS servers of resolv.conf(5), which are the
// last ones to ask: the file does not say over which link they are reached.
package resolvconf

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"

	"tnat64d/internal/regularfile"
)

const (
	etc = "/etc/resolv.conf"

	maxBytes   = 64 << 10
	maxServers = 16
)

// upstream are files in which a local resolver writes whom it asks itself.
var upstream = []string{
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

// Config is what is of interest of a resolv.conf.
type Config struct {
	Path    string       // where Servers are from
	Servers []netip.Addr // in the file's order, IPv4 too; without Stubs
	Stubs   []netip.Addr // loopback addresses: a resolver on this machine
}

// System reads /etc/resolv.conf. If it names nobody but a resolver on this
// machine, the servers are those that the resolver has written down (as
// systemd-resolved and NetworkManager do), and Stubs are still those of
// /etc/resolv.conf.
func System() (Config, error) { return system(etc, upstream) }

func system(etc string, upstream []string) (Config, error) {
	c, err := Read(etc)
	if err != nil || len(c.Servers) > 0 || len(c.Stubs) == 0 {
		return c, err
	}
	for _, path := range upstream {
		if u, err := Read(path); err == nil && len(u.Servers) > 0 {
			c.Path, c.Servers = u.Path, u.Servers
			break
		}
	}
	return c, nil
}

// Read reads a file. What is not understood is skipped, as resolvers do. Only
// the first 64 KiB and 16 addresses count.
func Read(path string) (Config, error) {
	text, err := regularfile.Read(path, maxBytes)
	if err != nil {
		return Config{}, err
	}
	c := parse(text)
	c.Path = path
	return c, nil
}

// parse returns the addresses of the lines that begin with "nameserver".
func parse(text []byte) (c Config) {
	if len(text) >= maxBytes { // its last line may be half a line
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte("nameserver"))
		if !ok || len(rest) == 0 || rest[0] != ' ' && rest[0] != '\t' {
			continue
		}
		words := bytes.Fields(rest)
		if len(words) == 0 {
			continue
		}
		a, err := address(string(words[0]))
		if err != nil {
			continue
		}
		to := &c.Servers
		if a.IsLoopback() {
			to = &c.Stubs
		}
		if !slices.Contains(*to, a) {
			*to = append(*to, a)
		}
		if len(c.Servers)+len(c.Stubs) == maxServers {
			break
		}
	}
	return c
}

var errNobody = errors.New("not the address of a host")

// address parses the address of a server. Resolvers take the unspecified
// address for this machine.
func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, err
	}
	a = a.Unmap()
	switch {
	case a.IsUnspecified() && a.Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	case a.IsUnspecified():
		return netip.IPv6Loopback(), nil
	case a.IsMulticast():
		return a, errNobody
	}
	return a, nil
}
