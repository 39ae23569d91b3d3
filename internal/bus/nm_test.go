package bus

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

func address(s string) map[string]dbus.Variant {
	return map[string]dbus.Variant{"address": dbus.MakeVariant(s), "prefix": dbus.MakeVariant(uint32(32))}
}

func TestCLATOfNetworkManager(t *testing.T) {
	for _, c := range []struct {
		name      string
		addresses []map[string]dbus.Variant
		settings  map[string]any
		active    bool
		why       string
	}{
		{"runs", []map[string]dbus.Variant{address("10.0.0.7"), address("192.0.0.5")}, map[string]any{"clat": int32(1)}, true, "has given it 192.0.0.5"},
		{"native", []map[string]dbus.Variant{address("10.0.0.7"), address("192.0.0.9"), address("x")}, map[string]any{"clat": int32(0)}, false, ""},
		{"may start", nil, map[string]any{"clat": int32(1)}, false, "ipv4.clat=auto"},
		{"forced", nil, map[string]any{"clat": int32(2)}, false, "ipv4.clat=force"},
		{"default", nil, map[string]any{"clat": int32(-1)}, false, ""},
		{"older than 1.58", nil, nil, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := startDaemon(t)
			m := d.serveManager()
			m.set(devicePath, managerName+".Device", "Ip4Config", dbus.ObjectPath(ip4Path))
			m.set(ip4Path, managerName+".IP4Config", "AddressData", c.addresses)
			if c.settings != nil {
				m.serveSettings(c.settings)
			}
			active, why, err := d.open().NMCLAT(ctx(t), linkName)
			if err != nil || active != c.active || !strings.Contains(why, c.why) || c.why == "" && why != "" {
				t.Errorf("NMCLAT = %v, %q, %v", active, why, err)
			}
		})
	}
}

func TestOption108(t *testing.T) {
	lease := func(options map[string]string) map[string]dbus.Variant {
		out := make(map[string]dbus.Variant)
		for k, v := range options {
			out[k] = dbus.MakeVariant(v)
		}
		return out
	}
	for _, c := range []struct {
		name    string
		options map[string]dbus.Variant // nil: no lease
		ask     int32
		clat    int32
		want    Option108
		why     string
	}{
		{"in the lease", lease(map[string]string{"ip_address": "10.0.0.7", "ipv6_only_preferred": "1800"}), 0, 0, Option108{Seen: true, Wait: 30 * time.Minute}, "lease has the option"},
		{"not in the lease", lease(map[string]string{"ip_address": "10.0.0.7"}), 1, 0, Option108{}, "without the option"},
		{"no lease, asks", nil, 1, 0, Option108{Likely: true}, "only its log shows"},
		{"no lease, asks because of its CLAT", nil, 2, 0, Option108{Likely: true}, "only its log shows"},
		{"no lease, default with clat=auto", nil, -1, 1, Option108{Likely: true}, "leaves DHCPv4 off for at least 30 minutes"},
		{"no lease, default without CLAT", nil, -1, 0, Option108{}, "does not request"},
		{"no lease, switched off with clat=auto", nil, 0, 1, Option108{}, "does not request"},
		{"no lease, does not ask", nil, 0, 0, Option108{}, "does not request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := startDaemon(t)
			m := d.serveManager()
			m.set(devicePath, managerName+".Device", "Managed", true)
			if c.options != nil {
				m.set(devicePath, managerName+".Device", "Dhcp4Config", dbus.ObjectPath(dhcpPath))
				m.set(dhcpPath, managerName+".DHCP4Config", "Options", c.options)
			}
			m.serveSettings(map[string]any{"dhcp-ipv6-only-preferred": c.ask, "clat": c.clat})
			got, err := d.open().Option108(ctx(t), linkIndex, linkName)
			if !strings.Contains(got.Why, c.why) {
				t.Errorf("why: %q", got.Why)
			}
			if got.Why = ""; err != nil || got != c.want {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestOption108OfNetworkd(t *testing.T) {
	d := startDaemon(t)
	m := d.serveManager()
	m.set(devicePath, managerName+".Device", "Managed", false) // and networkd does
	var description atomic.Value
	d.serve(networkdName, networkdPath, networkdName+".Manager", map[string]any{
		"DescribeLink": func(int32) (string, *dbus.Error) { return description.Load().(string), nil },
	})
	b := d.open()
	for _, c := range []struct{ json, why string }{
		{`{"AdministrativeState":"configured","DHCPv4Client":{"Lease":{"LeaseTimestampUSec":1}}}`, "does not show the option"},
		{`{"AdministrativeState":"configuring","DHCPv4Client":{"ClientIdentifier":[1]}}`, "only its log shows"},
		{`{"AdministrativeState":"configured"}`, "only its log shows"},
	} {
		description.Store(c.json)
		if o, err := b.Option108(ctx(t), linkIndex, linkName); err != nil || !strings.Contains(o.Why, c.why) || o.Seen {
			t.Errorf("%s: %+v, %v", c.json, o, err)
		}
	}
	for _, bad := range []string{`{"AdministrativeState":"unmanaged"}`, `{`, `[]`, ``} {
		description.Store(bad)
		if o, err := b.Option108(ctx(t), linkIndex, linkName); err == nil {
			t.Errorf("%q: %+v", bad, o)
		}
	}
}
