package siit_test

import (
	"bytes"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"testing"

	"tnat64d/siit"
)

// What packet.go, reason.go and doc.go promise.

func TestReasons(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	for r := range siit.NumReasons {
		name, explanation := r.String(), r.Explanation()
		if !kebab.MatchString(name) || seen[name] {
			t.Errorf("reason %d is called %q", r, name)
		}
		seen[name] = true
		if len(explanation) < 20 || explanation[len(explanation)-1] != '.' {
			t.Errorf("%s: explanation %q is no sentence", name, explanation)
		}
	}
	for verdict, want := range map[siit.Verdict]string{siit.Translated: "translated", siit.Reply: "reply", siit.Drop: "drop"} {
		if verdict.String() != want {
			t.Errorf("verdict %d is called %q, want %q", verdict, verdict, want)
		}
	}
}

// TestHeadroom: with less headroom than asked for the result is the same, and
// whoever lends more gets the bytes before it back as they were.
func TestHeadroom(t *testing.T) {
	tr, err := siit.New(hostConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples() {
		var want [][]byte
		for _, headroom := range []int{siit.Headroom, 0, 1, 10, 20, 28, siit.Headroom - 1, 100} {
			mem := append(bytes.Repeat([]byte{0xa5}, headroom), s.in...)
			res := tr.Translate(siit.NewScratch(1), siit.Packet{Buf: mem, Off: headroom, Offload: s.off})
			var got [][]byte
			for _, p := range res.Packets {
				if p.Off < siit.VnetHeaderLen {
					t.Errorf("%s, headroom %d: only %d bytes for the vnet header", s.name, headroom, p.Off)
				}
				got = append(got, bytes.Clone(p.Bytes()))
			}
			if headroom == siit.Headroom {
				want = got
			}
			if res.Verdict != s.verdict || !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%s, headroom %d: %v %v, or other bytes", s.name, headroom, res.Verdict, res.Reason)
			}
			if extra := headroom - siit.Headroom; extra > 0 && bytes.Count(mem[:extra], []byte{0xa5}) != extra {
				t.Errorf("%s: bytes before the headroom were written", s.name)
			}
		}
	}
}

// TestPacketsOutside: an Off that does not lie in Buf is nothing to fall over.
func TestPacketsOutside(t *testing.T) {
	tr, err := siit.New(hostConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []siit.Packet{{}, {Buf: make([]byte, 64), Off: 64}, {Buf: make([]byte, 64), Off: 65}, {Buf: make([]byte, 64), Off: -1}} {
		if res := tr.Translate(siit.NewScratch(1), p); res.Verdict != siit.Drop || res.Reason != siit.NotIP {
			t.Errorf("offset %d of %d: %v %v", p.Off, len(p.Buf), res.Verdict, res.Reason)
		}
	}
}

// TestConcurrency: one Translator for any number of goroutines, each with its
// own Scratch. The race detector does the work.
func TestConcurrency(t *testing.T) {
	tr, err := siit.New(hostConfig())
	if err != nil {
		t.Fatal(err)
	}
	all := samples()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			scratch := siit.NewScratch(1)
			mem := make([]byte, siit.Headroom+65536)
			for i := range 20 * len(all) {
				s := all[i%len(all)]
				n := copy(mem[siit.Headroom:], s.in)
				res := tr.Translate(scratch, siit.Packet{Buf: mem[:siit.Headroom+n], Off: siit.Headroom, Offload: s.off})
				if res.Verdict != s.verdict {
					t.Errorf("%s: %v %v", s.name, res.Verdict, res.Reason)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestSeeds: two translators do not start with the same identifications.
func TestSeeds(t *testing.T) {
	tr, err := siit.New(hostConfig())
	if err != nil {
		t.Fatal(err)
	}
	id := func(seed uint16) uint32 {
		mem := append(make([]byte, siit.Headroom), udp6(100)...)
		res := tr.Translate(siit.NewScratch(seed), siit.Packet{Buf: mem, Off: siit.Headroom})
		return mustParse(t, res.Packets[0].Bytes()).id
	}
	if a, b := id(1), id(2); a == b {
		t.Errorf("identifications %d and %d", a, b)
	}
}

func TestOurs(t *testing.T) {
	cfg := hostConfig()
	cfg.Mapping.EAM = []siit.EAM{eam("192.0.2.0/28", "2001:db8:cccc::5/124")}
	want := []netip.Prefix{host(clat6), netip.MustParsePrefix("2001:db8:cccc::/124")}
	if got := cfg.Mapping.Ours(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := (siit.Mapping{PREF64: pref64}).Ours(); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
