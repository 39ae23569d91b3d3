package plan

import "testing"

func TestHasTunnelBeside(t *testing.T) {
	wlan := Link{Index: 2, Name: "wlan0", Up: true}
	for _, tt := range []struct {
		name     string
		link     Link // beside wlan0
		isTunnel bool // so wlan0 has one beside it
	}{
		{"a VPN", Link{Index: 3, Name: "wg0", Kind: "wireguard", Up: true}, true},
		{"one that is down", Link{Index: 3, Name: "wg0", Kind: "wireguard"}, false},
		{"a modem's TUN", Link{Index: 3, Name: "tun7", Kind: "tun", Up: true}, true},
		{"PPP", Link{Index: 3, Name: "ppp0", Kind: "ppp", Up: true}, false},
		{"a dummy", Link{Index: 3, Name: "dummy0", Kind: "dummy", Up: true}, false},
		{"our TUN", Link{Index: 3, Name: "clat0", Kind: "tun", Alias: AliasPrefix + "wlan0", Up: true}, false},
		{"a bridge", Link{Index: 3, Name: "docker0", Kind: "bridge", Up: true}, false},
	} {
		o := Observed{Links: []Link{wlan, tt.link}}
		if tt.link.Name == "clat0" {
			o.Memory.CLATs = []Remembered{{TUN: "clat0", TUNIndex: 3}}
		}
		if got := o.HasTunnelBeside(wlan.Index, Config{}); got != tt.isTunnel {
			t.Errorf("%s: beside %s %t, want %t", tt.name, wlan.Name, got, tt.isTunnel)
		}
		if o.HasTunnelBeside(tt.link.Index, Config{}) {
			t.Errorf("%s is beside itself", tt.name)
		}
		o.Links = append(o.Links, Link{Index: 9, Name: "wg9", Kind: "wireguard", Up: true})
		if !o.HasTunnelBeside(tt.link.Index, Config{}) {
			t.Errorf("%s: the VPN wg9 is not noticed beside it", tt.name)
		}
		if o.HasTunnelBeside(tt.link.Index, Config{Uplinks: []string{"wlan0", "wg9"}}) {
			t.Errorf("%s: wg9 is an uplink, and taken for a VPN beside it", tt.name)
		}
	}
}
