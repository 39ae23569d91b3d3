package doctor

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tnat64d/clat/plan"
	"tnat64d/internal/control"
)

// machine is a host with everything in duplicate.
func machine() host {
	pfx := netip.MustParsePrefix
	return host{
		Observed: plan.Observed{
			Links: []plan.Link{
				{Index: 1, Name: "lo", Up: true, Carrier: true, Loopback: true},
				{Index: 2, Name: "eth0", Up: true, Carrier: true, MTU: 9000, MTU6: 1480},
				{Index: 3, Name: "wlan0", Up: true, MTU: 1500},
				{Index: 4, Name: "wg0", Kind: "wireguard", Up: true, Carrier: true, MTU: 1420},
				{Index: 5, Name: "clat0", Kind: "tun", Alias: plan.AliasPrefix + "eth0", Up: true, Carrier: true},
				{Index: 6, Name: "clat", Kind: "tun", Up: true},
				{Index: 7, Name: "veth9", Kind: "veth", BridgePort: true, Up: true},
			},
			Addrs: []plan.Addr{
				{Link: 2, Prefix: pfx("fe80::2/64")},
				{Link: 2, Prefix: pfx("2001:db8:1::2/64")},
				{Link: 2, Prefix: pfx("2001:db8:1::77/64"), Temporary: true},
				{Link: 2, Prefix: pfx("2001:db8:1::dc6/128")},
				{Link: 2, Prefix: pfx("2001:db8:1::c1a7/128"), Deprecated: true, Protocol: plan.Protocol},
				{Link: 2, Prefix: pfx("2001:db8:1::bad/64"), DADFailed: true},
				{Link: 2, Prefix: pfx("2001:db8:2::2/64"), Tentative: true},
				{Link: 6, Prefix: pfx("192.0.0.4/32")},
			},
			Routes: []plan.Route{
				{Link: 4, IPv6: true, Metric: 50, Table: plan.TableMain},
				{Link: 3, IPv6: true, Metric: 600, Table: plan.TableMain, Gateway: netip.MustParseAddr("fe80::3")},
				{Link: 2, IPv6: true, Metric: 100, Table: plan.TableMain, Gateway: router, MTU: 1400},
				{Link: 5, Metric: 2048, Table: plan.TableMain, Protocol: plan.Protocol},
			},
		},
		sysctl: func(_, _, key string) string { return map[string]string{"accept_ra": "1", "forwarding": "0"}[key] },
	}
}

func TestUplink(t *testing.T) {
	h := machine()
	u, err := h.uplink("")
	if err != nil {
		t.Fatal(err)
	}
	want := Uplink{Name: "eth0", Index: 2, Up: true, MTU: 1400, Default: true, Router: router, Tunnels: []string{"wg0"}}
	if diff := cmp.Diff(want, u, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if u, err := h.uplink("wlan0"); err != nil || u.Name != "wlan0" || u.Up || !u.Default {
		t.Errorf("%+v, %v: wlan0 has no carrier", u, err)
	}
	if _, err := h.uplink("eth7"); !errors.Is(err, ErrNoInterface) || err.Error() != `there is no interface "eth7"; there are eth0, wlan0` {
		t.Error(err)
	}

	h.Routes = h.Routes[:1] // only the VPN's: any link with a carrier
	if u, err := h.uplink(""); err != nil || u.Name != "eth0" || u.Default {
		t.Errorf("%+v, %v", u, err)
	}
	h.Routes = []plan.Route{{Link: 3, Metric: 20600, Table: plan.TableMain}}
	if u, err := h.uplink(""); err != nil || u.Name != "wlan0" {
		t.Errorf("%+v, %v: the IPv4 default route leads to wlan0", u, err)
	}
	h.Routes = nil
	for i := range h.Links {
		h.Links[i].Carrier = false
	}
	if u, err := h.uplink(""); err != nil || u.Name != "" {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestNamedTunnel has a tunnel that is an uplink: tnat64d says so, a CLAT on it does,
// or the user. Another tunnel stays one.
func TestNamedTunnel(t *testing.T) {
	for name, by := range map[string]struct {
		user string
		d    Daemon
	}{
		"tnat64d":  {"", Daemon{Status: &control.Status{Uplinks: []control.Uplink{{Name: "wg0", State: control.Waiting}}}}},
		"its TUN":  {"", Daemon{Interfaces: map[string]string{"wg0": "clat0"}}},
		"the user": {"wg0", Daemon{}},
	} {
		h := machine()
		h.Links = append(h.Links, plan.Link{Index: 9, Name: "wg1", Kind: "wireguard", Up: true, Carrier: true})
		h.Routes = append(h.Routes, plan.Route{Link: 9, IPv6: true, Metric: 60, Table: plan.TableMain}, plan.Route{Link: 9, Table: plan.TableMain},
			plan.Route{Link: 4, Table: plan.TableMain})
		h.namedBy(by.user, by.d)
		u, err := h.uplink(by.user)
		if err != nil || u.Name != "wg0" || !u.Default || !slices.Equal(u.Tunnels, []string{"wg1"}) {
			t.Errorf("by %s: %+v, %v, want the uplink wg0 and the tunnel wg1", name, u, err)
		}
		if v := h.ipv4(u, true); v.Tunnel != "wg1" {
			t.Errorf("by %s: %+v, want the tunnel wg1", name, v)
		}
	}
}

func TestUplinkIgnoresAdvertisements(t *testing.T) {
	h := machine()
	for _, c := range []struct {
		acceptRA, forwarding string
		ignores              bool
	}{{"0", "0", true}, {"1", "0", false}, {"1", "1", true}, {"2", "1", false}, {"", "", false}} {
		h.sysctl = func(_, _, key string) string {
			return map[string]string{"accept_ra": c.acceptRA, "forwarding": c.forwarding}[key]
		}
		if u, _ := h.uplink(""); u.Ignores != c.ignores {
			t.Errorf("%+v", c)
		}
	}
}

func TestAddresses(t *testing.T) {
	h := machine()
	got := h.addresses(Uplink{Index: 2})
	want := Addresses{
		Usable:    []netip.Prefix{netip.MustParsePrefix("2001:db8:1::2/64"), netip.MustParsePrefix("2001:db8:1::dc6/128")},
		Formable:  []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/64")},
		Tentative: []netip.Addr{netip.MustParseAddr("2001:db8:2::2")},
		Duplicate: []netip.Addr{netip.MustParseAddr("2001:db8:1::bad")},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestIPv4(t *testing.T) {
	pfx := netip.MustParsePrefix
	eth0, wlan0 := plan.Addr{Link: 2, Prefix: pfx("192.0.2.2/24")}, plan.Addr{Link: 3, Prefix: pfx("198.51.100.2/24")}
	for name, c := range map[string]struct {
		routes []plan.Route
		addrs  []plan.Addr
		only   bool
		want   IPv4
	}{
		"our own CLAT":         {nil, nil, false, IPv4{}},
		"another CLAT":         {[]plan.Route{{Link: 6}}, nil, false, IPv4{}},
		"VPN":                  {[]plan.Route{{Link: 4}}, nil, false, IPv4{Tunnel: "wg0"}},
		"native":               {[]plan.Route{{Link: 2}}, []plan.Addr{eth0}, false, IPv4{Native: "eth0"}},
		"native elsewhere":     {[]plan.Route{{Link: 3}}, []plan.Addr{wlan0}, false, IPv4{Native: "wlan0"}},
		"not asked about":      {[]plan.Route{{Link: 3}}, []plan.Addr{wlan0}, true, IPv4{}},
		"IPv4LL default route": {[]plan.Route{{Link: 2}}, []plan.Addr{{Link: 2, Prefix: pfx("169.254.7.7/16")}}, false, IPv4{}},
		"on both":              {[]plan.Route{{Link: 3}, {Link: 2, Metric: 600}}, []plan.Addr{eth0, wlan0}, false, IPv4{Native: "eth0"}},
		// NetworkManager puts it on the uplink itself.
		"NetworkManager's CLAT": {[]plan.Route{{Link: 2}}, []plan.Addr{{Link: 2, Prefix: pfx("192.0.0.5/32")}}, false, IPv4{}},
		"and native IPv4":       {[]plan.Route{{Link: 2}}, []plan.Addr{{Link: 2, Prefix: pfx("192.0.0.5/32")}, eth0}, false, IPv4{Native: "eth0"}},
	} {
		h := machine()
		h.Routes = append(h.Routes, c.routes...)
		h.Addrs = append(h.Addrs, c.addrs...)
		h.Links[2].Carrier = true
		for _, a := range c.addrs {
			for _, dst := range plan.GlobalIPv4 {
				h.Egress4 = append(h.Egress4, plan.Egress{To: dst, Link: a.Link, Source: a.Prefix.Addr()})
			}
		}
		if got := h.ipv4(Uplink{Name: "eth0", Index: 2}, c.only); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
