package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// A quote is translated like the packet it quotes (RFC 7915 sections 4.3 and 5.3).
// So a packet that has crossed the translator and comes back in an ICMP error is
// what it was before it crossed, but for what the header of the other IP version
// does not carry. This holds for every protocol, mapping, kind of error, length of
// the quote and extension.
func TestQuotesComeBack(t *testing.T) {
	behind := func(c siit.Config, pref64 string) siit.Config {
		c.Mapping.PREF64 = netip.MustParsePrefix(pref64)
		return c
	}
	mapped := hostConfig()
	mapped.Mapping.EAM = []siit.EAM{eam("198.51.100.0/28", "2001:db8:cccc::/124")}
	named := hostConfig()
	named.NodeID = true
	configs := []siit.Config{
		hostConfig(), neutralConfig(), mapped, named, routerConfig(),
		behind(hostConfig(), "2001:db8:1:2:3::/64"), behind(hostConfig(), "2001:db8:1:200::/56"), behind(hostConfig(), "2001:db8:1::/48"),
		behind(hostConfig(), "2001:db8:100::/40"), behind(hostConfig(), "3fff::/32"), behind(hostConfig(), "64:ff9b::/96"),
	}
	for i, cfg := range configs {
		r := newRig(t, cfg)
		rnd := rand.New(rand.NewPCG(7915, uint64(i)))
		for range 1000 {
			q := newQuotable(rnd)
			for _, out := range []bool{true, false} {
				if err := q.comesBack(t, r, rnd, out); err != nil {
					t.Fatalf("%v\nout %v, %+v, payload of %d bytes", err, out, cfg.Mapping, len(q.payload))
				}
			}
		}
	}
}

// quotable is a packet between the CLAT's host and a remote one.
type quotable struct {
	ip4
	remote netip.Addr
}

func newQuotable(rnd *rand.Rand) *quotable {
	q := &quotable{remote: netip.AddrFrom4([4]byte{198, 51, byte(rnd.Uint32()), byte(rnd.Uint32())})}
	if rnd.IntN(2) == 0 {
		q.remote = remote4 // in the EAM table
	}
	q.tos, q.ttl, q.id = uint8(rnd.Uint32()), uint8(2+rnd.IntN(254)), uint16(rnd.Uint32())
	q.proto = []uint8{protoTCP, protoUDP, protoICMP, 33, 136, 132, 47, protoESP, 4}[rnd.IntN(9)]
	q.df = rnd.IntN(2) == 0
	n := []int{40, 41, 100, 400, 1180, 1220}[rnd.IntN(6)]
	q.payload = make([]byte, n)
	for i := range q.payload {
		q.payload[i] = byte(rnd.Uint32())
	}
	q.payload[12] = 5 << 4 // TCP's data offset, DCCP's type
	if q.proto == protoUDP {
		binary.BigEndian.PutUint16(q.payload[4:], uint16(n))
	}
	for _, checksum := range []int{6, 16} { // zero is written in two ways
		if b := q.payload[checksum:]; b[0] == b[1] {
			b[0] ^= 1
		}
	}
	if q.proto == protoICMP {
		q.payload = icmp4([]uint8{0, 8}[rnd.IntN(2)], 0, rnd.Uint32(), q.payload[8:])
	} else if rnd.IntN(3) == 0 {
		q.mf, q.df = true, false
		q.payload = q.payload[:n&^7]
		if rnd.IntN(2) == 0 {
			q.offset = 8 * (1 + rnd.IntN(7000))
		}
	}
	return q
}

// missing is how many bytes of the payload an error does not quote, all but 8 at
// most. Of half a checksum nobody can say what it becomes.
func (q *quotable) missing(rnd *rand.Rand) int {
	n := rnd.IntN(len(q.payload) - 7)
	if q.proto == protoTCP && len(q.payload)-n == 17 {
		n--
	}
	return n
}

// comesBack has q cross the translator, from this side or to it, and come back in
// an ICMP error.
func (q *quotable) comesBack(t *testing.T, r *rig, rnd *rand.Rand, out bool) error {
	h := q.ip4
	own := clat4
	if !r.cfg.Mapping.CLAT.IPv4.IsValid() {
		own = netip.MustParseAddr("203.0.113.5")
	}
	h.src, h.dst = own, q.remote
	if out {
		want, sent := h, h
		sent.options = bytes.Repeat([]byte{1}, 4*rnd.IntN(11)) // which are gone for good
		crossed := r.run(t, sent.bytes(), siit.Offload{}).one(t)
		want.ttl--
		if !h.mf && h.offset == 0 { // no Fragment Header has carried these
			want.id, want.df = 0, len(h.bytes()) > 1260
		}
		src, dst := netip.AddrFrom16([16]byte(crossed[24:40])), netip.AddrFrom16([16]byte(crossed[8:24]))
		if rnd.IntN(2) == 0 {
			src = native6
		}
		quote := crossed[:len(crossed)-q.missing(rnd)]
		body, word, typ := quote, uint32(0), uint8(1+rnd.IntN(4))
		switch {
		case typ == 2:
			word = 1400
		case typ == 4:
			word = 6
		case rnd.IntN(2) == 0:
			quote = crossed // padding would count as bytes of a shorter one
			padded, length := extended(quote, 8, extensionStructure(mpls))
			body, word = padded, uint32(length)<<24
		}
		in := ip6{src: src, dst: dst, proto: protoICMPv6, payload: icmp6(src, dst, typ, 0, word, body)}
		if rnd.IntN(3) == 0 {
			in.ext = append(in.ext, options(protoDestOpts, 1+rnd.IntN(3)))
		}
		if rnd.IntN(3) == 0 {
			in.ext = append(in.ext, fragment(rnd.Uint32(), 0, false))
		}
		back := r.run(t, in.bytes(), siit.Offload{}).one(t)
		return sameQuote(back[20:], 4, want.bytes(), 20+len(quote)-len(crossed)+len(h.payload))
	}
	to6 := func(a netip.Addr) netip.Addr {
		for _, e := range r.cfg.Mapping.EAM {
			if e.IPv4.Contains(a) {
				b := e.IPv6.Addr().As16()
				b[15] |= a.As4()[3] & 15
				return netip.AddrFrom16(b)
			}
		}
		if a == r.cfg.Mapping.CLAT.IPv4 {
			return r.cfg.Mapping.CLAT.IPv6
		}
		return embed(r.cfg.Mapping.PREF64, a)
	}
	in := ip6{src: to6(q.remote), dst: to6(own), tc: h.tos, hop: h.ttl, proto: h.proto, payload: h.payload}
	if h.proto == protoICMP {
		in.proto = protoICMPv6
		in.payload = icmp6(in.src, in.dst, 128|h.payload[0]/8^1, 0, binary.BigEndian.Uint32(h.payload[4:]), h.payload[8:])
	}
	want := in
	if rnd.IntN(3) == 0 {
		in.ext = []extension{options(protoHopByHop, 1), routing(0)}
	}
	if h.mf || h.offset > 0 {
		f := fragment(uint32(h.id), h.offset, h.mf)
		in.ext, want.ext = append(in.ext, f), []extension{f}
	}
	crossed := r.run(t, in.bytes(), siit.Offload{}).one(t)
	want.hop--
	quote := crossed[:len(crossed)-q.missing(rnd)]
	kind := [][2]uint8{{3, 0}, {3, 2}, {3, 3}, {3, 4}, {11, 0}, {11, 1}, {12, 0}}[rnd.IntN(7)]
	body, word := quote, uint32(0)
	if len(crossed) <= 255*4 && rnd.IntN(2) == 0 { // or its length has no number
		quote = crossed
		padded, length := extended(quote, 4, extensionStructure(mpls))
		body, word = padded, uint32(length)<<16
	}
	if kind == [2]uint8{3, 4} {
		word |= 1400
	}
	e := ip4{src: own, dst: q.remote, proto: protoICMP, df: rnd.IntN(2) == 0, payload: icmp4(kind[0], kind[1], word, body)}
	if rnd.IntN(3) == 0 {
		e.options = []byte{1, 1, 1, 1}
	}
	back := r.run(t, e.bytes(), siit.Offload{}).one(t)
	whole := want.bytes()
	return sameQuote(back[40:], 6, whole, len(whole)-len(crossed)+len(quote))
}

// sameQuote compares the first n bytes of want with what an ICMP error quotes,
// which may be fewer if it has become as long as it may be.
func sameQuote(icmp []byte, version int, want []byte, n int) error {
	quote, structure, err := splitExtension(icmp, version)
	if err != nil {
		return err
	}
	most := map[int]int{4: 1480 - 20, 6: 1280 - 40}[version]
	if version == 4 && structure != nil {
		most = 576 - 20
	}
	got := quote[:min(n, len(quote))]
	switch {
	case !bytes.Equal(got, want[:len(got)]):
		return fmt.Errorf("quote of %d bytes\n got %x\nwant %x", n, got, want[:len(got)])
	case len(got) < n && len(icmp) < most-7:
		return fmt.Errorf("%d of %d bytes are quoted", len(got), n)
	case len(bytes.Trim(quote[len(got):], "\x00")) > 0:
		return fmt.Errorf("%d bytes, and behind them %x", n, quote[len(got):])
	}
	return nil
}
