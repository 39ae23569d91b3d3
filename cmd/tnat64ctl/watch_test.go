package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
)

// A day of a laptop, told line by line.
func TestChanges(t *testing.T) {
	var b strings.Builder
	var old *control.Status
	tell := func(what string, s control.Status) {
		fmt.Fprintf(&b, "# %s\n", what)
		for _, l := range changes(old, &s, noon) {
			fmt.Fprintln(&b, l)
		}
		old = &s
	}
	tell("at the beginning", control.Status{Enable: "auto", Why: "there is no IPv6 default route"})
	tell("another reason", control.Status{Enable: "auto", Why: "every IPv6 default route is that of a VPN"})
	s := without(control.Waiting, "no PREF64 is known")
	s.Uplinks[0].PREF64 = nil
	tell("configuration and an uplink", s)
	s = without(control.Starting, "waiting for duplicate address detection")
	tell("a prefix", s)
	tell("up", laptop())
	s = laptop()
	s.Uplinks[0].CLAT.Traffic = []control.Traffic{{Direction: "4to6", Packets: 1}}
	s.Uplinks[0].PREF64[0].Expires = after(time.Hour)
	tell("counters are no news", s)
	tell("the NAT64 dies", with(func(u *control.Uplink) {
		u.CLAT.PLAT = control.PLAT{State: control.PLATSilent, Since: before(time.Minute)}
		u.PREF64[0].Doubted = true
	}))
	s = busy()
	s.Uplinks[0].PREF64[0], s.Uplinks[0].PREF64[2] = s.Uplinks[0].PREF64[2], s.Uplinks[0].PREF64[0]
	s.Uplinks[0].PREF64[0].InUse, s.Uplinks[0].PREF64[2].InUse = true, false
	s.Uplinks[0].CLAT.Engine, s.Uplinks[0].CLAT.EngineWhy = "user", "the kernel engine was refused"
	tell("another prefix, a warning, another engine", s)
	tell("the same once more", s)
	s.Uplinks = append([]control.Uplink{}, s.Uplinks...)
	s.Uplinks[0].State, s.Uplinks[0].PREF64, s.Uplinks[0].CLAT, s.Uplinks[0].Why = control.Standby, nil, nil, "native IPv4 on wlan0"
	tell("native IPv4", s)
	tell("the uplink goes", control.Status{Config: s.Config, Enable: "auto", Why: "there is no IPv6 default route"})
	golden(t, "watch", b.String())
}
