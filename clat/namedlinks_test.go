package clat

import (
	"slices"
	"testing"
)

func TestMissingUplinks(t *testing.T) {
	o, _, err := Parse(`
		link 1 lo loopback
		link 2 wlan0 alt wlp3s0
		link 3 wg0 kind wireguard
		link 4 clat0 kind tun ours
		link 5 eth0
		link 6 eth1 port`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{}, nil},
		{Config{Uplinks: []string{"wlan0"}}, nil},
		{Config{Uplinks: []string{"wlp3s0"}}, nil},
		{Config{Uplinks: []string{"wlan", "eth0", "usb0"}}, []string{"wlan", "usb0"}},
		{Config{Enable: Never, Uplinks: []string{"usb0"}}, nil},
	} {
		if got := MissingUplinks(o, c.config); !slices.Equal(got, c.want) {
			t.Errorf("%v: missing are %q, want %q", c.config.Uplinks, got, c.want)
		}
	}
	if got, want := PossibleUplinks(o), []string{"wlan0", "eth0"}; !slices.Equal(got, want) {
		t.Errorf("possible are %q, want %q", got, want)
	}
}
