package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// vectorFiles hold the byte-exact packets that siit is tested with.
var vectorFiles = []string{"../../siit/testdata/vectors.json", "../../siit/testdata/icmp-error-vectors.json"}

type vectorConfig struct {
	PREF64        string `json:"pref64"`
	CLAT4         string `json:"clat_v4"`
	CLAT6         string `json:"clat_v6"`
	MTU6          int    `json:"ipv6_mtu"`
	MTU4          int    `json:"ipv4_mtu"`
	LowestIPv6MTU int    `json:"lowest_ipv6_mtu"`
	ICMPSource    string `json:"xlat_icmp_v4"`
	NodeID        bool   `json:"node_id_extension"`
}

// expectation is what may come out: packets, an ICMP error, or nothing.
type expectation struct {
	Out   packets `json:"out_hex"`
	Drop  string  `json:"drop"`
	Reply string  `json:"icmp_reply_hex"`
}

type vector struct {
	expectation
	Name         string        `json:"name"`
	Config       vectorConfig  `json:"config"`
	In           string        `json:"in_hex"`
	Mask         [][2]int      `json:"mask"`
	Alternatives []expectation `json:"alternatives"`
}

// packets is one packet or a list of them.
type packets []string

func (p *packets) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*p = packets{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(p))
}

// TestVectors runs all vectors through the command, in one capture for each
// configuration.
func TestVectors(t *testing.T) {
	var all []vector
	for _, name := range vectorFiles {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var list []vector
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, list...)
	}
	groups := map[vectorConfig][]vector{}
	for _, v := range all {
		groups[v.Config] = append(groups[v.Config], v)
	}
	ran := 0
	for config, vectors := range groups {
		for i, got := range translateVectors(t, config, vectors) {
			ran++
			if err := vectors[i].check(got); err != nil {
				t.Errorf("%s: %v", vectors[i].Name, err)
			}
		}
	}
	if ran != len(all) || ran < 252+21 {
		t.Errorf("%d vectors ran, of %d", ran, len(all))
	}
}

// translateVectors returns the lines that the command prints for vectors of
// one configuration.
func translateVectors(t *testing.T, c vectorConfig, vectors []vector) []line {
	t.Helper()
	if c.MTU6 != c.MTU4+20 {
		t.Fatalf("MTU %d and %d cannot be configured", c.MTU4, c.MTU6)
	}
	dir := t.TempDir()
	conf, in, out := filepath.Join(dir, "conf.toml"), filepath.Join(dir, "in.pcap"), filepath.Join(dir, "out.pcap")
	text := fmt.Sprintf(`[clat]
pref64 = [%q]
ipv4 = %q
ipv6 = %q
mtu = %d
[translation]
lowest-ipv6-mtu = %d
icmp-source = %q
node-id = %v
`, c.PREF64, c.CLAT4, c.CLAT6, c.MTU4, c.LowestIPv6MTU, c.ICMPSource, c.NodeID)
	var list []rawPacket
	for _, v := range vectors {
		p, err := hex.DecodeString(v.In)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rawPacket{p, len(p)})
	}
	var pcap bytes.Buffer
	if err := makeCapture(&pcap, layers.LinkTypeRaw, false, list); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{conf: []byte(text), in: pcap.Bytes()} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr strings.Builder
	if status := run([]string{"translate", "-config", conf, "-json", in, out}, nil, &stdout, &stderr); status != 0 || stderr.Len() > 0 {
		t.Fatalf("exit status %d\n%s", status, stderr.String())
	}
	var lines []line
	for text := range strings.Lines(stdout.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if l.N != len(lines)+1 {
			t.Fatalf("line %d has n %d", len(lines)+1, l.N)
		}
		lines = append(lines, l)
	}
	if len(lines) != len(vectors) {
		t.Fatalf("%d lines for %d packets", len(lines), len(vectors))
	}
	return lines
}

func (v vector) check(got line) error {
	if (got.Reason == "") != (got.Verdict == "translated") {
		return fmt.Errorf("verdict %s with reason %q", got.Verdict, got.Reason)
	}
	err := v.expectation.check(got, v.Mask)
	for _, alternative := range v.Alternatives {
		if err != nil && alternative.check(got, v.Mask) == nil {
			return nil
		}
	}
	return err
}

func (e expectation) check(got line, mask [][2]int) error {
	verdict, want := "drop", packets{}
	switch {
	case e.Out != nil:
		verdict, want = "translated", e.Out
	case e.Reply != "":
		verdict, want = "reply", packets{e.Reply}
	}
	if got.Verdict != verdict || len(got.Out) != len(want) {
		return fmt.Errorf("%s %s with %d packets, want %s with %d", got.Verdict, got.Reason, len(got.Out), verdict, len(want))
	}
	for i := range want {
		if g, w := masked(got.Out[i], mask), masked(want[i], mask); g != w {
			return fmt.Errorf("packet %d\n got %s\nwant %s", i+1, g, w)
		}
	}
	return nil
}

// masked replaces the bytes that a test must ignore.
func masked(text string, mask [][2]int) string {
	b := []byte(text)
	for _, m := range mask {
		for i := 2 * m[0]; i < min(2*(m[0]+m[1]), len(b)); i++ {
			b[i] = '-'
		}
	}
	return string(b)
}
