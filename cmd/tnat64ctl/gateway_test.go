package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
)

func TestGatewayStatus(t *testing.T) {
	now := time.Now()
	s := control.Status{Version: "1.2", Started: now.Add(-time.Hour), Config: "/etc/tnat64/gateway.toml", Gateway: &control.Gateway{
		Up: true, TUN: "nat64", Prefix: netip.MustParsePrefix("64:ff9b::/96"), Pool: netip.MustParsePrefix("100.64.0.0/16"), NAT44: "masquerade",
		Inside: []string{"lan0"}, Outside: []string{"wan0"}, MTU6: 1500, MTU4: 1280, Engine: "user", Queues: 2, Offloads: "checksum",
		Maps:    control.Maps{Dynamic: 3, Static: 1, Size: 65533},
		Traffic: []control.Traffic{{Direction: "6to4", Packets: 5, Bytes: 500}, {Direction: "6to4", Packets: 1, Bytes: 10}},
		Drops:   []control.Dropped{{Reason: "not-a-client", Explanation: "Why.", Packets: 7}},
	}}
	text := statusText(s, now)
	for _, want := range []string{
		"NAT64 works: 3 of 65533 hosts and 1 static have an address of the pool.\n", "lan0, MTU 1500", "wan0, MTU 1280",
		"out: 6 packets, 510 bytes", "in: 0 packets", "7 not-a-client: Why.", "tnat64-gateway 1.2, running for",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	full := *s.Gateway
	full.Maps = control.Maps{Dynamic: 61, Size: 61}
	exhausted := control.Status{Gateway: &full}
	if text := gatewayHeadline(exhausted, now); !strings.Contains(text, "the pool is exhausted") {
		t.Error(text)
	}
	if lines := changes(&s, &exhausted, now); len(lines) != 1 || !strings.Contains(lines[0], "exhausted") {
		t.Errorf("%q", lines)
	}
	if lines := changes(&s, &s, now); len(lines) != 0 {
		t.Errorf("nothing has changed, and watch prints %q", lines)
	}
	if text := statusText(control.Status{Gateway: &control.Gateway{}}, now); text != "NAT64 is not up yet.\n" {
		t.Error(text)
	}
}
