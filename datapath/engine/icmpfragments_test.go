package engine

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

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
	message := make([]byte, 4008)
	for i := range message {
		message[i] = byte(rand.Uint32())
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
				order := rand.Perm(len(c.cut))
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
						if headerChecksum(p[:20]) != 0 || binary.BigEndian.Uint16(p[2:]) != uint16(got) || p[6]|p[7] != 0 {
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

func TestICMPFragmentsBadInput(t *testing.T) {
	a, b := make([]byte, 800), make([]byte, 200)
	first := fragment4(1, 0, true, a)
	last := fragment4(1, 800, false, b)
	now := time.Now()
	for _, c := range []struct {
		name string
		in   [][]byte
		want int
	}{
		{"duplicates are ignored", [][]byte{first, first, last}, 1020},
		{"an overlap ends the message", [][]byte{first, fragment4(1, 400, true, a), last}, 0},
		{"two ends", [][]byte{last, fragment4(1, 1600, false, b), first}, 0},
		{"data behind the end", [][]byte{last, fragment4(1, 1600, true, a), first}, 0},
		{"another identification", [][]byte{first, fragment4(2, 800, false, b)}, 0},
		{"a hole", [][]byte{first, fragment4(1, 1600, false, b)}, 0},
		{"too long", [][]byte{fragment4(1, 65528, false, a), first}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r icmpFragments
			buf := make([]byte, bufferLen)
			got := 0
			for _, p := range c.in {
				got, _ = r.add(p, buf, 64, now)
			}
			if got != c.want {
				t.Errorf("%d bytes came out, want %d", got, c.want)
			}
		})
	}
}

func TestICMPFragmentsExpireAndStayBounded(t *testing.T) {
	var r icmpFragments
	buf := make([]byte, bufferLen)
	now := time.Now()
	first, last := fragment4(1, 0, true, make([]byte, 800)), fragment4(1, 800, false, make([]byte, 200))
	r.add(first, buf, 64, now.Add(-reassemblyTimeout))
	if n, _ := r.add(last, buf, 64, now); n != 0 {
		t.Errorf("a message was completed after its time")
	}
	r = icmpFragments{}
	// A flood of first fragments does not grow beyond the slots, and a message
	// that comes in one go still gets through.
	for id := range 10_000 {
		r.add(fragment4(uint16(id+2), 0, true, make([]byte, 8)), buf, 64, now)
	}
	r.add(fragment4(1, 0, true, make([]byte, 800)), buf, 64, now.Add(time.Second))
	if n, _ := r.add(last, buf, 64, now.Add(time.Second)); n != 1020 {
		t.Errorf("%d bytes after the flood, want 1020", n)
	}
}

func FuzzICMPFragments(f *testing.F) {
	f.Add(uint16(0), true, []byte("12345678"), uint16(1), false, []byte("x"))
	f.Fuzz(func(t *testing.T, o1 uint16, m1 bool, d1 []byte, o2 uint16, m2 bool, d2 []byte) {
		var r icmpFragments
		buf := make([]byte, bufferLen)
		now := time.Now()
		for _, p := range [][]byte{
			fragment4(1, int(o1&0x1fff)*8, m1, d1), fragment4(1, int(o2&0x1fff)*8, m2, d2),
			fragment6(1, int(o1&0x1fff)*8, m1, d1), fragment6(1, int(o2&0x1fff)*8, m2, d2),
		} {
			if len(p) > 65535 {
				return
			}
			if n, _ := r.add(p, buf, 64, now); n > 65535 {
				t.Fatalf("%d bytes came out", n)
			}
		}
	})
}

// TestFragmentedEcho sends a ping of 4,000 bytes in IPv4 fragments through the
// engine and the answer back in IPv6 fragments.
func TestFragmentedEcho(t *testing.T) {
	e, kernels := start(t, 1, Options{Translator: newTranslator(t, clat6)})
	k := kernels[0]
	echo := make([]byte, 4008)
	echo[0] = 8
	binary.BigEndian.PutUint16(echo[2:], headerChecksum(echo))
	for _, p := range pieces(echo, 1456, func(off int, more bool, d []byte) []byte {
		b := fragment4(9, off, more, d)
		copy(b[16:], host4.AsSlice())
		binary.BigEndian.PutUint16(b[10:], headerChecksum(b[:20]))
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
	if headerChecksum(answer) != 0 || answer[0] != 0 || !bytes.Equal(answer[4:], echo[4:]) {
		t.Errorf("the answer became %d bytes of type %d", len(answer), answer[0])
	}
	if s := e.Stats(); s.ICMPFragments != 7 || s.To6[ICMP].Packets != 1 || s.To4[ICMP].Packets != 1 || s.Drops[siit.FragmentedICMP] != 0 {
		t.Errorf("stats %+v", s)
	}
}
