package dns64

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// script is what lookups return: "NAME TYPE" to a response as scripted reads it.
// What is not in it has no such name.
type script map[string]string

// scripted makes a response of text: words in front of "|" are an RCODE, AD, or
// TIMEOUT; then come records, those after ";" in the authority section and
// those after "+" in the additional one.
func scripted(t testing.TB, text string) (*dns.Msg, error) {
	t.Helper()
	m := new(dns.Msg)
	flags, records, _ := strings.Cut(text, "|")
	for _, f := range strings.Fields(flags) {
		switch f {
		case "TIMEOUT":
			return nil, errors.New("no answer")
		case "AD":
			m.AuthenticatedData = true
		default:
			rcode, ok := dns.StringToRcode[f]
			if !ok {
				t.Fatalf("no RCODE %q", f)
			}
			m.Rcode = rcode
		}
	}
	section := &m.Answer
	for _, line := range strings.FieldsFunc(records, func(r rune) bool { return r == '\n' || r == ',' }) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, ";"); ok {
			section, line = &m.Ns, rest
		} else if rest, ok := strings.CutPrefix(line, "+"); ok {
			section, line = &m.Extra, rest
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		*section = append(*section, rr)
	}
	return m, nil
}

const soaExample = "; example. 300 IN SOA ns.example. root.example. 1 7200 3600 604800 120"

func (s script) lookup(t testing.TB, asked *[]string) Lookup {
	return func(name string, qtype uint16) (*dns.Msg, error) {
		k := dns.CanonicalName(name) + " " + dns.TypeToString[qtype]
		*asked = append(*asked, k)
		text, ok := s[k]
		if !ok {
			text = "NXDOMAIN | " + soaExample
		}
		return scripted(t, text)
	}
}

func mustRules(t testing.TB, prefixes ...string) *Rules {
	t.Helper()
	var ps []netip.Prefix
	for _, p := range prefixes {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	r, err := NewRules(ps, []netip.Prefix{netip.MustParsePrefix("::ffff:0:0/96"), netip.MustParsePrefix("2001:db8:bad::/48")})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// shownAnswer is a reply in one line: RCODE, AD, AA, and each section's records.
func shownAnswer(m *dns.Msg) string {
	out := dns.RcodeToString[m.Rcode]
	if m.AuthenticatedData {
		out += " AD"
	}
	if m.Authoritative {
		out += " AA"
	}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		var lines []string
		for _, rr := range section {
			line := strings.Join(strings.Fields(rr.String()), " ")
			if rr.Header().Rrtype == dns.TypeSOA {
				line = fmt.Sprintf("%s SOA %d", rr.Header().Name, rr.Header().Ttl)
			}
			lines = append(lines, strings.Replace(line, " IN ", " ", 1))
		}
		if len(lines) > 0 {
			out += []string{" | ", " ; ", " + "}[i] + strings.Join(lines, ", ")
		}
	}
	return out
}

func TestRules(t *testing.T) {
	const (
		rev4 = "7.100.51.198.in-addr.arpa."
		rev6 = "7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
		sig  = "RRSIG %s 8 2 300 20300101000000 20200101000000 1 example. AAAA"
	)
	for _, tc := range []struct {
		name     string
		prefixes []string // default 2001:db8:64::/96
		ask      string   // NAME TYPE, and DO, CD, AD
		have     script
		want     string
		outcome  Outcome
		asked    string // default: not looked at
	}{
		// 5.1.1
		{name: "5.1.1 AAAA records are passed on and nobody asks for A", ask: "both.example. AAAA",
			have:    script{"both.example. AAAA": "| both.example. 300 IN AAAA 2001:db8:f::1\n; example. 300 IN NS ns.example.\n+ ns.example. 300 IN AAAA 2001:db8:f::53"},
			want:    "NOERROR | both.example. 300 AAAA 2001:db8:f::1 ; example. 300 NS ns.example. + ns.example. 300 AAAA 2001:db8:f::53",
			outcome: Passed, asked: "both.example. AAAA"},
		// 5.1.2
		{name: "5.1.2 RCODE 3 is passed on and nobody asks for A", ask: "none.example. AAAA",
			have:    script{"none.example. A": "| none.example. 300 IN A 192.0.2.1"},
			want:    "NXDOMAIN ; example. SOA 300",
			outcome: NameError, asked: "none.example. AAAA"},
		{name: "5.1.2 SERVFAIL counts as no AAAA record", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "SERVFAIL |", "x.example. A": "| x.example. 3600 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 600 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.2 NOTIMP counts as no AAAA record", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "NOTIMP |", "x.example. A": "| x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.2 REFUSED counts as no AAAA record, and its records do not either", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "REFUSED | x.example. 60 IN AAAA 2001:db8::1", "x.example. A": "| x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		// 5.1.3
		{name: "5.1.3 a timeout counts as RCODE 2", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "TIMEOUT", "x.example. A": "| x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.3 two timeouts are SERVFAIL", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "TIMEOUT", "x.example. A": "TIMEOUT"},
			want: "SERVFAIL", outcome: Failed},
		// 5.1.4
		{name: "5.1.4 IPv4-mapped AAAA records count as none", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| x.example. 60 IN AAAA ::ffff:192.0.2.9", "x.example. A": "| x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.4 excluded records are left out beside others, and their signature", ask: "x.example. AAAA DO",
			have: script{"x.example. AAAA": "AD | x.example. 60 IN AAAA 2001:db8:bad::1\nx.example. 60 IN AAAA 2001:db8:900d::1\nx.example. 60 IN " + fmt.Sprintf(sig, "AAAA")},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:900d::1", outcome: Excluded},
		{name: "5.1.4 excluded records are never returned", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| x.example. 60 IN AAAA 2001:db8:bad::1", "x.example. A": "| " + soaExample},
			want: "NOERROR", outcome: NoData},
		// 5.1.5
		{name: "5.1.5 the chain is part of the answer", ask: "www.example. AAAA",
			have: script{
				"www.example. AAAA": "| www.example. 300 IN CNAME host.example.\n" + soaExample,
				"www.example. A":    "| www.example. 300 IN CNAME host.example.\nhost.example. 300 IN A 192.0.2.1"},
			want: "NOERROR | www.example. 300 CNAME host.example., host.example. 120 AAAA 2001:db8:64::c000:201", outcome: Synthesized,
			asked: "www.example. AAAA, www.example. A"},
		{name: "5.1.5 a chain that ends in the middle is followed", ask: "www.example. AAAA",
			have: script{
				"www.example. AAAA": "| www.example. 300 IN CNAME a.example.",
				"a.example. AAAA":   "| a.example. 300 IN CNAME b.example.",
				"b.example. AAAA":   "| " + soaExample,
				"www.example. A":    "| www.example. 300 IN CNAME a.example.",
				"a.example. A":      "| a.example. 300 IN CNAME b.example.",
				"b.example. A":      "| b.example. 300 IN A 192.0.2.1"},
			want: "NOERROR | www.example. 300 CNAME a.example., a.example. 300 CNAME b.example., b.example. 120 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.5 a chain to an AAAA record is followed", ask: "www.example. AAAA",
			have: script{"www.example. AAAA": "| www.example. 300 IN CNAME a.example.", "a.example. AAAA": "| a.example. 60 IN AAAA 2001:db8:f::1"},
			want: "NOERROR | www.example. 300 CNAME a.example., a.example. 60 AAAA 2001:db8:f::1", outcome: Passed},
		{name: "5.1.5 DNAME", ask: "x.old.example. AAAA",
			have: script{
				"x.old.example. AAAA": "| old.example. 300 IN DNAME new.example.\nx.old.example. 300 IN CNAME x.new.example.\n" + soaExample,
				"x.old.example. A":    "| old.example. 300 IN DNAME new.example.\nx.old.example. 300 IN CNAME x.new.example.\nx.new.example. 90 IN A 192.0.2.1"},
			want: "NOERROR | old.example. 300 DNAME new.example., x.old.example. 300 CNAME x.new.example., x.new.example. 90 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.5 a loop is SERVFAIL", ask: "a.example. AAAA",
			have: script{
				"a.example. AAAA": "| a.example. 300 IN CNAME b.example.\nb.example. 300 IN CNAME a.example.",
				"a.example. A":    "| a.example. 300 IN CNAME b.example.\nb.example. 300 IN CNAME a.example."},
			want: "SERVFAIL", outcome: Failed},
		{name: "5.1.5 a loop piece by piece is SERVFAIL", ask: "a.example. AAAA",
			have: script{
				"a.example. AAAA": "| a.example. 300 IN CNAME b.example.", "b.example. AAAA": "| b.example. 300 IN CNAME a.example.",
				"a.example. A": "| a.example. 300 IN CNAME b.example.", "b.example. A": "| b.example. 300 IN CNAME a.example."},
			want: "SERVFAIL", outcome: Failed},
		{name: "records that the chain does not lead to are not synthesized from", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "| x.example. 60 IN A 192.0.2.1\nevil.example. 60 IN A 192.0.2.66"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		// 5.1.6
		{name: "5.1.6 an empty answer to A too: the first answer", ask: "txt.example. AAAA",
			have: script{"txt.example. AAAA": "| " + soaExample, "txt.example. A": "|"},
			want: "NOERROR ; example. SOA 300", outcome: NoData},
		{name: "5.1.6 an error after an empty answer", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "REFUSED |"},
			want: "REFUSED", outcome: Failed},
		{name: "5.1.6 an empty answer after an error", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "SERVFAIL |", "x.example. A": "| " + soaExample},
			want: "NOERROR ; example. SOA 300", outcome: NoData},
		{name: "5.1.6 a name error after an empty answer", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| "},
			want: "NXDOMAIN ; example. SOA 300", outcome: NameError},
		// 5.1.7
		{name: "5.1.7 TTL of the A record", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "| x.example. 30 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 30 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.7 TTL of the SOA record", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| ; example. 50 IN SOA ns.example. r.example. 1 1 1 1 120", "x.example. A": "| x.example. 3000 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 50 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.7 MINIMUM of the SOA record", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| ; example. 5000 IN SOA ns.example. r.example. 1 1 1 1 120", "x.example. A": "| x.example. 3000 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 120 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.7 600 seconds without SOA record", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "|", "x.example. A": "| x.example. 3000 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 600 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.1.7 every A record, each prefix", prefixes: []string{"2001:db8:64::/96", "2001:db8:122::/48"}, ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "|", "x.example. A": "| x.example. 60 IN A 192.0.2.1\nx.example. 60 IN A 192.0.2.2"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201, x.example. 60 AAAA 2001:db8:64::c000:202, x.example. 60 AAAA 2001:db8:122:c000:2:100::, x.example. 60 AAAA 2001:db8:122:c000:2:200::", outcome: Synthesized},
		{name: "5.1.7 addresses that no NAT64 reaches", ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "| x.example. 60 IN A 127.0.0.1\nx.example. 60 IN A 0.0.0.0\nx.example. 60 IN A 169.254.1.1\nx.example. 60 IN A 224.0.0.1\nx.example. 60 IN A 255.255.255.255"},
			want: "NOERROR ; example. SOA 300", outcome: NoData},
		{name: "5.1.7 private addresses", prefixes: []string{"64:ff9b::/96"}, ask: "x.example. AAAA",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "| x.example. 60 IN A 10.1.2.3"},
			want: "NOERROR | x.example. 60 AAAA 64:ff9b::a01:203", outcome: Synthesized},
		// 5.3.1
		{name: "5.3.1 PTR is led to in-addr.arpa", ask: rev6 + " PTR",
			have: script{rev4 + " PTR": "| " + rev4 + " 200 IN PTR four.example."},
			want: "NOERROR | " + rev6 + " 200 CNAME " + rev4 + ", " + rev4 + " 200 PTR four.example.", outcome: Reverse, asked: rev4 + " PTR"},
		{name: "5.3.1 PTR in the well-known prefix, though another one is configured", ask: "7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.IP6.arpa. PTR",
			have: script{rev4 + " PTR": "| " + rev4 + " 200 IN PTR four.example."},
			want: "NOERROR | 7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.IP6.arpa. 200 CNAME " + rev4 + ", " + rev4 + " 200 PTR four.example.", outcome: Reverse},
		{name: "5.3.1 no CNAME to a name that is not there", ask: rev6 + " PTR", have: script{},
			want: "NXDOMAIN ; 0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. SOA 600", outcome: NameError},
		{name: "5.3.1 no CNAME to a name without PTR", ask: rev6 + " PTR", have: script{rev4 + " PTR": "|"},
			want: "NOERROR ; 0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. SOA 600", outcome: NoData},
		{name: "5.3.1 PTR behind a classless delegation (RFC 2317)", ask: rev6 + " PTR",
			have: script{rev4 + " PTR": "| " + rev4 + " 200 IN CNAME 7.0-63.100.51.198.in-addr.arpa.\n7.0-63.100.51.198.in-addr.arpa. 100 IN PTR four.example."},
			want: "NOERROR | " + rev6 + " 100 CNAME " + rev4 + ", " + rev4 + " 200 CNAME 7.0-63.100.51.198.in-addr.arpa., 7.0-63.100.51.198.in-addr.arpa. 100 PTR four.example.", outcome: Reverse},
		{name: "5.3.1 PTR of an address outside the prefixes is passed on", ask: strings.Replace(rev6, "4.6.0.0.8.b.d.0", "5.6.0.0.8.b.d.0", 1) + " PTR",
			have: script{strings.Replace(rev6, "4.6.0.0.8.b.d.0", "5.6.0.0.8.b.d.0", 1) + " PTR": "| " + strings.Replace(rev6, "4.6.0.0.8.b.d.0", "5.6.0.0.8.b.d.0", 1) + " 60 IN PTR six.example."},
			want: "NOERROR | " + strings.Replace(rev6, "4.6.0.0.8.b.d.0", "5.6.0.0.8.b.d.0", 1) + " 60 PTR six.example.", outcome: Passed},
		{name: "5.3.1 PTR of an address that stands for nobody", prefixes: []string{"2001:db8:122:344::/64"}, ask: "1.0.0.0.0.0.0.0.3.3.6.c.0.0.0.0.4.4.3.0.2.2.1.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR", have: script{},
			want: "NXDOMAIN ; 4.4.3.0.2.2.1.0.8.b.d.0.1.0.0.2.ip6.arpa. SOA 600", outcome: NameError, asked: ""},
		{name: "5.3.1 PTR of the addresses of ipv4only.arpa", ask: "a.a.0.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR", have: script{},
			want: "NOERROR | a.a.0.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 86400 CNAME 170.0.0.192.in-addr.arpa., 170.0.0.192.in-addr.arpa. 86400 PTR ipv4only.arpa.", outcome: Reverse, asked: ""},
		{name: "5.3.1 a timeout is SERVFAIL", ask: rev6 + " PTR", have: script{rev4 + " PTR": "TIMEOUT"}, want: "SERVFAIL", outcome: Failed},
		// 5.3.2, 5.4
		{name: "5.3.2 and 5.4 authority and additional are those of the last response, unchanged", ask: "x.example. AAAA",
			have: script{
				"x.example. AAAA": "| " + soaExample,
				"x.example. A":    "| x.example. 60 IN A 192.0.2.1\n; example. 60 IN NS ns.example.\n+ ns.example. 60 IN A 192.0.2.53"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201 ; example. 60 NS ns.example. + ns.example. 60 A 192.0.2.53", outcome: Synthesized},
		// 5.3.3
		{name: "5.3.3 A records are passed on", ask: "x.example. A",
			have: script{"x.example. A": "| x.example. 60 IN A 192.0.2.1"}, want: "NOERROR | x.example. 60 A 192.0.2.1", outcome: Passed, asked: "x.example. A"},
		{name: "5.3.3 MX and its additional section are passed on", ask: "x.example. MX",
			have: script{"x.example. MX": "| x.example. 60 IN MX 5 m.example.\n+ m.example. 60 IN A 192.0.2.1"}, want: "NOERROR | x.example. 60 MX 5 m.example. + m.example. 60 A 192.0.2.1", outcome: Passed},
		// 5.5
		{name: "5.5 CD and DO: no synthesis", ask: "x.example. AAAA DO CD",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "| x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR ; example. SOA 300", outcome: NoData, asked: "x.example. AAAA"},
		{name: "5.5 CD and DO: excluded records too", ask: "x.example. AAAA DO CD",
			have: script{"x.example. AAAA": "| x.example. 60 IN AAAA 2001:db8:bad::1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:bad::1", outcome: Passed},
		{name: "5.5 CD without DO: synthesis", ask: "x.example. AAAA CD",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "| x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.5 DO: AD where both responses are validated, signatures over A records go", ask: "x.example. AAAA DO",
			have: script{"x.example. AAAA": "AD | " + soaExample, "x.example. A": "AD | x.example. 60 IN A 192.0.2.1\nx.example. 60 IN " + fmt.Sprintf(sig, "A")},
			want: "NOERROR AD | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.5 DO: no AD where the negative response is not validated", ask: "x.example. AAAA DO",
			have: script{"x.example. AAAA": "| " + soaExample, "x.example. A": "AD | x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "5.5 no DO: never AD on synthetic records", ask: "x.example. AAAA AD",
			have: script{"x.example. AAAA": "AD | " + soaExample, "x.example. A": "AD | x.example. 60 IN A 192.0.2.1"},
			want: "NOERROR | x.example. 60 AAAA 2001:db8:64::c000:201", outcome: Synthesized},
		{name: "AD of a response is passed on to who asks for it (RFC 6840 5.8)", ask: "x.example. A AD",
			have: script{"x.example. A": "AD | x.example. 60 IN A 192.0.2.1"}, want: "NOERROR AD | x.example. 60 A 192.0.2.1", outcome: Passed},
		{name: "AD of a response is kept from others", ask: "x.example. A",
			have: script{"x.example. A": "AD | x.example. 60 IN A 192.0.2.1"}, want: "NOERROR | x.example. 60 A 192.0.2.1", outcome: Passed},
		// RFC 8880, RFC 7050
		{name: "RFC 8880: AAAA of ipv4only.arpa, nobody is asked", prefixes: []string{"2001:db8:64::/96", "64:ff9b::/96"}, ask: "ipv4only.arpa. AAAA", have: script{},
			want: "NOERROR | ipv4only.arpa. 3600 AAAA 2001:db8:64::c000:aa, ipv4only.arpa. 3600 AAAA 2001:db8:64::c000:ab, ipv4only.arpa. 3600 AAAA 64:ff9b::c000:aa, ipv4only.arpa. 3600 AAAA 64:ff9b::c000:ab", outcome: WellKnown, asked: ""},
		{name: "RFC 8880: A of ipv4only.arpa in any case", ask: "IPv4Only.ARPA. A", have: script{},
			want: "NOERROR | IPv4Only.ARPA. 86400 A 192.0.0.170, IPv4Only.ARPA. 86400 A 192.0.0.171", outcome: WellKnown, asked: ""},
		{name: "RFC 8880: other types", ask: "ipv4only.arpa. TXT", have: script{}, want: "NOERROR ; ipv4only.arpa. SOA 3600", outcome: WellKnown, asked: ""},
		{name: "RFC 8880: DS is asked for", ask: "ipv4only.arpa. DS", have: script{"ipv4only.arpa. DS": "| ; arpa. 60 IN SOA a. b. 1 1 1 1 1"}, want: "NOERROR ; arpa. SOA 60", outcome: NoData, asked: "ipv4only.arpa. DS"},
		{name: "RFC 8880: names below", ask: "x.ipv4only.arpa. AAAA", have: script{}, want: "NXDOMAIN ; ipv4only.arpa. SOA 3600", outcome: WellKnown, asked: ""},
		{name: "RFC 8880: PTR of the well-known addresses", ask: "171.0.0.192.in-addr.arpa. PTR", have: script{},
			want: "NOERROR | 171.0.0.192.in-addr.arpa. 86400 PTR ipv4only.arpa.", outcome: WellKnown, asked: ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.prefixes == nil {
				tc.prefixes = []string{"2001:db8:64::/96"}
			}
			words := strings.Fields(tc.ask)
			query := question(words[0], dns.StringToType[words[1]])
			if slices.Contains(words, "DO") {
				query.SetEdns0(1232, true)
			}
			query.CheckingDisabled, query.AuthenticatedData = slices.Contains(words, "CD"), slices.Contains(words, "AD")
			var asked []string
			got, outcome := mustRules(t, tc.prefixes...).Answer(query, tc.have.lookup(t, &asked))
			if s := shownAnswer(got); s != tc.want {
				t.Errorf("got  %s\nwant %s", s, tc.want)
			}
			if outcome != tc.outcome {
				t.Errorf("outcome %v, want %v", outcome, tc.outcome)
			}
			if got.Id != query.Id || !got.Response || !got.RecursionAvailable || len(got.Question) != 1 || got.Question[0] != query.Question[0] {
				t.Errorf("header or question: %v", got)
			}
			if s := strings.Join(asked, ", "); tc.asked != "" && s != tc.asked {
				t.Errorf("asked for %s, want %s", s, tc.asked)
			}
			if tc.outcome == WellKnown && len(asked) > 0 {
				t.Errorf("asked for %v", asked)
			}
		})
	}
}

func TestLongChainsAreBounded(t *testing.T) {
	r := mustRules(t, "64:ff9b::/96")
	for name, piece := range map[string]int{"in one response": 1000, "piece by piece": 1} {
		t.Run(name, func(t *testing.T) {
			lookups := 0
			got, outcome := r.Answer(question("n0.example.", dns.TypeAAAA), func(name string, qtype uint16) (*dns.Msg, error) {
				lookups++
				var n int
				fmt.Sscanf(name, "n%d.example.", &n)
				m := new(dns.Msg)
				for i := n; i < n+piece; i++ {
					m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(fmt.Sprintf("n%d.example.", i), dns.TypeCNAME, 60), Target: fmt.Sprintf("n%d.example.", i+1)})
				}
				return m, nil
			})
			if got.Rcode != dns.RcodeServerFailure || outcome != Failed || lookups > 2*maxLookups {
				t.Errorf("%s, %v after %d lookups", shownAnswer(got), outcome, lookups)
			}
		})
	}
}

func TestPTROfEveryPrefixLength(t *testing.T) {
	v4 := netip.MustParseAddr("198.51.100.7")
	for _, p := range []string{"2001:db8::/32", "2001:db8:100::/40", "2001:db8:122::/48", "2001:db8:122:300::/56", "2001:db8:122:344::/64", "2001:db8:122:344::/96"} {
		r := mustRules(t, p)
		name := reverseName(r.prefixes[0].Embed(v4))
		if a, ok := addressOf(name); !ok || a != r.prefixes[0].Embed(v4) {
			t.Errorf("%s: addressOf(%s) is %v", p, name, a)
		}
		var asked []string
		got, _ := r.Answer(question(name, dns.TypePTR), script{"7.100.51.198.in-addr.arpa. PTR": "| 7.100.51.198.in-addr.arpa. 60 IN PTR four.example."}.lookup(t, &asked))
		if len(got.Answer) != 2 {
			t.Errorf("%s: %s", p, shownAnswer(got))
		}
		got, _ = r.Answer(question(name, dns.TypePTR), script{}.lookup(t, &asked))
		if zone := got.Ns[0].Header().Name; got.Rcode != dns.RcodeNameError || !dns.IsSubDomain(zone, name) || dns.CountLabel(zone) != 2+netip.MustParsePrefix(p).Bits()/4 {
			t.Errorf("%s: negative answer from zone %s", p, zone)
		}
	}
}

func TestAddressOfRefusesOtherNames(t *testing.T) {
	for _, name := range []string{
		"ip6.arpa.", "1.ip6.arpa.", strings.Repeat("0.", 33) + "ip6.arpa.", "g" + strings.Repeat(".0", 31) + ".ip6.arpa.",
		strings.Repeat("00", 31) + "0.ip6.arpa.", "7.100.51.198.in-addr.arpa.", strings.Repeat("0.", 32) + "ip6.arpa.example.",
	} {
		if a, ok := addressOf(name); ok {
			t.Errorf("%s is taken for %v", name, a)
		}
	}
}

// FuzzRules builds a small zone of the input, answers AAAA from it, and compares
// with an oracle that knows the zone as a whole.
func FuzzRules(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, uint8(0))
	f.Add([]byte{3, 3, 3, 3, 3, 3, 3, 3}, uint8(1))
	f.Add([]byte{5, 17, 33, 250, 2, 90, 91, 92}, uint8(7))
	rules := mustRules(f, "2001:db8:64::/96", "2001:db8:122::/48")
	f.Fuzz(func(t *testing.T, data []byte, flags uint8) {
		// Each byte is one name: what it has, or whom it is an alias of.
		n := min(len(data), 16)
		if n == 0 {
			return
		}
		name := func(i int) string { return fmt.Sprintf("n%d.example.", i) }
		soa, _ := dns.NewRR(strings.TrimPrefix(soaExample, "; "))
		whole := flags&1 != 0 // responses have the whole chain
		lookup := func(owner string, qtype uint16) (*dns.Msg, error) {
			m := new(dns.Msg)
			var i int
			if _, err := fmt.Sscanf(owner, "n%d.example.", &i); err != nil {
				t.Fatalf("asked for %s", owner)
			}
			for range 40 {
				switch b := data[i]; b % 6 {
				case 0:
					m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
				case 1:
					m.Ns = []dns.RR{soa}
					if qtype == dns.TypeA {
						m.Ns, m.Answer = nil, append(m.Answer, &dns.A{Hdr: header(name(i), dns.TypeA, uint32(b)), A: []byte{192, 0, 2, b}})
					}
				case 2:
					m.Ns = []dns.RR{soa}
					if qtype == dns.TypeAAAA {
						m.Ns, m.Answer = nil, append(m.Answer, &dns.AAAA{Hdr: header(name(i), dns.TypeAAAA, 60), AAAA: netip.MustParseAddr("2001:db8:f::1").AsSlice()})
					}
				case 3:
					next := int(b/6) % n
					m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(name(i), dns.TypeCNAME, 60), Target: name(next)})
					if i = next; whole {
						continue
					}
				case 4:
					if qtype == dns.TypeAAAA {
						m.Rcode = dns.RcodeServerFailure
					} else {
						m.Answer = append(m.Answer, &dns.A{Hdr: header(name(i), dns.TypeA, 60), A: []byte{198, 51, 100, b}})
					}
				case 5:
					if qtype == dns.TypeAAAA {
						m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(name(i), dns.TypeAAAA, 60), AAAA: netip.MustParseAddr("2001:db8:bad::1").AsSlice()})
					} else {
						m.Ns = []dns.RR{soa}
					}
				}
				return m, nil
			}
			return m, nil
		}
		got, outcome := rules.Answer(question(name(0), dns.TypeAAAA), lookup)
		if _, err := got.Pack(); err != nil {
			t.Fatalf("%v: %v", got, err)
		}
		// The oracle.
		i, steps := 0, 0
		for data[i]%6 == 3 && steps <= n {
			i, steps = int(data[i]/6)%n, steps+1
		}
		var addresses []string
		for _, rr := range got.Answer {
			if aaaa, ok := rr.(*dns.AAAA); ok {
				addresses = append(addresses, netip.AddrFrom16([16]byte(aaaa.AAAA)).String())
			}
		}
		var want []string
		rcode := dns.RcodeSuccess
		switch {
		case steps > n, !whole && steps >= maxLookups:
			rcode = dns.RcodeServerFailure
		case data[i]%6 == 0:
			rcode = dns.RcodeNameError
		case data[i]%6 == 1:
			want = []string{fmt.Sprintf("2001:db8:64::c000:2%02x", data[i]), fmt.Sprintf("2001:db8:122:c000:2:%x00::", data[i])}
		case data[i]%6 == 2:
			want = []string{"2001:db8:f::1"}
		case data[i]%6 == 4:
			want = []string{fmt.Sprintf("2001:db8:64::c633:64%02x", data[i]), fmt.Sprintf("2001:db8:122:c633:64:%x00::", data[i])}
		}
		for k := range want {
			want[k] = netip.MustParseAddr(want[k]).String()
		}
		if !slices.Equal(addresses, want) || got.Rcode != rcode {
			t.Errorf("zone %v, whole chains %v: %v %s, want %v %v", data[:n], whole, outcome, shownAnswer(got), dns.RcodeToString[rcode], want)
		}
	})
}
