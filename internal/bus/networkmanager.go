package bus

import (
	"fmt"
	"net/netip"

	"github.com/godbus/dbus/v5"
)

// managerDevice returns NetworkManager's object for an interface and the
// properties that all kinds of devices have.
func managerDevice(q question, ifname string) (dbus.ObjectPath, props, error) {
	var device dbus.ObjectPath
	err := q.call(managerPath, managerName+".GetDeviceByIpIface", []any{ifname}, &device)
	if is(err, managerName+".UnknownDevice") {
		return "", nil, fmt.Errorf("%w", ErrNotManaged)
	} else if err != nil {
		return "", nil, err
	}
	p, err := q.properties(device, managerName+".Device")
	return device, p, err
}

// managerServers returns the IPv6 DNS servers of an interface.
func managerServers(q question, ifname string) ([]netip.Addr, error) {
	_, device, err := managerDevice(q, ifname)
	if err != nil {
		return nil, err
	}
	config := device.object("Ip6Config")
	if config == "" {
		return nil, nil
	}
	p, err := q.properties(config, managerName+".IP6Config")
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	var data []map[string]dbus.Variant
	if p.store("NameserverData", &data) {
		for _, d := range data {
			servers = appendAddress(servers, d)
		}
		return servers, nil
	}
	var plain [][]byte
	if _, there := p["Nameservers"]; there && !p.store("Nameservers", &plain) {
		return nil, fmt.Errorf("cannot decode IP6Config.Nameservers")
	}
	for _, s := range plain {
		if a, ok := netip.AddrFromSlice(s); ok {
			servers = append(servers, a)
		}
	}
	return servers, nil
}

// appendAddress appends the address of a dictionary in which NetworkManager
// describes an address or a server.
func appendAddress(to []netip.Addr, d props) []netip.Addr {
	var s string
	if d.store("address", &s) {
		if a, err := netip.ParseAddr(s); err == nil {
			return append(to, a)
		}
	}
	return to
}

// managerSetting returns an integer of the section "ipv4" in the settings that
// are in force on the device; ok is false if NetworkManager uses its default,
// is too old to know the setting, or does not let us see it.
func managerSetting(q question, device dbus.ObjectPath, name string) (value int, ok bool) {
	var sections map[string]props
	var version uint64
	if q.call(device, managerName+".Device.GetAppliedConnection", []any{uint32(0)}, &sections, &version) != nil {
		return 0, false
	}
	switch v := sections["ipv4"][name].Value().(type) {
	case int32:
		return int(v), v >= 0 // -1: default
	case uint32:
		return int(v), true
	}
	return 0, false
}
