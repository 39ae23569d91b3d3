package lab

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

// TestSynthesize has the table of RFC 6052 section 2.4.
func TestSynthesize(t *testing.T) {
	v4 := netip.MustParseAddr("192.0.2.33")
	for pref64, want := range map[string]string{
		"2001:db8::/32":          "2001:db8:c000:221::",
		"2001:db8:100::/40":      "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":      "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56":  "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64":  "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96":  "2001:db8:122:344::192.0.2.33",
		WellKnownPrefix.String(): "64:ff9b::192.0.2.33",
	} {
		if got := Synthesize(netip.MustParsePrefix(pref64), v4); got != netip.MustParseAddr(want) {
			t.Errorf("%s under %s: %s, not %s", v4, pref64, got, want)
		}
	}
}

func TestSnapshotDiff(t *testing.T) {
	before, after := Snapshot{"a", "b", "d"}, Snapshot{"a", "c", "d"}
	if diff := cmp.Diff([]string{"- b", "+ c"}, before.Diff(after)); diff != "" {
		t.Error(diff)
	}
	if diff := before.Diff(before); diff != nil {
		t.Error(diff)
	}
}

// TestDownloaded tells a good download from a bad one.
func TestDownloaded(t *testing.T) {
	good := append(append([]byte(nil), block[:]...), block[:100]...)
	if err := Downloaded(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Error(err)
	}
	if Downloaded(bytes.NewReader(good), int64(len(good))+1) == nil {
		t.Error("too short, and not noticed")
	}
	good[len(block)+50] ^= 1
	if Downloaded(bytes.NewReader(good), int64(len(good))) == nil {
		t.Error("a wrong byte, and not noticed")
	}
}

// TestAnswer asks the DNS server questions.
func TestAnswer(t *testing.T) {
	ask := func(name string, kind dnsmessage.Type, limit int) dnsmessage.Message {
		t.Helper()
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer(b, limit)); err != nil {
			t.Fatal(err)
		}
		if m.ID != 7 || !m.Response {
			t.Errorf("header %+v", m.Header)
		}
		return m
	}
	if m := ask(NameServer, dnsmessage.TypeA, 512); len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A != ServerIPv4.As4() {
		t.Errorf("A: %+v", m)
	}
	if m := ask(NameServer, dnsmessage.TypeAAAA, 512); len(m.Answers) != 0 || m.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("AAAA: %+v", m)
	}
	if m := ask("nobody.example.", dnsmessage.TypeA, 512); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("unknown name: %+v", m)
	}
	if m := ask(NameBig, dnsmessage.TypeTXT, 512); !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("TXT in 512 bytes: %+v", m.Header)
	}
	if m := ask(NameBig, dnsmessage.TypeTXT, 65535); m.Truncated || len(m.Answers) != 1 {
		t.Errorf("TXT over TCP: %+v", m.Header)
	}
	for _, bad := range [][]byte{nil, {1, 2, 3}, make([]byte, 11), make([]byte, 12)} {
		if out := answer(bad, 512); out != nil {
			t.Errorf("answer to % x: % x", bad, out)
		}
	}
}
