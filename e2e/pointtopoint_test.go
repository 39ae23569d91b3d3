package e2e

import (
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestPointToPoint has an uplink without neighbours and router advertisements,
// whose PREF64 is known to the resolver of resolv.conf alone. It is a TUN, which
// is an uplink because the configuration names it, and so not a VPN that
// resolv.conf might belong to.
func TestPointToPoint(t *testing.T) {
	t.Parallel()
	const uplink = "wwan7"
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{
			network: lab.Options{NoPREF64: true, DNS: &lab.DNS{NoRDNSS: true}},
			config:  config + "uplinks = [\"" + uplink + "\"]\n",
			prepare: func(l *lab.Lab) error {
				if err := l.AddPointToPoint(uplink, 10); err != nil {
					return err
				}
				return l.SetResolvConf(l.Laptop, "nameserver "+lab.PointToPointRouter.String()+"\n")
			},
		})
		w.moved = true // link-local addresses may be in DAD at first
		u := w.wantState(t, uplink, control.Up)
		if len(u.PREF64) != 1 || u.PREF64[0].Prefix != lab.WellKnownPrefix || u.PREF64[0].Source != "dns" {
			t.Errorf("known are %+v from %v", u.PREF64, u.Resolvers)
		}
		w.firstAnswer(t, "", soon) // UDP
		w.page(t)                  // TCP
		w.datagrams(t)
		w.pings(t, 2)
		wants(t, w.ctl(t, "doctor"), "uplink         "+uplink+" has an IPv6 default route", "nothing to do")
		for _, q := range w.Queries() {
			if q.Name == lab.NameIPv4Only && q.From.Addr() != lab.PointToPointLaptop {
				t.Errorf("asked: %s from %s", q, q.From)
			}
		}
	})
}
