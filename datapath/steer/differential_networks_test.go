package steer

import (
	"net/netip"

	"tnat64d/siit"
)

func network(v4, pref64 string) siit.Network {
	n := siit.Network{IPv4: netip.MustParsePrefix(v4)}
	if pref64 != "none" {
		n.PREF64 = netip.MustParsePrefix(pref64)
	}
	return n
}

// networkConfigs are CLATs with networks that are behind other prefixes, nested in
// each other, or behind none.
func networkConfigs() (configs []siit.Config) {
	for _, pref64 := range []string{"64:ff9b::/96", "2001:db9:100::/40"} {
		p := netip.MustParsePrefix(pref64)
		list := []siit.Network{
			network("10.0.0.0/8", "2001:dba:c::/96"),
			network("198.51.0.0/16", "2001:dba:d::/48"),
			network("198.51.100.0/25", "none"),
			network("198.51.100.64/26", "2001:dba:c::/96"),
			network("198.51.100.100/32", "2001:dba:e:f00::/56"),
			network("192.168.0.0/16", "2001:dbb::/32"),
			network("198.51.100.128/26", pref64),
			network("172.16.0.0/12", "64:ff9b::/96"),
			network("127.0.0.0/8", "2001:dba:c::/96"),
			network("128.0.0.0/1", "2001:dbc:0:1::/64"),
		}
		pair := neutralPair(p, "2001:db9:1::1:0:0")
		configs = append(configs,
			siit.Config{Mapping: siit.Mapping{PREF64: p, CLAT: pair, Networks: list}, DropWKPPrivate: true},
			siit.Config{Mapping: siit.Mapping{PREF64: p, CLAT: pair, Networks: list, EAM: []siit.EAM{eam("198.51.100.70/32", "2001:db8::70/128"), eam("10.1.0.0/16", "2001:db8:10::/112")}},
				LocalIPv4: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}},
		)
	}
	return configs
}
