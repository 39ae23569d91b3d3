package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tnat64d/internal/soak"
	"tnat64d/siit"
	"tnat64d/tun"
)

// fragment4 makes an IPv4 fragment of an ICMP message without a right header
// checksum, which icmpFragments leaves to the translator.
func fragment4(id uint16, off int, more bool, data []byte) []byte {
	b := make([]byte, 20, 20+len(data))
	b[0], b[8], b[9] = 0x45, 64, 1
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(data)))
	binary.BigEndian.PutUint16(b[4:], id)
	f := uint16(off / 8)
	if more {
		f |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], f)
	copy(b[12:], []byte{192, 0, 0, 1, 198, 51, 100, 7})
	return append(b, data...)
}

func fragment6(id uint32, off int, more bool, data []byte) []byte {
	b := make([]byte, 48, 48+len(data))
	b[0], b[6], b[7] = 0x60, 44, 64
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	b[8], b[24] = 0x20, 0x20
	b[40] = 58
	f := uint16(off)
	if more {
		f |= 1
	}
	binary.BigEndian.PutUint16(b[42:], f)
	binary.BigEndian.PutUint32(b[44:], id)
	return append(b, data...)
}

// pieces cuts message into fragments made by make.
func pieces(message []byte, size int, fragment func(off int, more bool, data []byte) []byte) [][]byte {
	var p [][]byte
	for off := 0; off < len(message); off += size {
		end := min(off+size, len(message))
		p = append(p, fragment(off, end < len(message), message[off:end]))
	}
	return p
}

func TestICMPFragmentsInAnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(2, soak.Seed(t)))
	message := make([]byte, 4008)
	for i := range message {
		message[i] = byte(random.Uint32())
	}
	now := time.Now()
	for _, c := range []struct {
		name   string
		header int
		cut    [][]byte
	}{
		{"IPv4", 20, pieces(message, 1456, func(off int, more bool, d []byte) []byte { return fragment4(7, off, more, d) })},
		{"IPv6", 48, pieces(message, 1232, func(off int, more bool, d []byte) []byte { return fragment6(7, off, more, d) })},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 50 {
				var r icmpFragments
				order := random.Perm(len(c.cut))
				buf := make([]byte, bufferLen)
				for i, k := range order {
					// In the engine the fragment lies where the result goes.
					n := copy(buf[64:], c.cut[k])
					got, _ := r.add(buf[64:64+n], buf, 64, now)
					if i < len(order)-1 {
						if got != 0 {
							t.Fatalf("order %v: complete after %d of %d pieces", order, i+1, len(order))
						}
						continue
					}
					if got != c.header+len(message) {
						t.Fatalf("order %v: %d bytes, want %d", order, got, c.header+len(message))
					}
					p := buf[64 : 64+got]
					if !bytes.Equal(p[c.header:], message) {
						t.Fatalf("order %v: the message has changed", order)
					}
					if c.name == "IPv4" {
						if ^siit.Sum(p[:20], 0) != 0 || binary.BigEndian.Uint16(p[2:]) != uint16(got) || p[6]|p[7] != 0 {
							t.Fatalf("bad header % x", p[:20])
						}
					} else if binary.BigEndian.Uint16(p[4:]) != uint16(got-40) || !bytes.Equal(p[40:48], []byte{58, 0, 0, 0, 0, 0, 0, 7}) {
						t.Fatalf("bad header % x", p[:48])
					}
				}
			}
		})
	}
}

// Fragments that overlap or contradict each other end their message, whatever
// the IP version, and what comes of it later is dropped too (RFC 5722, RFC 8200
// section 4.5). What is wrong by itself changes nothing.
func TestICMPFragmentsContradict(t *testing.T) {
	type piece struct {
		off  int
		more bool
		n    int
		fill byte
	}
	const more, last = true, false
	foreign, kept, complete, overlaps := fragmentForeign, fragmentKept, fragmentComplete, fragmentOverlaps
	for _, c := range []struct {
		name string
		in   []piece
		want []fragmentFate
	}{
		{"in order", []piece{{0, more, 800, 1}, {800, last, 203, 2}}, []fragmentFate{kept, complete}},
		{"exact copies are ignored", []piece{{0, more, 800, 1}, {0, more, 800, 1}, {800, last, 203, 2}}, []fragmentFate{kept, kept, complete}},
		{"a copy of the last fragment", []piece{{800, last, 203, 2}, {800, last, 203, 2}, {0, more, 800, 1}}, []fragmentFate{kept, kept, complete}},
		{"a copy with other bytes", []piece{{0, more, 800, 1}, {0, more, 800, 9}, {800, last, 203, 2}}, []fragmentFate{kept, overlaps, overlaps}},
		{"a copy that claims to be the last", []piece{{8, more, 800, 1}, {8, last, 800, 1}}, []fragmentFate{kept, overlaps}},
		{"a whole packet of the same identification", []piece{{0, more, 800, 1}, {0, last, 800, 1}, {800, last, 203, 2}}, []fragmentFate{kept, foreign, complete}},
		{"a copy of the last that claims not to be", []piece{{800, last, 200, 2}, {800, more, 200, 2}, {0, more, 800, 1}}, []fragmentFate{kept, overlaps, overlaps}},
		{"the same in two pieces", []piece{{0, more, 800, 1}, {0, more, 400, 1}, {800, last, 203, 2}}, []fragmentFate{kept, overlaps, overlaps}},
		{"the second half of another", []piece{{0, more, 800, 1}, {400, more, 400, 1}, {800, last, 203, 2}}, []fragmentFate{kept, overlaps, overlaps}},
		{"two pieces in one", []piece{{0, more, 400, 1}, {400, more, 400, 1}, {0, more, 800, 1}, {800, last, 203, 2}}, []fragmentFate{kept, kept, overlaps, overlaps}},
		{"partly the same", []piece{{0, more, 800, 1}, {400, more, 800, 1}, {1200, last, 3, 2}}, []fragmentFate{kept, overlaps, overlaps}},
		{"around another", []piece{{400, more, 8, 1}, {0, more, 800, 1}, {800, last, 203, 2}}, []fragmentFate{kept, overlaps, overlaps}},
		{"one block", []piece{{0, more, 800, 1}, {792, last, 203, 2}}, []fragmentFate{kept, overlaps}},
		{"two ends", []piece{{800, last, 200, 2}, {1600, last, 200, 2}, {0, more, 800, 1}}, []fragmentFate{kept, overlaps, overlaps}},
		{"two lengths of the last", []piece{{800, last, 203, 2}, {800, last, 202, 2}, {0, more, 800, 1}}, []fragmentFate{kept, overlaps, overlaps}},
		{"bytes behind the end", []piece{{800, last, 203, 2}, {1600, more, 800, 1}, {0, more, 800, 1}}, []fragmentFate{kept, overlaps, overlaps}},
		{"an end before bytes", []piece{{1600, more, 800, 1}, {800, last, 203, 2}, {0, more, 800, 1}}, []fragmentFate{kept, overlaps, overlaps}},
		{"more up to the end", []piece{{800, last, 200, 2}, {600, more, 400, 1}}, []fragmentFate{kept, overlaps}},
		{"a hole filled by bytes behind the end", []piece{{32, more, 8, 1}, {0, more, 8, 2}, {16, last, 8, 3}}, []fragmentFate{kept, kept, overlaps}},
		{"a hole", []piece{{0, more, 800, 1}, {1600, last, 203, 2}}, []fragmentFate{kept, kept}},
		{"no bytes", []piece{{0, more, 800, 1}, {800, more, 0, 2}, {800, last, 203, 2}}, []fragmentFate{kept, foreign, complete}},
		{"no multiple of 8", []piece{{0, more, 801, 1}, {0, more, 800, 1}, {800, last, 203, 2}}, []fragmentFate{foreign, kept, complete}},
		{"beyond the largest packet", []piece{{65512, last, 9, 1}, {0, more, 800, 1}, {800, last, 203, 2}}, []fragmentFate{foreign, kept, complete}},
		{"the largest offset", []piece{{65528, last, 1, 1}, {0, more, 800, 1}, {800, last, 203, 2}}, []fragmentFate{foreign, kept, complete}},
	} {
		for version, fragment := range map[int]func(off int, more bool, d []byte) []byte{
			4: func(off int, more bool, d []byte) []byte { return fragment4(1, off, more, d) },
			6: func(off int, more bool, d []byte) []byte { return fragment6(1, off, more, d) },
		} {
			t.Run(fmt.Sprintf("IPv%d %s", version, c.name), func(t *testing.T) {
				var r icmpFragments
				buf := make([]byte, bufferLen)
				now := time.Now()
				var n int
				for i, p := range c.in {
					var fate fragmentFate
					n, fate = r.add(fragment(p.off, p.more, bytes.Repeat([]byte{p.fill}, p.n)), buf, 64, now)
					if fate != c.want[i] {
						t.Fatalf("fragment %d: fate %d, want %d", i, fate, c.want[i])
					}
				}
				if header := map[int]int{4: 20, 6: 48}[version]; c.want[len(c.want)-1] == complete {
					want := append(bytes.Repeat([]byte{1}, 800), bytes.Repeat([]byte{2}, 203)...)
					if !bytes.Equal(buf[64+header:64+n], want) {
						t.Errorf("%d bytes came out, or others than went in", n)
					}
				}
			})
		}
	}
}

// After the deadline the same identification may be used again.
func TestICMPFragmentsExpire(t *testing.T) {
	var r icmpFragments
	buf := make([]byte, bufferLen)
	now := time.Now()
	first, last := fragment4(1, 0, true, make([]byte, 800)), fragment4(1, 800, false, make([]byte, 200))
	r.add(first, buf, 64, now.Add(-reassemblyTimeout))
	if n, _ := r.add(last, buf, 64, now); n != 0 {
		t.Errorf("a message was completed after its time")
	}
	r.add(fragment4(1, 792, true, make([]byte, 16)), buf, 64, now)
	if _, fate := r.add(first, buf, 64, now.Add(reassemblyTimeout-1)); fate != fragmentOverlaps {
		t.Errorf("a broken message took a fragment: %d", fate)
	}
	now = now.Add(reassemblyTimeout)
	r.add(first, buf, 64, now)
	if n, _ := r.add(last, buf, 64, now); n != 1020 {
		t.Errorf("%d bytes, want 1020", n)
	}
}

// However many messages others begin, the table stays as it is, and one that
// comes slowly gets through. Nobody gives way to a single source.
func TestICMPFragmentsOfManySources(t *testing.T) {
	from := func(source, id int, off int, more bool, n int) []byte {
		p := fragment6(uint32(id), off, more, make([]byte, n))
		binary.BigEndian.PutUint32(p[20:], uint32(source))
		return p
	}
	for _, c := range []struct {
		name    string
		sources int // of the flood
		each    int // incomplete messages between the two fragments
	}{
		{"one source", 1, 10_000},
		{"a few sources", 3, 10_000},
		{"many sources", 1 << 20, maxMessages - 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r icmpFragments
			buf := make([]byte, bufferLen)
			now := time.Now()
			id := 0
			flood := func(n int) {
				for range n {
					id++
					now = now.Add(time.Microsecond)
					r.add(from(1+id%c.sources, id, 8*(id%3), true, 8), buf, 64, now)
				}
			}
			flood(10_000)
			for i := range 20 {
				r.add(from(0, i, 0, true, 800), buf, 64, now)
				flood(c.each)
				if n, fate := r.add(from(0, i, 800, false, 200), buf, 64, now); n != 1048 || fate != fragmentComplete {
					t.Fatalf("message %d: %d bytes, fate %d", i, n, fate)
				}
			}
			if r.evicted() == 0 {
				t.Error("no message gave way")
			}
			// The other side is not concerned.
			if r.from4.messages != [maxMessages]*icmpMessage{} {
				t.Error("IPv6 fragments take places of IPv4")
			}
			for _, m := range r.from6.messages {
				if m != nil && len(m.body) > 8<<10 {
					t.Errorf("%d bytes for a message of 24", len(m.body))
				}
			}
		})
	}
}

// A fragment behind other extension headers is one like any other.
func TestICMPFragmentBehindExtensions(t *testing.T) {
	var r icmpFragments
	buf := make([]byte, bufferLen)
	now := time.Now()
	extended := func(p []byte) []byte {
		hbh := []byte{44, 0, 1, 4, 0, 0, 0, 0}
		q := slices.Concat(p[:40], hbh, p[40:])
		q[6] = 0
		binary.BigEndian.PutUint16(q[4:], uint16(len(q)-40))
		return q
	}
	r.add(extended(fragment6(7, 0, true, []byte("12345678"))), buf, 64, now)
	n, _ := r.add(extended(fragment6(7, 8, false, []byte("9"))), buf, 64, now)
	if want := fragment6(7, 0, false, []byte("123456789")); !bytes.Equal(buf[64:64+n], want) {
		t.Errorf("\n got %x\nwant %x", buf[64:64+n], want)
	}
}

// TestFragmentedEcho sends a ping of 4,000 bytes in IPv4 fragments through the
// engine and the answer back in IPv6 fragments.
func TestFragmentedEcho(t *testing.T) {
	e, kernels := start(t, 1, Options{Translator: newTranslator(t, clat6)})
	k := kernels[0]
	echo := make([]byte, 4008)
	echo[0] = 8
	binary.BigEndian.PutUint16(echo[2:], ^siit.Sum(echo, 0))
	for _, p := range pieces(echo, 1456, func(off int, more bool, d []byte) []byte {
		b := fragment4(9, off, more, d)
		copy(b[16:], host4.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^siit.Sum(b[:20], 0))
		return b
	}) {
		k.send(t, append(make([]byte, 64), p...), tun.VnetHeader{})
	}
	var request []byte
	for {
		p, _ := k.receive(t)
		if p[6] != 44 || p[40] != 58 || len(p) > 1280 {
			t.Fatalf("not a fragment of ICMPv6 that fits 1280 bytes: % x", p[:48])
		}
		request = append(request, p[48:]...)
		if p[43]&1 == 0 {
			break
		}
	}
	if len(request) != len(echo) || request[0] != 128 || !bytes.Equal(request[4:], echo[4:]) {
		t.Fatalf("the request became %d bytes of type %d", len(request), request[0])
	}

	// The answer is the request with another type.
	request[0] = 129
	binary.BigEndian.PutUint16(request[2:], binary.BigEndian.Uint16(request[2:])-0x100)
	for _, p := range pieces(request, 1232, func(off int, more bool, d []byte) []byte {
		b := fragment6(9, off, more, d)
		copy(b[8:], host6.AsSlice())
		copy(b[24:], clat6.AsSlice())
		return b
	}) {
		k.send(t, append(make([]byte, 64), p...), tun.VnetHeader{})
	}
	var answer []byte
	for {
		p, _ := k.receive(t)
		if p[0] != 0x45 || len(p) > 1480 {
			t.Fatalf("not an IPv4 packet that fits: % x", p[:20])
		}
		answer = append(answer, p[20:]...)
		if p[6]&0x20 == 0 {
			break
		}
	}
	if ^siit.Sum(answer, 0) != 0 || answer[0] != 0 || !bytes.Equal(answer[4:], echo[4:]) {
		t.Errorf("the answer became %d bytes of type %d", len(answer), answer[0])
	}
	if s := e.Stats(); s.ICMPFragments != 7 || s.To6[ICMP].Packets != 1 || s.To4[ICMP].Packets != 1 || s.Drops[siit.FragmentedICMP] != 0 {
		t.Errorf("stats %+v", s)
	}
}
