package main

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tnat64d/internal/control"
	"tnat64d/siit"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// noon is when all golden texts are made.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return noon.Add(-d) }
func after(d time.Duration) *time.Time { t := noon.Add(d); return &t }
func addr(s string) *netip.Addr        { a := netip.MustParseAddr(s); return &a }
func prefix(s string) *netip.Prefix    { p := netip.MustParsePrefix(s); return &p }

// laptop is a daemon at home with the CLAT up on Wi-Fi.
func laptop() control.Status {
	return control.Status{
		Version: "1.2.3", Started: before(3 * time.Hour), Config: "/etc/tnat64/tnat64d.toml", Enable: "auto",
		Uplinks: []control.Uplink{{
			Name: "wlan0", Index: 3, State: control.Up, Since: before(12 * time.Minute), Why: "PREF64 64:ff9b::/96 on wlan0 (ra)",
			PREF64: []control.PREF64{
				{Prefix: *prefix("64:ff9b::/96"), Source: "ra", From: addr("fe80::1"), Expires: after(29 * time.Minute), InUse: true},
			},
			Discovery: "router advertisements",
			CLAT: &control.CLAT{
				TUN: "clat0", IPv4: *addr("192.0.0.1"), IPv6: *addr("2001:db8:1::c1a7"), MTU4: 1480, MTU6: 1500, Metric: 2048,
				Engine: "kernel", Steering: "tcx", Queues: 2, Offloads: "tso4 tso6",
				PLAT: control.PLAT{State: control.PLATAnswering, Since: before(11 * time.Minute)},
			},
			History: []control.Change{
				{Time: before(25 * time.Hour), State: control.Waiting, Why: "no PREF64 is known"},
				{Time: before(12*time.Minute + 2*time.Second), State: control.Starting, Why: "waiting for duplicate address detection"},
				{Time: before(12 * time.Minute), State: control.Up, Why: "PREF64 64:ff9b::/96 on wlan0 (ra)"},
			},
		}},
	}
}

// busy is laptop with all that can be told.
func busy() control.Status {
	s := laptop()
	u := &s.Uplinks[0]
	u.Warnings = []string{"the MTU of wlan0 is 1280: large IPv4 packets are fragmented"}
	u.PREF64 = append(u.PREF64,
		control.PREF64{Prefix: *prefix("2001:db8:64::/96"), Source: "dns", From: addr("2001:db8::53"), Expires: after(58 * time.Minute), Doubted: true},
		control.PREF64{Prefix: *prefix("2001:db8:65::/96"), Source: "static"})
	u.Discovery = "router advertisements; DNS is not asked, because they carry a PREF64"
	u.Resolvers = []netip.Addr{*addr("2001:db8::53"), *addr("2001:db8::54")}
	u.Ignored = []control.Ignored{{Reason: "bad-length", Explanation: "The prefix length code is none of the six.", From: addr("fe80::2"), Count: 7, Last: before(40 * time.Second)}}
	drop := func(r siit.Reason, n uint64) control.Dropped {
		return control.Dropped{Reason: r.String(), Explanation: r.Explanation(), Packets: n}
	}
	u.CLAT.Traffic = []control.Traffic{
		{Direction: "4to6", Engine: "kernel", Protocol: "tcp", Packets: 1200000, Bytes: 1500000000},
		{Direction: "4to6", Engine: "user", Protocol: "tcp", Packets: 34, Bytes: 4000},
		{Direction: "4to6", Engine: "user", Protocol: "udp", Packets: 400000, Bytes: 52000000},
		{Direction: "6to4", Engine: "user", Protocol: "icmp", Packets: 1, Bytes: 84},
	}
	u.CLAT.Drops = []control.Dropped{drop(siit.TTLExceeded, 1234), drop(siit.IGMP, 3)}
	u.CLAT.Decline = []control.Dropped{{Reason: "size", Explanation: "The packet has to be fragmented.", Packets: 400034}}
	u.CLAT.Errors = control.ICMPErrors{Sent: 1200, Limited: 34}
	u.CLAT.IO = control.IOErrors{Read: 1, Write: 20}
	s.Features = []control.Feature{
		{Name: "systemd-resolved", Available: true},
		{Name: "NetworkManager", Why: "there is no system bus"},
	}
	return s
}

// with is laptop after a change to its uplink.
func with(change func(u *control.Uplink)) control.Status {
	s := laptop()
	change(&s.Uplinks[0])
	return s
}

// without is laptop whose uplink is in a state without CLAT.
func without(state control.State, why string) control.Status {
	return with(func(u *control.Uplink) {
		u.State, u.Why, u.CLAT, u.Since = state, why, nil, before(90*time.Second)
		u.History = append(u.History, control.Change{Time: u.Since, State: state, Why: why})
	})
}

var statusCases = []struct {
	name   string
	status control.Status
	says   string // the headline
}{
	{"up", laptop(), "IPv4 works: the CLAT on wlan0 has been up for 12 minutes."},
	{"up-busy", busy(), "IPv4 works: the CLAT on wlan0 has been up for 12 minutes."},
	{"up-silent", with(func(u *control.Uplink) {
		u.CLAT.PLAT = control.PLAT{State: control.PLATSilent, Since: before(20 * time.Second)}
		u.CLAT.Engine, u.CLAT.EngineWhy = "user", "as configured"
		u.CLAT.Steering = "clsact (as configured)"
	}), "IPv4 does not work: the CLAT on wlan0 is up, but the network's NAT64 has not answered for 20 seconds."},
	{"up-unused", with(func(u *control.Uplink) { u.CLAT.PLAT = control.PLAT{State: control.PLATUnknown} }),
		"IPv4 is ready: the CLAT on wlan0 has been up for 12 minutes and has not been used yet."},
	{"up-sent", with(func(u *control.Uplink) {
		u.CLAT.PLAT = control.PLAT{State: control.PLATUnknown}
		u.CLAT.Traffic = []control.Traffic{{Direction: "4to6", Engine: "kernel", Protocol: "udp", Packets: 14, Bytes: 1400}}
	}), "IPv4 is ready: the CLAT on wlan0 has been up for 12 minutes, and no answer has been seen yet."},
	{"up-answered", with(func(u *control.Uplink) {
		u.CLAT.PLAT = control.PLAT{State: control.PLATUnknown}
		u.CLAT.Traffic = []control.Traffic{{Direction: "4to6", Packets: 14}, {Direction: "6to4", Packets: 9}}
	}), "IPv4 works: the CLAT on wlan0 has been up for 12 minutes."},
	{"renumbered", with(func(u *control.Uplink) {
		a := netip.MustParseAddr("2001:db8:2:0:c4b8:e8d2:c7e7:1cd4")
		u.CLAT.NextIPv6 = &a
	}), "IPv4 works: the CLAT on wlan0 has been up for 12 minutes."},
	{"moving", with(func(u *control.Uplink) { u.State = control.Moving }), "IPv4 works: the CLAT on wlan0 has been up for 12 minutes."},
	{"starting", without(control.Starting, "waiting for duplicate address detection"),
		"IPv4 is about to work: the CLAT on wlan0 is starting: waiting for duplicate address detection."},
	{"held", with(func(u *control.Uplink) {
		u.State, u.Since, u.Why, u.PREF64 = control.Held, before(5*time.Second), "wlan0 has no carrier", nil
		u.CLAT.PLAT = control.PLAT{State: control.PLATUnknown}
	}), "IPv4 does not work at the moment: the CLAT on wlan0 waits for the network to come back: wlan0 has no carrier."},
	{"waiting", with(func(u *control.Uplink) {
		u.State, u.Why, u.CLAT, u.PREF64 = control.Waiting, "no PREF64 is known", nil, nil
		u.Discovery = "router advertisements; DNS is asked because they carry no PREF64: 2001:db8::53 says no (again in 42 s)"
	}), "No CLAT on wlan0: no PREF64 is known."},
	{"standby", func() control.Status {
		s, a := without(control.Standby, "native IPv4 on wlan0"), netip.MustParseAddr("2001:db8:1:0:c4b8:e8d2:c7e7:1cd4")
		s.Uplinks[0].StandbyIPv6 = &a
		return s
	}(),
		"No CLAT on wlan0, and none is needed: native IPv4 on wlan0."},
	{"failed", without(control.Failed, "clat0: device or resource busy"),
		"No CLAT on wlan0: starting it failed; retrying: clat0: device or resource busy."},
	{"failed-in-part", with(func(u *control.Uplink) {
		u.State, u.Why = control.Failed, "add IPv4 default route on clat0: no buffer space available"
	}), "IPv4 may not work: a part of the CLAT on wlan0 cannot be restored; retrying: add IPv4 default route on clat0: no buffer space available."},
	{"no-uplink", control.Status{Version: "1.2.3", Started: before(time.Second), Enable: "never", Why: `clat.enable is "never"`},
		`No CLAT: clat.enable is "never".`},
	{"two-uplinks", func() control.Status {
		s := without(control.Waiting, "no PREF64 is known")
		eth := laptop().Uplinks[0]
		eth.Name = "eth0"
		s.Uplinks = append(s.Uplinks, eth)
		return s
	}(), "IPv4 works: the CLAT on eth0 has been up for 12 minutes."},
	{"held-beside-native", func() control.Status {
		s := with(func(u *control.Uplink) { u.State, u.Why = control.Held, "wlan0 has no carrier" })
		eth := without(control.Standby, "native IPv4 on eth0").Uplinks[0]
		eth.Name = "eth0"
		s.Uplinks = append(s.Uplinks, eth)
		return s
	}(), "No CLAT on eth0, and none is needed: native IPv4 on eth0."},
	{"from-the-future", with(func(u *control.Uplink) {
		u.State, u.Why, u.CLAT.PLAT.State, u.PREF64[0].Source = "levitating", "", "shy", "pcp"
	}), "No CLAT on wlan0: levitating."},
}

func TestStatusText(t *testing.T) {
	for _, tt := range statusCases {
		t.Run(tt.name, func(t *testing.T) {
			got := statusText(tt.status, noon)
			if first, _, _ := strings.Cut(got, "\n"); first != tt.says {
				t.Errorf("the headline is %q\nwant            %q", first, tt.says)
			}
			golden(t, tt.name, got)
		})
	}
}

// golden compares with a file of testdata/status.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "status", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s (-want +got; go test -run %s -update writes it):\n%s", file, t.Name(), d)
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "a moment", 999 * time.Millisecond: "a moment", time.Second: "1 second", 119 * time.Second: "119 seconds",
		2 * time.Minute: "2 minutes", 119 * time.Minute: "119 minutes", 47 * time.Hour: "47 hours", 48 * time.Hour: "2 days",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 bytes", 1: "1 byte", 999: "999 bytes", 1000: "1.0 kB", 999949: "999.9 kB", 999950: "1.0 MB", 1 << 63: "9223.4 PB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
