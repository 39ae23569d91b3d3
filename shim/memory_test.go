package shim

import (
	"net/netip"
	"testing"
	"time"
)

func TestMemoryIsPerDestinationAndEnds(t *testing.T) {
	var m memory
	now := time.Now()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	m.set(a, true, now)
	if v4, ok := m.get(a, now.Add(9*time.Minute)); !ok || !v4 {
		t.Error("forgotten after 9 minutes")
	}
	if _, ok := m.get(a, now.Add(11*time.Minute)); ok {
		t.Error("remembered after 11 minutes")
	}
	if _, ok := m.get(b, now); ok {
		t.Error("another destination is affected")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m memory
	now := time.Now()
	for i := range 3 * maxRemembered {
		m.set(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), true, now)
	}
	if len(m.of) > maxRemembered {
		t.Errorf("%d entries", len(m.of))
	}
}
