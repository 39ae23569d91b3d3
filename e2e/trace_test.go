package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestTrace looks at real traffic: what is translated, what is answered with
// an ICMP error, and what is dropped, with its reason.
func TestTrace(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		engine := w.wantState(t, lab.Uplink, control.Up).CLAT.Engine
		other := netip.MustParseAddr("198.51.100.9") // nobody; a router says so

		file := filepath.Join(w.Dir, "trace.pcapng")
		// The log tells that tracing has begun with the first of them.
		everything := newReader(t, w, "trace", "-json")
		written := newReader(t, w, "trace", "-w", file)
		one := newReader(t, w, "trace", "-address", server, "-protocol", "icmp", "-verdict", "translated")
		for _, r := range []*reader{everything, written, one} {
			r.want(t, "tracing")
		}
		if u := w.wantState(t, lab.Uplink, control.Up); u.CLAT.Engine != "user" {
			t.Errorf("the %s engine translates while packets are traced", u.CLAT.Engine)
		}
		before := w.counters(t)
		w.ping(t)
		w.page(t)
		w.try(t, "ping", "-n", "-c", "1", "-W", "30", "-t", "1", server)
		w.try(t, "ping", "-n", "-c", "1", "-W", "30", other.String())
		w.multicast(t)
		for _, r := range []*reader{everything, written, one} {
			r.settle()
		}
		if k := w.counters(t)["kernel"] - before["kernel"]; k != 0 {
			t.Errorf("the kernel engine translated %v packets while traced", k)
		}
		everything.interrupt(t)
		written.interrupt(t)
		one.interrupt(t)

		records := records(t, everything.String())
		count := func(direction string, v control.Verdict, reason string, protocol byte, to netip.Addr) (n int) {
			for _, r := range records {
				if r.Direction == direction && r.Verdict == v && (reason == "" || r.Reason == reason) && is(r.In, protocol, to) {
					n++
				}
			}
			return n
		}
		for _, c := range []struct {
			what      string
			direction string
			verdict   control.Verdict
			reason    string
			protocol  byte
			to        netip.Addr
			least     int
		}{
			{"echo requests", "4to6", control.Translated, "", 1, lab.ServerIPv4, 3},
			{"echo replies", "6to4", control.Translated, "", 58, netip.Addr{}, 3},
			{"TCP out", "4to6", control.Translated, "", 6, lab.ServerIPv4, 4},
			{"TCP in", "6to4", control.Translated, "", 6, netip.Addr{}, 3},
			{"TTL 1", "4to6", control.Reply, "ttl-exceeded", 1, lab.ServerIPv4, 1},
			{"multicast", "4to6", control.Drop, "destination-illegal", 17, group, 1},
		} {
			if n := count(c.direction, c.verdict, c.reason, c.protocol, c.to); n < c.least {
				t.Errorf("%s: %d packets %s %s %s, not %d:\n%s", c.what, n, c.direction, c.verdict, c.reason, c.least, describe(records))
			}
		}
		for _, r := range records {
			if r.Verdict != control.Translated && (r.Reason == "" || control.Explanation(r.Reason) == "") {
				t.Errorf("%s without a reason: %+v", r.Verdict, r)
			}
			if r.Uplink != lab.Uplink || r.Missed > 0 {
				t.Errorf("record %+v", r)
			}
		}
		lines := 0
		for line := range strings.Lines(one.String()) {
			if strings.Contains(line, ": translated") {
				lines++
				if !strings.Contains(line, server) || strings.Contains(line, other.String()) || !strings.Contains(strings.ToLower(line), "icmp") {
					t.Errorf("the filter lets through: %s", line)
				}
			}
		}
		if lines < 6 {
			t.Errorf("%d lines of the ping:\n%s", lines, one.String())
		}
		w.readBack(t, file)

		// Nobody listens any more.
		u := w.wantState(t, lab.Uplink, control.Up)
		if u.CLAT.Engine != engine {
			t.Errorf("the %s engine translates after the trace, it was the %s engine", u.CLAT.Engine, engine)
		}
		before = w.counters(t)
		w.ping(t)
		after := w.counters(t)
		if n := after[engine] - before[engine]; n < 6 {
			t.Errorf("the %s engine translated %v of 6 packets after the trace: %v, %v", engine, n, before, after)
		}
		for words, n := range map[string]int{"packets are traced": 1, "no longer traced": 1} {
			if got := w.book.lines(words); got != n {
				t.Errorf("the log has %d lines with %q, not %d", got, words, n)
			}
		}
	})
}

var group = netip.MustParseAddr("239.1.2.3")

// multicast sends an IPv4 multicast packet into the CLAT.
func (w *world) multicast(t *testing.T) {
	t.Helper()
	conn, err := connect(w.Laptop, "udp4", netip.AddrPortFrom(group, 5555).String(), w.clat.TUN, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("to all")); err != nil {
		t.Error(err)
	}
}

// counters returns how many packets each engine has translated.
func (w *world) counters(t *testing.T) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var metrics map[string]float64
	eventually(t, patience, func() (err error) {
		metrics, err = w.daemon.Metrics(ctx)
		return err
	})
	n := map[string]float64{}
	for name, v := range metrics {
		for _, engine := range []string{"kernel", "user"} {
			if strings.HasPrefix(name, "tnat64_packets_translated_total{") && strings.Contains(name, `engine="`+engine+`"`) {
				n[engine] += v
			}
		}
	}
	return n
}

// settle waits until nothing more is printed.
func (r *reader) settle() {
	for was := -1; was != len(r.String()); time.Sleep(150 * time.Millisecond) {
		was = len(r.String())
	}
}

func records(t *testing.T, text string) (all []control.Record) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var r control.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// is reports whether an IP packet has that protocol and, if it is valid, that
// IPv4 destination.
func is(packet []byte, protocol byte, to netip.Addr) bool {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return packet[9] == protocol && (!to.IsValid() || slices.Equal(packet[16:20], to.AsSlice()))
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return packet[6] == protocol && !to.IsValid()
	}
	return false
}

func describe(all []control.Record) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s %s %s % x\n", r.Direction, r.Verdict, r.Reason, r.In[:min(len(r.In), 40)])
	}
	return b.String()
}

// readBack reads a trace as other programs do.
func (w *world) readBack(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	four, six := 0, 0
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			break
		}
		switch b[0] >> 4 {
		case 4:
			four++
		case 6:
			six++
		}
	}
	if four < 15 || six < 15 {
		t.Errorf("%s has %d IPv4 and %d IPv6 packets", file, four, six)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, string(b), "ttl-exceeded", "translated")
	if _, err := exec.LookPath("tcpdump"); err == nil {
		wants(t, w.laptop(t, "tcpdump", "-n", "-r", file), server, "ICMP echo request", "ICMP6, echo reply")
	}
}
