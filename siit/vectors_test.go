package siit_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"tnat64d/siit"
)

// vector is one entry of a file of vectors.
type vector struct {
	Name      string
	RFC       string
	Level     string
	Direction string
	Config    struct {
		PREF64        string `json:"pref64"`
		CLAT4         string `json:"clat_v4"`
		CLAT6         string `json:"clat_v6"`
		MTU6          int    `json:"ipv6_mtu"`
		MTU4          int    `json:"ipv4_mtu"`
		LowestIPv6MTU int    `json:"lowest_ipv6_mtu"`
		ICMPSource4   string `json:"xlat_icmp_v4"`
		NodeID        bool   `json:"node_id_extension"`
	}
	In           string `json:"in_hex"`
	expectation         // exactly one of its fields
	Mask         [][2]int
	Alternatives []expectation
	Note         string
}

type expectation struct {
	Out   hexList `json:"out_hex"`
	Drop  string  `json:"drop"`
	Reply hexList `json:"icmp_reply_hex"`
}

// hexList is one hexadecimal string or an array of them.
type hexList [][]byte

func (l *hexList) UnmarshalJSON(b []byte) error {
	var many []string
	if len(b) > 0 && b[0] == '"' {
		many = make([]string, 1)
		if err := json.Unmarshal(b, &many[0]); err != nil {
			return err
		}
	} else if err := json.Unmarshal(b, &many); err != nil {
		return err
	}
	for _, s := range many {
		packet, err := hex.DecodeString(s)
		if err != nil {
			return err
		}
		*l = append(*l, packet)
	}
	return nil
}

func (v vector) config() siit.Config {
	c := v.Config
	return siit.Config{
		Mapping: siit.Mapping{
			PREF64: netip.MustParsePrefix(c.PREF64),
			CLAT:   siit.Pair{IPv4: netip.MustParseAddr(c.CLAT4), IPv6: netip.MustParseAddr(c.CLAT6)},
		},
		MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: c.LowestIPv6MTU,
		ICMPSource4: netip.MustParseAddr(c.ICMPSource4),
		NodeID:      c.NodeID,
	}
}

func (v vector) in(t testing.TB) []byte {
	b, err := hex.DecodeString(v.In)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors say which masks are in use (section 23.3); a byte outside them
// that differs is a failure.
func (e expectation) check(o outcome, mask [][2]int) error {
	want, verdict := e.Out, siit.Translated
	switch {
	case e.Drop != "":
		verdict = siit.Drop
	case e.Reply != nil:
		want, verdict = e.Reply, siit.Reply
	}
	if o.verdict != verdict {
		return fmt.Errorf("want %v, got %v", verdict, o)
	}
	if len(want) != len(o.packets) {
		return fmt.Errorf("want %d packets, got %v", len(want), o)
	}
	for i := range want {
		w, g := bytes.Clone(want[i]), bytes.Clone(o.packets[i].Bytes())
		for _, m := range mask {
			for at := m[0]; at < m[0]+m[1]; at++ {
				if at < len(w) {
					w[at] = 0
				}
				if at < len(g) {
					g[at] = 0
				}
			}
		}
		if !bytes.Equal(w, g) {
			return fmt.Errorf("packet %d\nwant %x\n got %x\nmask %v", i, want[i], o.packets[i].Bytes(), mask)
		}
	}
	return nil
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	var vectors []vector
	for _, name := range []string{"testdata/vectors.json", "testdata/icmp-error-vectors.json"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var list []vector
		if err := json.Unmarshal(text, &list); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		vectors = append(vectors, list...)
	}
	return vectors
}

func TestVectors(t *testing.T) {
	vectors := readVectors(t)
	seen := map[string]bool{}
	for _, v := range vectors {
		seen[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			if n := len(v.Out) + len(v.Reply); (n > 0) == (v.Drop != "") {
				t.Fatal("not exactly one expectation")
			}
			in := v.in(t)
			o := translate(t, v.config(), in)
			err := v.check(o, v.Mask)
			for _, alternative := range v.Alternatives {
				if err != nil && alternative.check(o, v.Mask) == nil {
					t.Logf("took the alternative %q", alternative.Drop)
					err = nil
				}
			}
			if err != nil {
				t.Errorf("RFC %s, %s: %v\n%s", v.RFC, v.Level, err, v.Note)
			}
			if o.verdict == siit.Drop {
				checkDropReason(t, v.Drop, o.reason)
			}
			for _, p := range o.packets {
				checkComplete(t, v, in, p)
			}
		})
	}
	if len(seen) != 252+21 {
		t.Errorf("%d different vectors, want 252 and 21 of ICMP errors", len(seen))
	}
}

// checkComplete is step 4 of section 23.2: checksums and lengths without any
// mask. What came in with a wrong checksum keeps it.
func checkComplete(t *testing.T, v vector, in []byte, p siit.Packet) {
	t.Helper()
	q := mustParse(t, p.Bytes())
	if q.headerLen+len(q.transport) != len(p.Bytes()) {
		t.Errorf("%d bytes, but the header says %d", len(p.Bytes()), q.headerLen+len(q.transport))
	}
	if transportState(q, p.Offload) != sumWrong {
		return
	}
	if before, err := parse(in, false); err != nil || transportState(before, siit.Offload{}) != sumWrong {
		t.Errorf("transport checksum is wrong: %x", p.Bytes())
	}
}

// dropReasons maps words in the drop texts of the vectors to reasons. The
// first that is contained in the text counts.
var dropReasons = []struct {
	text   string
	reason siit.Reason
}{
	{"UDP with checksum 0 is illegal", siit.UDPZeroChecksumIPv6},
	{"IPv4 header checksum invalid", siit.BadIPv4Checksum},
	{"larger than the packet", siit.Truncated},
	{"checksum of a fragmented datagram", siit.UDPZeroChecksumFragment},
	{"fragmented ICMP", siit.FragmentedICMP},
	{"TTL expired", siit.TTLExceeded},
	{"hop limit expired", siit.TTLExceeded},
	{"too big", siit.TooBig},
	{"IGMP", siit.IGMP},
	{"Fragment Header followed by", siit.FragmentThenExtension},
	{"pointer", siit.ICMPParameterUntranslatable},
	{"second embedded header", siit.ICMPErrorNested},
	{"ICMPv6 checksum invalid", siit.BadICMPChecksum},
	{"192.0.0.8 is only for errors", siit.SourceOutsidePREF64},
	{"invoking packet was native", siit.ICMPErrorNotOurs},
	{"quoted source is illegal", siit.ICMPErrorNotOurs},
	{"quoted destination is illegal", siit.ICMPErrorNotOurs},
	{"silently dropped", siit.ICMPTypeUntranslatable},
	{"code ", siit.ICMPTypeUntranslatable},
}

func checkDropReason(t *testing.T, text string, got siit.Reason) {
	t.Helper()
	for _, d := range dropReasons {
		if strings.Contains(text, d.text) {
			if got != d.reason {
				t.Errorf("dropped for %v, want %v (%s)", got, d.reason, text)
			}
			return
		}
	}
	t.Logf("dropped for %v (%s)", got, text)
}

// TestVectorChecker makes sure that a difference is noticed at all.
func TestVectorChecker(t *testing.T) {
	e := expectation{Out: hexList{{1, 2, 3}}}
	o := outcome{verdict: siit.Translated, packets: []siit.Packet{{Buf: []byte{1, 9, 3}}}}
	if e.check(o, nil) == nil {
		t.Error("another byte was not noticed")
	}
	if err := e.check(o, [][2]int{{1, 1}}); err != nil {
		t.Error(err)
	}
	o.verdict = siit.Drop
	if e.check(o, nil) == nil {
		t.Error("another verdict was not noticed")
	}
}

// TestInvariantsAgree holds checkResult, which the other tests rely on,
// against the vectors: it must have nothing against what they expect.
func TestInvariantsAgree(t *testing.T) {
	for _, v := range readVectors(t) {
		o := outcome{verdict: siit.Drop, reason: siit.NotIP}
		for _, b := range v.Out {
			o.verdict, o.reason = siit.Translated, siit.None
			o.packets = append(o.packets, siit.Packet{Buf: b})
		}
		for _, b := range v.Reply {
			o.verdict = siit.Reply
			o.packets = append(o.packets, siit.Packet{Buf: b})
		}
		if err := checkResult(withDefaults(v.config()), v.in(t), siit.Offload{}, o); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}
