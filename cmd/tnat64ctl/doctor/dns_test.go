package doctor

import (
	"net/netip"
	"slices"
	"testing"

	"tnat64d/pref64"
)

func TestUnderstand(t *testing.T) {
	portal := netip.MustParseAddr("2001:db8:1::80")
	for name, c := range map[string]struct {
		answer    pref64.Answer
		kind      AnswerKind
		pref64    []netip.Prefix
		addresses int
	}{
		"DNS64":                   {pref64.Answer{Prefixes: []netip.Prefix{wkp}, Addresses: []netip.Addr{portal}}, DNS64, []netip.Prefix{wkp}, 0},
		"two prefixes":            {pref64.Answer{Prefixes: []netip.Prefix{wkp, nsp}}, DNS64, []netip.Prefix{wkp, nsp}, 0},
		"no such record":          {pref64.Answer{}, Negative, nil, 0},
		"captive portal":          {pref64.Answer{Addresses: []netip.Addr{portal}, Ignored: pref64.NoWellKnown}, Elsewhere, nil, 1},
		"more than are looked at": {pref64.Answer{Addresses: slices.Repeat([]netip.Addr{portal}, 30)}, Elsewhere, nil, maxAddresses},
	} {
		a := understand(c.answer)
		if a.Kind != c.kind || !slices.Equal(a.PREF64, c.pref64) || len(a.Address) != c.addresses {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
