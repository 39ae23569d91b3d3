package plan_test

import (
	"slices"
	"testing"

	"tnat64d/clat/plan"
	"tnat64d/clat/plan/plantest"
)

func TestMissingUplinks(t *testing.T) {
	o, _, err := plantest.Parse(`
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
		config plan.Config
		want   []string
	}{
		{plan.Config{}, nil},
		{plan.Config{Uplinks: []string{"wlan0"}}, nil},
		{plan.Config{Uplinks: []string{"wlp3s0"}}, nil},
		{plan.Config{Uplinks: []string{"wlan", "eth0", "usb0"}}, []string{"wlan", "usb0"}},
		{plan.Config{Enable: plan.Never, Uplinks: []string{"usb0"}}, nil},
	} {
		if got := plan.MissingUplinks(o, c.config); !slices.Equal(got, c.want) {
			t.Errorf("%v: missing are %q, want %q", c.config.Uplinks, got, c.want)
		}
	}
	if got, want := plan.PossibleUplinks(o), []string{"wlan0", "eth0"}; !slices.Equal(got, want) {
		t.Errorf("possible are %q, want %q", got, want)
	}
}
