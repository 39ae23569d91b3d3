package engine

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// oracle is RFC 8200 section 4.5 and RFC 5722 written down as simply as
// possible: it keeps every fragment and looks at single bytes.
type oracle map[oracleKey]*oracleMessage

type oracleKey struct{ version, id int }

type oracleMessage struct {
	fragments []oracleFragment
	broken    bool
}

type oracleFragment struct {
	off  int
	more bool
	data []byte
}

func (f *oracleFragment) end() int { return f.off + len(f.data) }

// add returns the message that f completes.
func (o oracle) add(k oracleKey, f oracleFragment) (message []byte, fate fragmentFate) {
	if f.off == 0 && !f.more { // a whole packet, which has nothing to do with fragments (RFC 6946)
		return nil, fragmentForeign
	}
	if len(f.data) == 0 || f.end() > 65515 || f.more && len(f.data)%8 != 0 {
		return nil, fragmentForeign
	}
	m := o[k]
	if m == nil {
		m = &oracleMessage{}
		o[k] = m
	}
	if m.broken {
		return nil, fragmentOverlaps
	}
	for _, g := range m.fragments {
		if g.off == f.off && g.more == f.more && bytes.Equal(g.data, f.data) {
			return nil, fragmentKept
		}
	}
	m.fragments = append(m.fragments, f)
	covered, furthest, total := map[int]byte{}, 0, 0
	for _, g := range m.fragments {
		for i, b := range g.data {
			if _, ok := covered[g.off+i]; ok {
				m.broken = true
			}
			covered[g.off+i] = b
		}
		furthest = max(furthest, g.end())
		if !g.more {
			if total != 0 && total != g.end() {
				m.broken = true
			}
			total = g.end()
		}
	}
	for _, g := range m.fragments {
		if total != 0 && (furthest > total || g.more && g.end() >= total) {
			m.broken = true
		}
	}
	if m.broken {
		return nil, fragmentOverlaps
	}
	if total == 0 {
		return nil, fragmentKept
	}
	for i := range total {
		b, ok := covered[i]
		if !ok {
			return nil, fragmentKept
		}
		message = append(message, b)
	}
	delete(o, k)
	return message, fragmentComplete
}

// checkFragments runs a program of fragments through both. Each takes four
// bytes: version, identification and M; offset; length; the first byte of the
// data, of which the others follow.
func checkFragments(t *testing.T, program []byte) {
	t.Helper()
	var r icmpFragments
	o := oracle{}
	buf := make([]byte, bufferLen)
	now := time.Unix(0, 0)
	for ; len(program) >= 4; program = program[4:] {
		head := program[0]
		k := oracleKey{version: 4 + int(head>>1&1)*2, id: int(head >> 2 & 3)}
		f := oracleFragment{off: 8 * int(program[1]&31), more: head&1 != 0, data: make([]byte, program[2]&63)}
		if program[1] >= 0xf0 { // near the end of the largest message
			f.off = 8 * (8191 - int(program[1]&15))
		}
		if head&0x80 != 0 { // mostly multiples of 8, as they should be
			f.data = f.data[:len(f.data)&^7]
		}
		for i := range f.data {
			f.data[i] = program[3] + byte(f.off+i)
		}
		p := fragment4(uint16(k.id), f.off, f.more, f.data)
		header := 20
		if k.version == 6 {
			p, header = fragment6(uint32(k.id), f.off, f.more, f.data), 48
		}
		p = append(buf[:64], p...)[64:] // in the engine the fragment lies where the result goes
		n, fate := r.add(p, buf, 64, now)
		want, wantFate := o.add(k, f)
		if fate != wantFate {
			t.Fatalf("IPv%d, id %d, offset %d, more %v, %d bytes: fate %d, want %d", k.version, k.id, f.off, f.more, len(f.data), fate, wantFate)
		}
		if fate == fragmentComplete && !bytes.Equal(buf[64+header:64+n], want) {
			t.Fatalf("message\n got %x\nwant %x", buf[64+header:64+n], want)
		}
	}
}

// fragmentPrograms are messages cut at random, shuffled, and with every kind of
// mischief in between.
func fragmentPrograms(seed uint64) (program []byte) {
	rnd := rand.New(rand.NewPCG(seed, 5722))
	for range 1 + rnd.IntN(4) {
		head, fill := byte(rnd.IntN(8)<<1)|0x80, byte(rnd.IntN(2))
		var list [][]byte
		blocks := 1 + rnd.IntN(12)
		for b := 0; b < blocks; {
			n := min(1+rnd.IntN(4), blocks-b)
			b += n
			if b == blocks {
				list = append(list, []byte{head &^ 0x80, byte(b - n), byte(8*n - rnd.IntN(8)), fill})
			} else {
				list = append(list, []byte{head | 1, byte(b - n), byte(8 * n), fill})
			}
		}
		rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, f := range list {
			program = append(program, f...)
			switch rnd.IntN(12) {
			case 0: // a copy
				program = append(program, list[rnd.IntN(len(list))]...)
			case 1: // one bit is another
				g := bytes.Clone(list[rnd.IntN(len(list))])
				g[rnd.IntN(4)] ^= 1 << rnd.IntN(6)
				program = append(program, g...)
			}
		}
	}
	return program
}

func TestICMPFragmentsOracle(t *testing.T) {
	for seed := range uint64(20_000) {
		checkFragments(t, fragmentPrograms(seed))
	}
}

func FuzzICMPFragments(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(fragmentPrograms(seed))
	}
	f.Add([]byte{1, 0xf0, 8, 1, 0, 0xf0, 3, 1, 0x81, 4, 8, 1, 0x81, 0, 8, 1, 0x80, 2, 8, 1})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) <= 4*100 {
			checkFragments(t, program)
		}
	})
}
