package plan_test

import (
	"net/netip"
	"testing"

	"tnat64d/clat/plan"
)

func TestIsPart(t *testing.T) {
	for p, want := range map[string]bool{
		"0.0.0.0/0": false, "0.0.0.0/1": true, "128.0.0.0/1": true, "192.0.0.0/2": true, "96.0.0.0/6": true,
		"10.0.0.0/8": false, "224.0.0.0/4": false, "224.0.0.0/3": false, "240.0.0.0/4": false, "::/1": false,
	} {
		if got := plan.IsPart(netip.MustParsePrefix(p)); got != want {
			t.Errorf("%s: %t", p, got)
		}
	}
}

// TestProbesIn has a global destination in every part of IPv4 that a default route
// can have.
func TestProbesIn(t *testing.T) {
	for bits := 1; bits < plan.MinNetwork; bits++ {
		for first := 0; first < 224; first += 1 << (8 - bits) {
			part := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(first)}), bits)
			in := plan.ProbesIn(part)
			if len(in) == 0 {
				t.Errorf("none in %s", part)
			}
			for _, a := range in {
				if !part.Contains(a) || !plan.UsableIPv4(a) || a.IsPrivate() {
					t.Errorf("%s in %s", a, part)
				}
			}
		}
	}
}
