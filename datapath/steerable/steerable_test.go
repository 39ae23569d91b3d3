package steerable

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestLinkHeader(t *testing.T) {
	for encap, want := range map[string]struct {
		header bool
		ok     bool
	}{
		"ether":      {true, true},
		"none":       {false, true},
		"unknown519": {false, true}, // raw IP
		"ppp":        {false, true},
		"sit":        {false, true},
		"loopback":   {false, false},
		"infiniband": {false, false},
		"unknown825": {false, false}, // 6LoWPAN
	} {
		header, err := LinkHeader(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "up0", EncapType: encap}})
		if header != want.header || (err == nil) != want.ok {
			t.Errorf("%s: header %v, error %v", encap, header, err)
		}
	}
}

func TestCheckPrefix(t *testing.T) {
	for p, ok := range map[string]bool{
		"2001:db8::1/128": true, "64:ff9b::/96": true, "fe80::1/128": false, "::/0": false,
		"ff02::1/128": false, "::1/128": false, "192.0.2.1/32": false, "::ffff:192.0.2.1/128": false,
	} {
		if err := CheckPrefix(netip.MustParsePrefix(p)); (err == nil) != ok {
			t.Errorf("%s: %v", p, err)
		}
	}
}
