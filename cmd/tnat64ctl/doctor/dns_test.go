package doctor

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// The table of RFC 7050's addresses at all positions (standards.md D-19), and
// what must not be read as a prefix.
func TestPrefixIn(t *testing.T) {
	for text, want := range map[string]string{
		"2001:db8:c000:aa::":             "2001:db8::/32",
		"2001:db8:1c0:0:aa::":            "2001:db8:100::/40",
		"2001:db8:122:c000:0:aa00::":     "2001:db8:122::/48",
		"2001:db8:122:3c0:0:aa::":        "2001:db8:122:300::/56",
		"2001:db8:122:344:c0:0:aa00:0":   "2001:db8:122:344::/64",
		"2001:db8:122:344::c000:aa":      "2001:db8:122:344::/96",
		"64:ff9b::c000:ab":               "64:ff9b::/96",
		"2001:db8:c000:aa::c000:ab":      "2001:db8:c000:aa::/96",
		"2001:db8:1::80":                 "",
		"64:ff9b::c000:ac":               "",
		"::ffff:192.0.0.170":             "", // IPv4-mapped
		"fe80::c000:aa":                  "",
		"2001:db8:122:344:100:0:c000:aa": "2001:db8:122:344:100::/96",
	} {
		got := ""
		if p, ok := prefixIn(netip.MustParseAddr(text)); ok {
			got = p.String()
		}
		if got != want {
			t.Errorf("%s holds %q, want %q", text, got, want)
		}
	}
}

func TestUnderstand(t *testing.T) {
	aaaa := func(addrs ...string) []dnsmessage.Resource {
		var rs []dnsmessage.Resource
		for _, a := range addrs {
			rs = append(rs, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: ipv4only, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(a).As16()},
			})
		}
		return rs
	}
	for name, c := range map[string]struct {
		rcode   dnsmessage.RCode
		answers []dnsmessage.Resource
		kind    AnswerKind
		pref64  []netip.Prefix
	}{
		"DNS64":                   {0, aaaa("64:ff9b::c000:aa", "64:ff9b::c000:ab"), DNS64, []netip.Prefix{wkp}},
		"two prefixes":            {0, aaaa("64:ff9b::c000:aa", "2001:db8:64::c000:ab"), DNS64, []netip.Prefix{wkp, nsp}},
		"one of two is a prefix":  {0, aaaa("2001:db8::1", "64:ff9b::c000:aa"), DNS64, []netip.Prefix{wkp}},
		"no data":                 {0, nil, Negative, nil},
		"no such name":            {dnsmessage.RCodeNameError, nil, Negative, nil},
		"server failure":          {dnsmessage.RCodeServerFailure, nil, Silent, nil},
		"captive portal":          {0, aaaa("2001:db8:1::80"), Elsewhere, nil},
		"prefix and link-local":   {0, aaaa("fe80::c000:aa"), Elsewhere, nil},
		"more than are looked at": {0, aaaa(slices.Repeat([]string{"2001:db8:1::80"}, 30)...), Elsewhere, nil},
	} {
		a := understand(dnsmessage.Message{Header: dnsmessage.Header{RCode: c.rcode}, Answers: c.answers})
		if a.Kind != c.kind || !slices.Equal(a.PREF64, c.pref64) || len(a.Address) > maxAddresses {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestUnpackOnlyOurs(t *testing.T) {
	good := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: true},
		Questions: []dnsmessage.Question{{Name: ipv4only, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}},
	}
	for name, c := range map[string]struct {
		change func(m *dnsmessage.Message)
		ok     bool
	}{
		"ours":          {func(m *dnsmessage.Message) {}, true},
		"mixed case":    {func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("IPv4only.ARPA.") }, true},
		"another id":    {func(m *dnsmessage.Message) { m.ID = 8 }, false},
		"a question":    {func(m *dnsmessage.Message) { m.Response = false }, false},
		"another name":  {func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("example.") }, false},
		"another type":  {func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeA }, false},
		"no question":   {func(m *dnsmessage.Message) { m.Questions = nil }, false},
		"two questions": {func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }, false},
	} {
		m := good
		m.Questions = slices.Clone(good.Questions)
		c.change(&m)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(b, 7); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := unpack([]byte{0, 7, 1}, 7); err == nil {
		t.Error("three bytes are no answer")
	}
}
