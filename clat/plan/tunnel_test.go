package plan

import "testing"

func TestTunnel(t *testing.T) {
	wlan := Link{Index: 2, Name: "wlan0", Up: true}
	for _, tt := range []struct {
		name string
		link Link
		want string
	}{
		{"a VPN", Link{Index: 3, Name: "wg0", Kind: "wireguard", Up: true}, "wg0"},
		{"one that is down", Link{Index: 3, Name: "wg0", Kind: "wireguard"}, ""},
		{"a dummy", Link{Index: 3, Name: "dummy0", Kind: "dummy", Up: true}, ""},
		{"our TUN", Link{Index: 3, Name: "clat0", Kind: "tun", Alias: AliasPrefix + "wlan0", Up: true}, ""},
		{"a bridge", Link{Index: 3, Name: "docker0", Kind: "bridge", Up: true}, ""},
	} {
		o := Observed{Links: []Link{wlan, tt.link}}
		o.Memory.CLATs = []Remembered{{TUN: "clat0", TUNIndex: 3}}
		if tt.link.Name != "clat0" {
			o.Memory = Memory{}
		}
		if got := o.Tunnel(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
