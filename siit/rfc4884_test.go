package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tnat64d/siit"
)

// ICMP extensions (RFC 4884).

// object is an ICMP extension object.
func object(class, ctype uint8, body []byte) []byte {
	b := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint16(b, uint16(4+len(body)))
	b[2], b[3] = class, ctype
	return append(b, body...)
}

// mpls is the object that traceroute meets most often (RFC 4950).
var mpls = object(1, 1, []byte{0x12, 0x34, 0x51, 0x40})

// extensions is an ICMP extension structure of these objects.
func extensionStructure(objects ...[]byte) []byte {
	b := append([]byte{0x20, 0, 0, 0}, bytes.Join(objects, nil)...)
	binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, 0))
	return b
}

// extended pads quote for RFC 4884 and appends the structure; the length is in
// units of unit bytes.
func extended(quote []byte, unit int, structure []byte) (body []byte, length int) {
	n := max(128, (len(quote)+unit-1)/unit*unit)
	body = make([]byte, n, n+len(structure))
	copy(body, quote)
	return append(body, structure...), n / unit
}

// split takes an ICMP error of either version apart into original datagram
// and extension structure, and checks that it keeps to RFC 4884.
func splitExtension(icmp []byte, version int) (quote, structure []byte, err error) {
	length := int(icmp[5]) * 4
	mayExtend := icmp[0] == 3 || icmp[0] == 11
	if version == 6 {
		length = int(icmp[4]) * 8
		mayExtend = icmp[0] == 1 || icmp[0] == 3
	} else if icmp[0] == 12 {
		mayExtend = true
	}
	body := icmp[8:]
	if !mayExtend || length == 0 {
		return body, nil, nil
	}
	if length < 128 || length > len(body) {
		return nil, nil, fmt.Errorf("length %d of a body of %d", length, len(body))
	}
	quote, structure = body[:length], body[length:]
	if len(structure) < 4 || structure[0]>>4 != 2 {
		return nil, nil, fmt.Errorf("extension header %x", structure)
	}
	if binary.BigEndian.Uint16(structure[2:]) != 0 && checksum.Checksum(structure, 0) != 0xffff {
		return nil, nil, fmt.Errorf("extension checksum is wrong: %x", structure)
	}
	for rest := structure[4:]; len(rest) > 0; {
		if len(rest) < 4 || int(binary.BigEndian.Uint16(rest)) < 4 || int(binary.BigEndian.Uint16(rest)) > len(rest) {
			return nil, nil, fmt.Errorf("extension object %x", rest)
		}
		rest = rest[binary.BigEndian.Uint16(rest):]
	}
	return quote, structure, nil
}

func TestExtensions4to6(t *testing.T) {
	r := newRig(t, hostConfig())
	structure := extensionStructure(mpls)
	for _, typ := range []uint8{3, 11} {
		for _, payload := range []int{8, 60, 79, 80, 99, 100, 101, 108, 109, 200, 400, 520} {
			t.Run(fmt.Sprintf("type %d payload %d", typ, payload), func(t *testing.T) {
				body, length := extended(received4(payload), 4, structure)
				out := r.run(t, error4(typ, 0, uint32(length)<<16, body), siit.Offload{}).one(t)
				quote, got, err := splitExtension(out[40:], 6)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, structure) {
					t.Errorf("extension %x, want %x", got, structure)
				}
				// Padding that came in may be passed on or not.
				least := max(128, (48+payload+7)&^7)
				if len(quote) < least || len(quote) > (20+len(body)-len(structure)+7)&^7 {
					t.Errorf("original datagram of %d bytes, want %d", len(quote), least)
				}
				if n := 48 + payload; len(bytes.Trim(quote[n:], "\x00")) > 0 {
					t.Errorf("not padded with zeros: %x", quote[n:])
				}
			})
		}
	}
	t.Run("cut off", func(t *testing.T) {
		body, length := extended(received4(20), 4, structure)
		for _, c := range []struct{ typ, code uint8 }{{3, 4}, {3, 2}, {12, 0}} {
			word := uint32(length) << 16
			if c.code == 4 {
				word |= 1400
			}
			out := r.run(t, error4(c.typ, c.code, word, body), siit.Offload{}).one(t)
			if bytes.Contains(out, structure[4:]) {
				t.Errorf("ICMPv4 %d/%d: the extension is still there: %x", c.typ, c.code, out)
			}
			if got, want := binary.BigEndian.Uint32(out[44:]), map[[2]uint8]uint32{{3, 4}: 1420, {3, 2}: 6}[[2]uint8{c.typ, c.code}]; got != want {
				t.Errorf("ICMPv4 %d/%d: second word %#x, want %#x", c.typ, c.code, got, want)
			}
		}
	})
	t.Run("too long", func(t *testing.T) {
		for _, objects := range []int{10, 40, 60, 100, 150} {
			for _, payload := range []int{20, 400, 700, 960} {
				long := extensionStructure(bytes.Repeat(mpls, objects))
				body, length := extended(received4(payload), 4, long)
				in := ip4{proto: protoICMP, df: true, payload: icmp4(11, 0, uint32(length)<<16, body)}.bytes()
				if len(in) > 1480 {
					continue
				}
				out := r.run(t, in, siit.Offload{}).one(t)
				if _, _, err := splitExtension(out[40:], 6); err != nil || len(out) > 1280 {
					t.Errorf("%d objects, payload %d: %d bytes, %v", objects, payload, len(out), err)
				}
			}
		}
	})
}

// TestBadExtensionLengths: whatever the length byte says, what comes out is
// an ICMP error whose length byte is right and whose quoted packet is still
// one that a host can find its socket by, or nothing.
func TestBadExtensionLengths(t *testing.T) {
	r := newRig(t, hostConfig())
	nodeID := hostConfig()
	nodeID.NodeID = true
	rn := newRig(t, nodeID)
	var length, payload int
	var structure []byte
	check := func(r *rig, in []byte, version, at, unit, ports int) {
		t.Helper()
		o := r.run(t, in, siit.Offload{})
		if o.verdict != siit.Translated {
			o.dropped(t, siit.ICMPErrorMalformed)
			return
		}
		out := o.one(t)
		n := unit * int(out[at+5])
		if version == 6 {
			n = unit * int(out[at+4])
		}
		switch {
		case n != 0 && (n < 128 || n > len(out)-at-8):
			t.Fatalf("length %d, payload %d, structure %x: came out with length %d of %d", length, payload, structure, n, len(out)-at-8)
		case binary.BigEndian.Uint32(out[at+8+ports:]) == 0:
			t.Fatalf("length %d, payload %d, structure %x: the quoted ports are lost: %x", length, payload, structure, out)
		case n != 0 && len(structure) > 4 && bytes.HasSuffix(in, structure):
			if _, _, err := splitExtension(out[at:], version); err != nil {
				t.Logf("length %d, payload %d: %v", length, payload, err)
			}
		}
	}
	for length = range 256 {
		for _, payload = range []int{0, 20, 100, 300} {
			for _, structure = range [][]byte{nil, {0x20}, {0x20, 0, 0, 0}, {0x10, 0, 0xef, 0xff}, extensionStructure(mpls)} {
				body4, _ := extended(received4(payload), 4, structure)
				body6, _ := extended(sent6(payload), 8, structure)
				check(r, error4(11, 0, uint32(length)<<16, body4), 6, 40, 8, 40)
				check(r, error4(11, 0, uint32(length)<<16, received4(payload)), 6, 40, 8, 40)
				check(r, error6(remote6, 3, 0, uint32(length)<<24, body6), 4, 20, 4, 20)
				check(r, error6(remote6, 3, 0, uint32(length)<<24, sent6(payload)), 4, 20, 4, 20)
				check(rn, error6(native6, 3, 0, uint32(length)<<24, body6), 4, 20, 4, 20)
			}
		}
	}
}

func TestExtensions6to4(t *testing.T) {
	r := newRig(t, hostConfig())
	structure := extensionStructure(mpls)
	for _, typ := range []uint8{1, 3} {
		for _, payload := range []int{8, 60, 80, 99, 100, 101, 120, 200, 400, 900, 1000} {
			t.Run(fmt.Sprintf("type %d payload %d", typ, payload), func(t *testing.T) {
				body, length := extended(sent6(payload), 8, structure)
				out := r.run(t, error6(remote6, typ, 0, uint32(length)<<24, body), siit.Offload{}).one(t)
				quote, got, err := splitExtension(out[20:], 4)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, structure) {
					t.Errorf("extension %x, want %x", got, structure)
				}
				if n := 28 + payload; len(quote) >= n && len(bytes.Trim(quote[n:], "\x00")) > 0 {
					t.Errorf("not padded with zeros: %x", quote[n:])
				}
			})
		}
	}
}

func TestNodeID(t *testing.T) {
	cfg := hostConfig()
	cfg.NodeID = true
	r := newRig(t, cfg)
	node := object(5, 4, append([]byte{0, 2, 0, 0}, native6.AsSlice()...))
	for _, payload := range []int{8, 60, 100, 300, 480, 500, 504, 508, 520, 532, 600, 1100} {
		for _, before := range [][]byte{nil, mpls, bytes.Repeat(mpls, 20)} {
			t.Run(fmt.Sprintf("payload %d objects %d", payload, len(before)/8), func(t *testing.T) {
				body, word := sent6(payload), uint32(0)
				if before != nil {
					padded, length := extended(body, 8, extensionStructure(before))
					body, word = padded, uint32(length)<<24
				}
				if 48+len(body) > 1280 {
					t.Skip("no ICMPv6 error is that long")
				}
				out := r.run(t, error6(native6, 3, 0, word, body), siit.Offload{}).one(t)
				if len(out) > 576 {
					t.Errorf("%d bytes", len(out))
				}
				if p := mustParse(t, out); p.src != dummy4 {
					t.Errorf("from %v", p.src)
				}
				quote, structure, err := splitExtension(out[20:], 4)
				if err != nil {
					t.Fatal(err)
				}
				want := extensionStructure(before, node)
				if !bytes.Equal(structure, want) {
					t.Errorf("extension\n got %x\nwant %x", structure, want)
				}
				if n := 28 + payload; len(quote) >= n && len(bytes.Trim(quote[n:], "\x00")) > 0 {
					t.Errorf("not padded with zeros: %x", quote[n:])
				}
				if q := mustParseQuote(t, out); q.src != clat4 || q.dst != remote4 {
					t.Errorf("quoted %v > %v", q.src, q.dst)
				}
			})
		}
	}
	t.Run("not for sources that can be mapped", func(t *testing.T) {
		out := r.run(t, error6(remote6, 3, 0, 0, sent6(40)), siit.Offload{}).one(t)
		plain := translate(t, hostConfig(), error6(remote6, 3, 0, 0, sent6(40))).one(t)
		if !bytes.Equal(out[20:], plain[20:]) {
			t.Errorf("%x", out)
		}
	})
	t.Run("unreachables", func(t *testing.T) {
		out := r.run(t, error6(native6, 1, 0, 0, sent6(40)), siit.Offload{}).one(t)
		if !bytes.HasSuffix(out, node) {
			t.Errorf("no node identification: %x", out)
		}
	})
	t.Run("Packet Too Big keeps its MTU", func(t *testing.T) {
		// The draft leaves open whether 2/0 is extended.
		out := r.run(t, error6(native6, 2, 0, 1400, sent6(40)), siit.Offload{}).one(t)
		if mtu := binary.BigEndian.Uint16(out[26:]); mtu != 1380 {
			t.Errorf("MTU %d", mtu)
		}
		if _, _, err := splitExtension(out[20:], 4); err != nil {
			t.Error(err)
		}
	})
	t.Run("too much extension already", func(t *testing.T) {
		body, length := extended(sent6(20), 8, extensionStructure(bytes.Repeat(mpls, 60)))
		out := r.run(t, error6(native6, 3, 0, uint32(length)<<24, body), siit.Offload{}).one(t)
		if _, _, err := splitExtension(out[20:], 4); err != nil {
			t.Error(err)
		}
	})
}

// Of an extension structure that is too long, the objects that there is room for
// stay, in front of the node identification, if that is added (RFC 7915 sections
// 4.2 and 5.2). What is not well-formed goes as a whole.
func TestExtensionsTooLong(t *testing.T) {
	plain := newRig(t, hostConfig())
	cfg := hostConfig()
	cfg.NodeID = true
	named := newRig(t, cfg)
	node := object(5, 4, append([]byte{0, 2, 0, 0}, native6.AsSlice()...))
	const room4, room6 = 576 - 28 - 128, 1280 - 48 - 128
	for _, c := range []struct {
		name  string
		sizes []int // of the objects
	}{
		{"all of it", []int{412}},
		{"four bytes more", []int{208, 208}},
		{"of odd length", []int{137, 139, 141, 143}},
		{"the first alone", []int{1100}},
		{"the first is too long", []int{1200, 8}},
		{"many", []int{8, 400, 8, 100, 8, 8, 500, 8, 200, 8}},
	} {
		var objects [][]byte
		for i, n := range c.sizes {
			objects = append(objects, object(2, uint8(i), data(n-4)))
		}
		fit := func(room int) (fitting [][]byte) {
			room -= 4
			for _, o := range objects {
				if room -= len(o); room < 0 {
					break
				}
				fitting = append(fitting, o)
			}
			return fitting
		}
		whole := extensionStructure(objects...)
		without := append([]byte{0x20, 0, 0, 0}, whole[4:]...) // checksum
		wrong := append([]byte{0x20, 0, 0x12, 0x34}, whole[4:]...)
		check := func(r *rig, in []byte, room int, structure []byte, more ...[]byte) {
			t.Helper()
			if len(in) > 65535 {
				t.Fatal("too long")
			}
			out := r.run(t, in, siit.Offload{}).one(t)
			at, version := 20, 4
			if out[0]>>4 == 6 {
				at, version = 40, 6
			}
			_, got, err := splitExtension(out[at:], version)
			if err != nil && structure[2] != 0x12 {
				t.Fatalf("%s: %v", c.name, err)
			}
			for _, o := range more {
				room -= len(o)
			}
			fitting := fit(room)
			var want []byte
			switch {
			case structure[2] == 0x12 && len(structure) > room: // only the others
				if fitting = nil; len(more) > 0 {
					want = extensionStructure(more...)
				}
			case structure[2] == 0x12:
				return // see TestBadExtensionLengths
			case len(fitting)+len(more) > 0:
				want = extensionStructure(append(fitting, more...)...)
				if structure[2]|structure[3] == 0 && len(more) == 0 {
					want[2], want[3] = 0, 0
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes from IPv%d: extension of %d bytes, want %d\n got %x\nwant %x", c.name, len(structure), 10-version, len(got), len(want), got, want)
			}
		}
		for _, structure := range [][]byte{whole, without, wrong} {
			for _, payload := range []int{20, 400, 1000} {
				body4, length4 := extended(received4(payload), 4, structure)
				if length4 < 256 {
					check(plain, error4(11, 0, uint32(length4)<<16, body4), room6, structure)
				}
				body6, length6 := extended(sent6(payload), 8, structure)
				check(plain, error6(remote6, 3, 0, uint32(length6)<<24, body6), room4, structure)
				check(named, error6(native6, 1, 0, uint32(length6)<<24, body6), room4, structure, node)
			}
		}
	}
}
