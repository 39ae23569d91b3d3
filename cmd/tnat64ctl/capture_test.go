package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// A capture that was cut off anywhere: the packets before the cut are
// reported, and a cut within a packet is told with its number.
func TestCutAnywhere(t *testing.T) {
	conf := writeConf(t)
	packets := []rawPacket{{bytes.Repeat([]byte{0x45}, 21), 21}, {bytes.Repeat([]byte{0x60}, 44), 44}}
	for _, ng := range []bool{false, true} {
		var b bytes.Buffer
		ends := map[int]int{} // file sizes at which the file is whole, and the packets it has then
		for n := range len(packets) + 1 {
			b.Reset()
			if err := makeCapture(&b, layers.LinkTypeRaw, ng, packets[:n]); err != nil {
				t.Fatal(err)
			}
			ends[b.Len()] = n
		}
		// In front of the first packet pcapng has several blocks, and a file that
		// has only some of them is whole, too.
		header := b.Len()
		for size := range ends {
			header = min(header, size)
		}
		whole := 0
		for size := 0; size <= b.Len(); size++ {
			if n, ok := ends[size]; ok {
				whole = n
			}
			var stdout, stderr strings.Builder
			status := run([]string{"translate", "-config", conf, "-json", "-"}, bytes.NewReader(b.Bytes()[:size]), &stdout, &stderr)
			if lines := strings.Count(stdout.String(), "\n"); lines != whole {
				t.Errorf("pcapng %v, %d of %d bytes: %d lines, want %d", ng, size, b.Len(), lines, whole)
			}
			if _, ok := ends[size]; ok != (status == 0) && !(ng && size < header) {
				t.Errorf("pcapng %v, %d of %d bytes: exit status %d, %s", ng, size, b.Len(), status, stderr.String())
			}
			if n := "packet " + strconv.Itoa(whole+1); status != 0 && !strings.Contains(stderr.String(), n) && !strings.Contains(stderr.String(), "the file ends in its header") {
				t.Errorf("pcapng %v, %d of %d bytes: %s does not name %s", ng, size, b.Len(), stderr.String(), n)
			}
		}
	}
}

func writeConf(t testing.TB) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "conf.toml")
	text := "[clat]\npref64 = [\"2001:db8:122:344::/96\"]\nipv6 = \"2001:db8:aaaa::464\"\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

// FuzzCapture: whatever the file, no panic, and either everything was read or
// there is an error.
func FuzzCapture(f *testing.F) {
	conf := writeConf(f)
	for _, link := range []layers.LinkType{layers.LinkTypeRaw, layers.LinkTypeEthernet, layers.LinkTypeLinuxSLL2} {
		for _, ng := range []bool{false, true} {
			var b bytes.Buffer
			if err := makeCapture(&b, link, ng, []rawPacket{{bytes.Repeat([]byte{0x45, 0x60}, 40), 80}, {bytes.Repeat([]byte{0x81, 0, 0x86, 0xdd}, 20), 100}}); err != nil {
				f.Fatal(err)
			}
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []string{"-json=true", "-json=false"} {
			var stdout, stderr bytes.Buffer
			if status := run([]string{"translate", "-config", conf, format, "-"}, bytes.NewReader(data), &stdout, &stderr); (status != 0) != (stderr.Len() > 0) {
				t.Errorf("exit status %d, %s", status, stderr.String())
			}
		}
	})
}
