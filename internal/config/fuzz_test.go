package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// FuzzParse: no file makes us panic, and what is refused has a place.
func FuzzParse(f *testing.F) {
	example, err := os.ReadFile(examplePath)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add(setting.ReplaceAll(example, []byte("$1")))
	f.Add([]byte("clat = {mtu = [" + strings.Repeat("[", 200) + "\x00"))
	f.Add([]byte("[[translation.eam]]\r\n[translation.eam.ipv4]\r\nx.y = 1979-05-27T07:32:00Z\r\n[[translation.eam]]"))
	f.Add([]byte("translation.eam = [1, {}, [], {ipv4 = {}}]\nclat.\"\" = '''\n'''"))
	f.Add([]byte("\xef\xbb\xbf[clat]\nuplinks = [\"\\u0000\", \"\xff\"]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, warnings, err := Parse("f", data)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			warnings = append(warnings, e.Problems...)
			_ = e.Detail()
		}
		for _, p := range warnings {
			if p.Line == 0 && !strings.HasSuffix(p.What, "more errors") && !strings.HasSuffix(p.What, "too large") {
				t.Errorf("no place: %s", p)
			}
		}
	})
}

// A file of the largest size comes to an end, whatever it is full of.
func TestLargestFiles(t *testing.T) {
	for _, line := range []string{"[k%[1]d]\n", "[[k%[1]d]]\n", "[k.k%[1]d]\n", "k%[1]d.x = 1\n", "k%[1]d = {a = {b = 1}}\n", "[[translation.eam]]\nipv4='%[2]s'\nipv6='2001:db8::%[1]x'\n"} {
		var b strings.Builder
		for i := 0; b.Len() < maxSize-100; i++ {
			fmt.Fprintf(&b, line, i, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
		c, _, err := Parse("t.toml", []byte(b.String()))
		if eam := strings.Contains(line, "eam"); eam != (err == nil) || eam && len(c.Translation.EAM) < 10000 {
			t.Errorf("%q: %d mappings, %.200v", line, len(c.Translation.EAM), err)
		}
	}
}

// TestManyNames has the names that make go-toml slow refused, with their place,
// and mappings beside them accepted.
func TestManyNames(t *testing.T) {
	many := func(line string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	for _, c := range []struct {
		text         string
		line, column int
	}{
		{many("a%d = 1\n", maxNames+1), maxNames + 1, 1},
		{"[clat]\n" + many("a%d.x = 1\n", maxNames+1), maxNames + 2, 1},
		{many("[a%d]\n", maxNames+1), maxNames + 1, 2},
		{many("[[a%d]]\n", maxNames+1), maxNames + 1, 3},
		{strings.Repeat("a.", maxNames) + "a = 1", 1, 1},
		{"a = {" + strings.TrimSuffix(many("a%d = 1, ", maxNames+1), ", ") + "}\n", 1, 1},
		{"a = [[{" + strings.TrimSuffix(many("a%d = 1, ", maxNames+1), ", ") + "}]]\n", 1, 1},
	} {
		_, _, err := Parse("t.toml", []byte(c.text))
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) != 1 || !strings.Contains(e.Problems[0].What, "more than") || e.Problems[0].Line != c.line || e.Problems[0].Column != c.column {
			t.Errorf("%.30q...: %v", c.text, err)
		}
	}
}

// Nesting that would overflow a stack is go-toml's business; hold it to that.
func TestDeepNesting(t *testing.T) {
	for _, text := range []string{
		"a = " + strings.Repeat("[", maxSize-10),
		"a = " + strings.Repeat("{a=", maxSize/3-10),
		strings.Repeat("a.", maxSize/2-10) + "a = 1",
		"[" + strings.Repeat("a.", maxSize/2-10) + "a]",
		"a = " + strings.Repeat("[", 9999) + strings.Repeat("]", 9999),
	} {
		if _, _, err := Parse("t.toml", []byte(text)); err == nil {
			t.Errorf("%.20q... was accepted", text)
		}
	}
}
