package e2e

import (
	"net/netip"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestVPN starts a VPN whose endpoint is an IPv4 address: it goes through the
// CLAT, which does not take the VPN's default route for native IPv4, and goes
// on when the network below changes.
func TestVPN(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	was, index := w.clat, w.index(t, w.clat.TUN)
	curl := func(addr netip.Addr) netip.Addr { return w.whoamiAt(t, addr) }
	for _, c := range []struct {
		name   string
		routes lab.VPNRoutes
		full   bool // all of IPv4 goes into the tunnel
		server bool // also to the address that is the endpoint
	}{
		{"split routes", lab.VPNSplit, false, false},
		{"a default route", lab.VPNDefault, true, false},
		{"two halves", lab.VPNHalves, true, false},
		{"a rule", lab.VPNPolicy, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := w.StartVPN(c.routes)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			inside := func(when string) {
				t.Helper()
				if you := curl(lab.VPNServer); you != lab.VPNLaptop {
					t.Errorf("%s the VPN's server sees %s", when, you)
				}
				if !c.full {
					return
				}
				if you := curl(lab.VPNBeyond); you != lab.VPNLaptop {
					t.Errorf("%s a server beyond the VPN sees %s", when, you)
				}
			}
			inside("at first")
			if you := curl(lab.ServerIPv4); (you == lab.VPNLaptop) != c.server || !c.server && !lab.Pool.Contains(you) {
				t.Errorf("the server sees %s", you)
			}
			time.Sleep(200 * time.Millisecond)
			if u := w.wantState(t, lab.Uplink, control.Up); u.CLAT == nil || u.CLAT.TUN != was.TUN {
				t.Errorf("CLAT is %+v", u.CLAT)
			}
			if c.routes == lab.VPNDefault {
				// The network below changes.
				if err := w.SetPREF64(netip.MustParsePrefix("3fff:64:9::/96")); err != nil {
					t.Fatal(err)
				}
				w.wantPREF64(t, netip.MustParsePrefix("3fff:64:9::/96"))
				inside("with another PREF64")
				usable, err := w.Flap(t.Context(), 100*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				w.firstAnswer(t, "", soon)
				t.Logf("after a flap the VPN's endpoint is reached after %v", time.Since(usable).Round(time.Millisecond))
				inside("after a flap")
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			w.wantSame(t, was, index)
			w.page(t)
		})
	}
}
