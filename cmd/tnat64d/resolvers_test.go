package main

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestNudges: years of interfaces with new names are no reason to forget the
// one in use, or not to believe what is new of it.
func TestNudges(t *testing.T) {
	n := &nudges{resolvers: map[string][]netip.Addr{}}
	needed := func(iface string) bool { return iface == "wlan0" }
	server := netip.MustParseAddr("2001:db8:53::1")
	for i := range 10 * maxNudges {
		server = server.Next()
		for _, name := range []string{"wlan0", fmt.Sprintf("wwx%d", i)} {
			n.set(name, []netip.Addr{server}, needed)
			if got := n.of(name); len(got) != 1 || got[0] != server {
				t.Fatalf("%s, nudge %d: %v, want %v", name, i, got, server)
			}
		}
		if len(n.resolvers) > maxNudges {
			t.Fatalf("%d names are remembered", len(n.resolvers))
		}
	}
	n.set("wlan0", []netip.Addr{}, needed)
	if got := n.of("wlan0"); got != nil {
		t.Errorf("still %v", got)
	}
}
