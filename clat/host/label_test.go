package host

import (
	"net/netip"
	"slices"
	"testing"
)

// TestAddressLabel adds, finds and removes labels in the kernel's policy table.
func TestAddressLabel(t *testing.T) {
	k := enterNetns(t)
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for _, add := range []netip.Addr{a, b, a} {
		if err := k.labelAddr(add); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want ...netip.Addr) {
		t.Helper()
		got, err := k.labelled()
		slices.SortFunc(got, netip.Addr.Compare)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("labelled are %v, %v, want %v", got, err, want)
		}
	}
	want(a, b)
	for range 2 {
		if err := k.unlabelAddr(a); err != nil {
			t.Error(err)
		}
	}
	want(b)
	if err := k.DelLabels(); err != nil {
		t.Error(err)
	}
	want()
}
