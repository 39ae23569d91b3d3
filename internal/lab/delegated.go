package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DelegatedLink is the laptop's interface towards hosts behind it, on a network of
// kind [Delegated].
const DelegatedLink = "inside0"

// DelegatedPrefix is what such a network delegates to the laptop.
var DelegatedPrefix = netip.MustParsePrefix("2001:db8:f00::/56")

// Lifetimes of what kea leases.
const (
	keaValid     = 4 * time.Minute
	keaPreferred = 2 * time.Minute
)

// runKea starts kea's DHCPv6 server on the router, which leases an address and
// delegates a prefix. The router routes the prefix to the laptop's link-local address,
// as a relay does that reads the server's answers (RFC 8415 section 18.4 and
// RFC 8987).
func (l leases) runKea() error {
	n := l.network
	leased := dhcpv6(n.Link)
	type object = map[string]any
	config, err := json.Marshal(object{"Dhcp6": object{
		"data-directory":     n.lab.Dir,
		"interfaces-config":  object{"interfaces": []string{lan}, "service-sockets-max-retries": 100, "service-sockets-retry-wait-time": 100},
		"lease-database":     object{"type": "memfile", "persist": false},
		"valid-lifetime":     int(keaValid.Seconds()),
		"preferred-lifetime": int(keaPreferred.Seconds()),
		"subnet6": []object{{
			"subnet": n.Link.String(), "interface": lan,
			"pools":    []object{{"pool": netip.PrefixFrom(leased, 128).String()}},
			"pd-pools": []object{{"prefix": DelegatedPrefix.Addr().String(), "prefix-len": DelegatedPrefix.Bits(), "delegated-len": DelegatedPrefix.Bits()}},
		}},
	}})
	if err != nil {
		return fmt.Errorf("kea: %w", err)
	}
	file := filepath.Join(n.lab.Dir, "kea.json")
	return steps(
		func() error { return os.WriteFile(file, config, 0o644) },
		l.behindLaptop,
		func() error {
			return n.Router.background(n.lab.life, "env", "KEA_PIDFILE_DIR="+n.lab.Dir, "KEA_LOCKFILE_DIR=none", "KEA_LOGGER_DESTINATION="+filepath.Join(n.lab.Dir, "kea.log"),
				"kea-dhcp6", "-c", file)
		},
		func() error { return n.RouteToLaptop(DelegatedPrefix) },
	)
}

// behindLaptop makes the laptop's interface towards hosts behind it, if it is not there.
func (l leases) behindLaptop() error {
	laptop := l.network.lab.Laptop
	err := laptop.Netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: DelegatedLink}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make %s: %w", DelegatedLink, err)
	}
	return laptop.up(DelegatedLink)
}

// delegated reports whether the laptop has an address in the prefix that the
// network delegates, or the network delegates none.
func (l leases) delegated() (bool, error) {
	if l.network.options.Kind != Delegated {
		return true, nil
	}
	addrs, err := l.network.lab.Laptop.Addresses(DelegatedLink)
	return slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return DelegatedPrefix.Contains(p.Addr()) }), err
}
