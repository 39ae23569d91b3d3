package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
)

func TestGatewayStatusShowsDNS64AndAdvertisements(t *testing.T) {
	s := control.Status{Gateway: &control.Gateway{
		Up: true, Outside: []string{"wan0"}, Maps: control.Maps{Size: 10},
		DNS64: &control.DNS64{
			Listen:  []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:1::1]:53")},
			Queries: []control.Queries{{Outcome: "synthesized", Queries: 12}, {Outcome: "rate-limited", Queries: 3}}, Cached: 7,
		},
		Advertise: []control.Advertising{{Interface: "lan0", Sent: 4, Solicitations: 2, Others: 5, Disagreements: 1}},
	}}
	text := gatewayText(s, time.Now())
	for _, want := range []string{
		"DNS64 on [2001:db8:1::1]:53\n", "12 synthesized, 3 rate-limited", "7 responses",
		"router advertisements on lan0\n", "4, and 2 solicitations came", "5 advertisements, 1 of them contradict ours",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	s.Gateway.DNS64, s.Gateway.Advertise = nil, nil
	if text := gatewayText(s, time.Now()); strings.Contains(text, "DNS64") || strings.Contains(text, "advertisements") {
		t.Errorf("parts that are off are shown:\n%s", text)
	}
}

func TestGatewayStatusShowsConntrack(t *testing.T) {
	const warning, headline = "conntrack-nearly-full: ", "NAT64 works, but connection tracking is more than 90 % full;"
	for name, c := range map[string]struct {
		conntrack    *control.Conntrack
		want, absent []string
	}{
		"none":         {nil, nil, []string{"conntrack", headline}},
		"ninety":       {&control.Conntrack{Entries: 90, Max: 100}, []string{"90 of 100 entries\n"}, []string{warning, headline, "dropped"}},
		"above ninety": {&control.Conntrack{Entries: 91, Max: 100}, []string{"91 of 100 entries\n", warning, headline}, nil},
		"full": {&control.Conntrack{Entries: 100, Max: 100, Dropped: 7, EarlyDropped: 3},
			[]string{warning, headline, "dropped 7 packets whose connection it could not track, and evicted 3 connections from the full table"}, nil},
		"was full": {&control.Conntrack{Entries: 1, Max: 100, Dropped: 7}, []string{"dropped 7 packets"}, []string{warning, headline}},
		"no limit": {&control.Conntrack{Entries: 1000}, []string{"1000 entries, no limit"}, []string{warning, headline}},
	} {
		s := control.Status{Gateway: &control.Gateway{Up: true, Outside: []string{"wan0"}, Maps: control.Maps{Size: 10}, Conntrack: c.conntrack}}
		text := gatewayText(s, time.Now())
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, text)
			}
		}
		for _, absent := range c.absent {
			if strings.Contains(text, absent) {
				t.Errorf("%s: %q is in\n%s", name, absent, text)
			}
		}
	}
}
