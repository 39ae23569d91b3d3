package bus

import (
	"fmt"
	"net/netip"

	"github.com/godbus/dbus/v5"
)

// resolvedServers returns the servers of a link with standard port.
func resolvedServers(q question, ifindex int) ([]netip.Addr, error) {
	var link dbus.ObjectPath
	err := q.call(resolvedPath, resolvedName+".Manager.GetLink", []any{int32(ifindex)}, &link)
	if is(err, "org.freedesktop.resolve1.NoSuchLink") {
		return nil, fmt.Errorf("%w", ErrNotManaged)
	} else if err != nil {
		return nil, err
	}

	var servers []netip.Addr
	var extended []struct { // a(iayqs)
		Family  int32
		Address []byte
		Port    uint16 // 0: standard
		Name    string // for DNS over TLS; irrelevant
	}
	err = q.property(link, resolvedName+".Link", "DNSEx", &extended)
	if err == nil {
		for _, s := range extended {
			if a, ok := netip.AddrFromSlice(s.Address); ok && (s.Port == 0 || s.Port == 53) {
				servers = append(servers, a)
			}
		}
		return servers, nil
	}
	if !is(err, "org.freedesktop.DBus.Error.UnknownProperty", "org.freedesktop.DBus.Error.InvalidArgs") {
		return nil, err
	}
	var plain []struct { // a(iay): systemd before 246
		Family  int32
		Address []byte
	}
	if err := q.property(link, resolvedName+".Link", "DNS", &plain); err != nil {
		return nil, err
	}
	for _, s := range plain {
		if a, ok := netip.AddrFromSlice(s.Address); ok {
			servers = append(servers, a)
		}
	}
	return servers, nil
}
