package pref64

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		in, want string
		err      string // part of the message
	}{
		// RFC 6052 section 2.2: the six lengths.
		{in: "2001:db8::/32", want: "2001:db8::/32"},
		{in: "2001:db8:100::/40", want: "2001:db8:100::/40"},
		{in: "2001:db8:122::/48", want: "2001:db8:122::/48"},
		{in: "2001:db8:122:300::/56", want: "2001:db8:122:300::/56"},
		{in: "2001:db8:122:344::/64", want: "2001:db8:122:344::/64"},
		{in: "2001:db8:122:344::/96", want: "2001:db8:122:344::/96"},
		{in: "64:ff9b::/96", want: "64:ff9b::/96"},
		{in: "64:ff9b:1:fffe::/96", want: "64:ff9b:1:fffe::/96"},
		{in: "fd00:64::/96", want: "fd00:64::/96"},
		{in: "2001:db8::/33", err: "32, 40, 48, 56, 64 or 96 (RFC 6052 section 2.2)"},
		{in: "2001:db8::/128", err: "32, 40, 48, 56, 64 or 96"},
		{in: "2001:db8::/95", err: `"2001:db8::/95"`},
		{in: "::/0", err: "32, 40, 48, 56, 64 or 96"},

		// RFC 6052 section 2.2: bits 64 to 71 of a /96 are zero, but nothing breaks otherwise.
		{in: "2001:db8:0:0:ff00::/96", want: "2001:db8:0:0:ff00::/96"},

		// Bits beyond the length are cleared.
		{in: "64:ff9b::192.0.2.1/96", want: "64:ff9b::/96"},
		{in: "2001:db8:ffff:ffff:ffff::/32", want: "2001:db8::/32"},

		{in: "192.0.2.0/32", err: "IPv4 prefix"},
		{in: "::ffff:192.0.2.0/96", err: "IPv4-mapped"},
		{in: "::ffff:0:0/64", err: "cannot be translated"},
		{in: "::/96", err: "unspecified"},
		{in: "::1/96", err: "unspecified"},
		{in: "::/32", err: "cannot be translated"},
		{in: "ff02::/96", err: "multicast"},
		{in: "ff0e:db8::/32", err: "multicast"},
		{in: "fe80::/64", err: "link-local"},
		{in: "febf:ffff::/96", err: "link-local"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := Check(netip.MustParsePrefix(c.in))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, error %v; want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if _, err := Check(netip.Prefix{}); err == nil {
		t.Error("the zero prefix was accepted")
	}
}
