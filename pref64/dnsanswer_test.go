package pref64

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// reply makes an answer to a question. The zero value is NODATA without SOA.
type reply struct {
	rcode  dnsmessage.RCode
	cut    bool
	cname  string // where the name leads
	ttl    uint32
	addrs  []netip.Addr
	soa    bool
	soaTTL uint32 // of the SOA record
	soaMin uint32 // in it
}

// from returns the answer to the question q.
func (r reply) from(t testing.TB, q []byte) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: binary.BigEndian.Uint16(q), Response: true,
		RecursionDesired: true, RecursionAvailable: true, RCode: r.rcode, Truncated: r.cut})
	b.EnableCompression()
	must(b.StartQuestions())
	must(b.Question(dnsmessage.Question{Name: ipv4only, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}))
	must(b.StartAnswers())
	name := ipv4only
	if r.cname != "" {
		to := dnsmessage.MustNewName(r.cname)
		must(b.CNAMEResource(dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: r.ttl + 10}, dnsmessage.CNAMEResource{CNAME: to}))
		name = to
	}
	for _, a := range r.addrs {
		must(b.AAAAResource(dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: r.ttl}, dnsmessage.AAAAResource{AAAA: a.As16()}))
	}
	must(b.StartAuthorities())
	if r.soa {
		must(b.SOAResource(dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("arpa."), Class: dnsmessage.ClassINET, TTL: r.soaTTL},
			dnsmessage.SOAResource{NS: dnsmessage.MustNewName("a.root-servers.net."), MBox: dnsmessage.MustNewName("nstld.verisign-grs.com."), MinTTL: r.soaMin}))
	}
	msg, err := b.Finish()
	must(err)
	return msg
}

// dns64 returns the addresses that a DNS64 makes for ipv4only.arpa.
func dns64(prefixes ...netip.Prefix) (addrs []netip.Addr) {
	for _, p := range prefixes {
		addrs = append(addrs, embed(p, wellKnown[0]), embed(p, wellKnown[1]))
	}
	return addrs
}

// edited returns msg after f.
func edited(msg []byte, f func(b []byte)) []byte {
	msg = bytes.Clone(msg)
	f(msg)
	return msg
}

const questionLen = 12 + 15 + 4 // of header and question

// TestQuery compares the bytes on the wire.
func TestQuery(t *testing.T) {
	want := unhex(t, "1234 0100 0001 0000 0000 0000"+"08 697076346f6e6c79 04 61727061 00"+"001c 0001")
	if got := query(0x1234); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if len(want) != questionLen {
		t.Errorf("%d bytes", len(want))
	}
}

func TestParseAnswer(t *testing.T) {
	const id = 0x1234
	q := query(id)
	good := reply{ttl: 600, addrs: dns64(prefixA)}.from(t, q)
	record := good[questionLen:] // two records of 28 bytes, with a compressed name
	many := func(n int, rec []byte) []byte {
		msg := bytes.Clone(good[:questionLen])
		binary.BigEndian.PutUint16(msg[6:], uint16(n))
		return append(msg, bytes.Repeat(rec, n)...)
	}
	with := func(f func(b []byte)) []byte { return edited(good, f) }
	text := append([]byte{0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9, 0, 2}, 1, 'x')

	for _, c := range []struct {
		name   string
		msg    []byte
		want   answer
		reason Reason
	}{
		{"two records", good, answer{prefixes: []netip.Prefix{prefixA}, ttl: 600 * time.Second}, None},
		{"several prefixes", reply{ttl: 1, addrs: dns64(prefixC, prefixA)}.from(t, q),
			answer{prefixes: []netip.Prefix{prefixC, prefixA}, ttl: time.Second}, None},
		{"by way of a CNAME", reply{ttl: 600, addrs: dns64(prefixA), cname: "nat64.example."}.from(t, q),
			answer{prefixes: []netip.Prefix{prefixA}, ttl: 600 * time.Second}, None},
		{"the name in capitals", with(func(b []byte) { copy(b[13:], "IPV4ONLY") }),
			answer{prefixes: []netip.Prefix{prefixA}, ttl: 600 * time.Second}, None},
		{"the shortest TTL", with(func(b []byte) { b[questionLen+9] = 1 }),
			answer{prefixes: []netip.Prefix{prefixA}, ttl: 513 * time.Second}, None},
		{"a TTL with the highest bit", with(func(b []byte) { b[questionLen+6] = 0x80 }),
			answer{prefixes: []netip.Prefix{prefixA}}, None},
		{"a portal", reply{ttl: 5, addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}.from(t, q),
			answer{ttl: 5 * time.Second, ignored: NoWellKnown}, None},
		{"an impossible prefix", reply{ttl: 5, addrs: []netip.Addr{netip.MustParseAddr("::ffff:192.0.0.170")}}.from(t, q),
			answer{ttl: 5 * time.Second, ignored: BadPrefix}, None},

		{"NODATA, TTL in the SOA", reply{soa: true, soaTTL: 3600, soaMin: 900}.from(t, q), answer{negative: true, ttl: 900 * time.Second}, None},
		{"NODATA, TTL of the SOA", reply{soa: true, soaTTL: 60, soaMin: 900}.from(t, q), answer{negative: true, ttl: time.Minute}, None},
		{"NODATA without SOA", reply{}.from(t, q), answer{negative: true}, None},
		{"NXDOMAIN", reply{rcode: dnsmessage.RCodeNameError, soa: true, soaTTL: 60, soaMin: 60}.from(t, q), answer{negative: true, ttl: time.Minute}, None},
		{"NXDOMAIN with addresses", reply{rcode: dnsmessage.RCodeNameError, addrs: dns64(prefixA)}.from(t, q), answer{negative: true}, None},
		{"a CNAME to nothing", reply{cname: "nowhere.example.", soa: true, soaTTL: 60, soaMin: 60}.from(t, q), answer{negative: true, ttl: time.Minute}, None},
		{"addresses of another name", with(func(b []byte) { b[questionLen+1], b[questionLen+29] = 21, 21 }), answer{negative: true}, None},
		{"SERVFAIL", reply{rcode: dnsmessage.RCodeServerFailure}.from(t, q), answer{rcode: dnsmessage.RCodeServerFailure}, None},
		{"cut off", reply{cut: true}.from(t, q), answer{cut: true}, None},
		{"cut off in the middle", with(func(b []byte) { b[2] |= 2 })[:questionLen+5], answer{cut: true}, None},

		{"nothing", nil, answer{}, WrongID},
		{"short", good[:11], answer{}, WrongID},
		{"other id", with(func(b []byte) { b[0]++ }), answer{}, WrongID},
		{"the question itself", q, answer{}, WrongQuestion},
		{"other operation", with(func(b []byte) { b[2] |= 0x10 }), answer{}, WrongQuestion},
		{"no question", append(bytes.Clone(with(func(b []byte) { b[5] = 0 })[:12]), record...), answer{}, WrongQuestion},
		{"two questions", with(func(b []byte) { b[5] = 2 }), answer{}, WrongQuestion},
		{"other name", with(func(b []byte) { b[13] = 'x' }), answer{}, WrongQuestion},
		{"other type", with(func(b []byte) { b[28] = 1 }), answer{}, WrongQuestion},
		{"other class", with(func(b []byte) { b[30] = 3 }), answer{}, WrongQuestion},
		{"a question whose name leads to itself", with(func(b []byte) { b[12], b[13] = 0xc0, 12 }), answer{}, WrongQuestion},
		{"a name that leads to itself", with(func(b []byte) { b[questionLen+1] = questionLen }), answer{}, MalformedAnswer},
		{"names that lead to each other", with(func(b []byte) { b[questionLen+1], b[questionLen+29] = questionLen+28, questionLen }), answer{}, MalformedAnswer},
		{"cut short", good[:len(good)-1], answer{}, MalformedAnswer},
		{"records missing", with(func(b []byte) { b[7] = 9 }), answer{}, MalformedAnswer},
		{"an address of 15 bytes", with(func(b []byte) { b[questionLen+11] = 15 }), answer{}, MalformedAnswer},
		{"an address of 44 bytes", with(func(b []byte) { b[questionLen+11] = 44 }), answer{}, MalformedAnswer},
		{"an SOA cut short", func() []byte {
			b := reply{soa: true, soaTTL: 60, soaMin: 60}.from(t, q)
			return b[:len(b)-1]
		}(), answer{}, MalformedAnswer},

		{"500 addresses", many(500, record[:28]), answer{prefixes: []netip.Prefix{prefixA}, ttl: 600 * time.Second, ignored: TooManyRecords}, None},
		{"as many addresses as are looked at", many(maxAAAA, record[:28]), answer{prefixes: []netip.Prefix{prefixA}, ttl: 600 * time.Second}, None},
		{"1000 other records first", append(many(1000, text), record...), answer{ttl: 1<<63 - 1, ignored: TooManyRecords}, None},
		{"counted wrong", edited(append(many(60, text), record...), func(b []byte) { binary.BigEndian.PutUint16(b[6:], 62) }),
			answer{prefixes: []netip.Prefix{prefixA}, ttl: 600 * time.Second}, None},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.msg)
			got, reason := parseAnswer(c.msg, id)
			if !bytes.Equal(c.msg, before) {
				t.Error("the message was written to")
			}
			if reason != c.reason || !slices.Equal(got.prefixes, c.want.prefixes) {
				t.Fatalf("got %+v, %v; want %+v, %v", got, reason, c.want, c.reason)
			}
			got.prefixes, c.want.prefixes = nil, nil
			if got.cut != c.want.cut || got.rcode != c.want.rcode || got.negative != c.want.negative || got.ttl != c.want.ttl || got.ignored != c.want.ignored {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// FuzzParseAnswer: whatever comes, an answer is one of four things, has few
// prefixes, all of which could be, and its addresses are in the message.
func FuzzParseAnswer(f *testing.F) {
	const id = 0x1234
	q := query(id)
	for _, r := range []reply{
		{ttl: 600, addrs: dns64(prefixA, prefixC)},
		{ttl: 600, addrs: dns64(netip.MustParsePrefix("2001:db8::/32")), cname: "nat64.example."},
		{rcode: dnsmessage.RCodeNameError, soa: true, soaTTL: 60, soaMin: 60},
		{soa: true}, {cut: true}, {rcode: dnsmessage.RCodeRefused},
	} {
		f.Add(r.from(f, q))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		a, reason := parseAnswer(msg, id)
		if !bytes.Equal(msg, before) {
			t.Fatal("the message was written to")
		}
		if reason >= NumReasons || a.ignored >= NumReasons {
			t.Fatalf("reasons %d, %d", reason, a.ignored)
		}
		kinds := 0
		for _, is := range []bool{a.cut, a.rcode != 0, a.negative, len(a.prefixes) > 0, a.ignored != None && len(a.prefixes) == 0} {
			if is {
				kinds++
			}
		}
		if reason != None && kinds != 0 || reason == None && kinds != 1 || a.ttl < 0 {
			t.Fatalf("%+v, %v", a, reason)
		}
		if len(a.prefixes) > maxAAAA || len(a.prefixes)*16 > len(msg) {
			t.Fatalf("%d prefixes in %d bytes", len(a.prefixes), len(msg))
		}
		for _, p := range a.prefixes {
			if c, err := Check(p); err != nil || c != p {
				t.Fatalf("%v: %v", p, err)
			}
			whole := p.Addr().As16()
			if !bytes.Contains(msg, whole[:p.Bits()/8]) {
				t.Fatalf("%v is nowhere in %x", p, msg)
			}
		}
		// Another id is another answer.
		if _, reason := parseAnswer(msg, id+1); len(msg) >= 12 && binary.BigEndian.Uint16(msg) == id && reason != WrongID {
			t.Fatalf("id %#x: %v", id+1, reason)
		}
	})
}
