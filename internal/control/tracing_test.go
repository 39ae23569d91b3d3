package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tnat64d/datapath/engine"
	"tnat64d/siit"
)

// udp4 returns n bytes of UDP payload in IPv4, from 192.0.0.1 to 198.51.100.1.
func udp4(n int) []byte {
	p := make([]byte, 28+n)
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], []byte{192, 0, 0, 1, 198, 51, 100, 1})
	return p
}

// udp6 returns the same in IPv6.
func udp6(n int) []byte {
	p := make([]byte, 48+n)
	p[0], p[6], p[7] = 0x60, 17, 64
	binary.BigEndian.PutUint16(p[4:], uint16(8+n))
	copy(p[8:], netip.MustParseAddr("2001:db8::c1a7").AsSlice())
	copy(p[24:], netip.MustParseAddr("64:ff9b::198.51.100.1").AsSlice())
	return p
}

func seen(v siit.Verdict, r siit.Reason, in []byte, out ...[]byte) engine.Seen {
	s := engine.Seen{Packet: in, Result: siit.Result{Verdict: v, Reason: r}}
	for _, p := range out {
		s.Result.Packets = append(s.Result.Packets, siit.Packet{Buf: append([]byte("head"), p...), Off: 4})
	}
	return s
}

func TestTrace(t *testing.T) {
	r := start(t, quick)
	icmp := udp4(20)
	icmp[9] = 1
	collected := seen(siit.Drop, siit.FragmentedICMP, icmp)
	collected.Collected = true
	limited := seen(siit.Reply, siit.TTLExceeded, udp4(1), icmp)
	limited.Limited = true
	all := []engine.Seen{
		seen(siit.Translated, siit.None, udp4(1), udp6(1)),
		seen(siit.Translated, siit.None, udp4(3000), udp6(1400), udp6(1400), udp6(200)),
		seen(siit.Reply, siit.TTLExceeded, udp4(1), icmp),
		limited,
		collected,
		seen(siit.Drop, siit.NotIP, []byte{1}),
	}
	for _, tt := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"all", Filter{}, "a0 a1 a2 a3 a4 a5 b0 b1 b2 b3 b4 b5"},
		{"uplink", Filter{Uplink: "b"}, "b0 b1 b2 b3 b4 b5"},
		{"reason", Filter{Reason: "ttl-exceeded"}, "a2 a3 b2 b3"},
		{"reply", Filter{Verdict: Reply}, "a2 b2"},
		{"drop", Filter{Verdict: Drop}, "a3 a5 b3 b5"},
		{"collected", Filter{Verdict: Collected}, "a4 b4"},
		{"a collected fragment is not lost", Filter{Reason: "fragmented-icmp"}, ""},
		{"udp", Filter{Protocol: "udp"}, "a0 a1 a2 a3 b0 b1 b2 b3"},
		{"icmp", Filter{Protocol: "icmp"}, "a4 b4"},
		{"number", Filter{Protocol: "17", Uplink: "a", Verdict: Reply}, "a2"},
		{"address", Filter{Address: netip.MustParsePrefix("198.51.100.0/24")}, "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4"},
		{"address of what came out", Filter{Address: netip.MustParsePrefix("64:ff9b::/96")}, "a0 a1 b0 b1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var got []string
			err := r.Trace(ctx, tt.filter, func() {
				for _, uplink := range []string{"a", "b"} {
					for _, s := range all {
						r.fake.packet(uplink, s)
					}
				}
				if tt.want == "" {
					time.AfterFunc(50*time.Millisecond, cancel)
				}
			}, func(rec Record) error {
				i := len(all)
				for j, s := range all {
					limited := s.Limited == rec.Limited
					if limited && len(s.Packet) == rec.InLen && verdictOf(s) == rec.Verdict {
						i = j
					}
				}
				got = append(got, fmt.Sprintf("%s%d", rec.Uplink, i))
				if len(got) == len(strings.Fields(tt.want)) {
					cancel()
				}
				return nil
			})
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
			eventually(t, "untraced", func() bool { return !r.fake.traced() })
		})
	}
}

// What a record says, byte by byte.
func TestRecord(t *testing.T) {
	r := start(t, quick)
	in, out := udp4(300), udp6(300)
	enough := errors.New("enough")
	err := r.Trace(t.Context(), Filter{Snaplen: 100}, func() {
		s := seen(siit.Translated, siit.None, bytes.Clone(in), out, out)
		r.fake.packet("wlan0", s)
		clear(s.Packet) // it was lent for the call
		clear(s.Result.Packets[0].Buf)
	}, func(rec Record) error {
		if rec.Uplink != "wlan0" || rec.Direction != "4to6" || rec.Verdict != Translated || rec.Reason != "" || rec.Missed != 0 || rec.Time.IsZero() {
			t.Errorf("%+v", rec)
		}
		if !bytes.Equal(rec.In, in[:100]) || rec.InLen != len(in) {
			t.Errorf("in: %d of %d bytes: % x", len(rec.In), rec.InLen, rec.In)
		}
		if len(rec.Out) != 2 || !bytes.Equal(rec.Out[0].Data, out[:100]) || rec.Out[0].Len != len(out) {
			t.Errorf("out: %+v", rec.Out)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

// The daemon is asked for packets by the first trace and let go by the last.
func TestTracesShare(t *testing.T) {
	r := start(t, quick)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	begun := make(chan bool)
	for range quick.traces {
		wg.Go(func() {
			if err := r.Trace(ctx, Filter{}, func() { begun <- true }, func(Record) error { return nil }); err != nil {
				t.Error(err)
			}
		})
		<-begun
	}
	err := r.Trace(ctx, Filter{}, nil, func(Record) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "too many programs trace") {
		t.Errorf("one more: %v", err)
	}
	if !r.fake.traced() {
		t.Error("not traced")
	}
	cancel()
	wg.Wait()
	eventually(t, "untraced", func() bool { return !r.fake.traced() })

	r.fake.err = errors.New("the kernel engine does not pause")
	if err := r.Trace(t.Context(), Filter{}, nil, nil); err == nil || !strings.Contains(err.Error(), "does not pause") {
		t.Errorf("error %v", err)
	}
	if r.fake.traced() {
		t.Error("traced after a failure")
	}
	r.fake.err = nil
	if err := r.Trace(t.Context(), Filter{}, func() { go r.stop() }, nil); !errors.Is(err, ErrGone) {
		t.Errorf("when the daemon stops: %v", err)
	}
	if r.fake.traced() {
		t.Error("still traced after the end")
	}
}

// A reader that is too slow is told how much it missed.
func TestMissed(t *testing.T) {
	n := &trace{matcher: newMatcher(Filter{}), ready: make(chan struct{}, 1)}
	h := tracing{backend: new(fake)}
	h.all.Store(&[]*trace{n})
	const packets = 100000
	s := seen(siit.Translated, siit.None, udp4(1400), udp6(1400))
	for range packets {
		h.see("a", s)
	}
	kept := len(n.take())
	h.see("a", s)
	if last := n.take(); kept == 0 || len(last) != 1 || int(last[0].Missed) != packets-kept {
		t.Errorf("%d kept, then %+v", kept, last)
	}
}

func TestFilterCheck(t *testing.T) {
	for _, tt := range []struct {
		filter Filter
		want   string
	}{
		{Filter{Reason: "none"}, `unknown reason "none"; allowed: not-ip, truncated, `},
		{Filter{Verdict: "lost"}, `unknown verdict "lost"; allowed: translated, reply, drop, collected`},
		{Filter{Protocol: "ospf"}, `unknown protocol "ospf"; allowed: tcp, udp, icmp, and numbers from 0 to 255`},
		{Filter{Protocol: "256"}, `unknown protocol "256"`},
		{Filter{Snaplen: -1}, `snapshot length -1 is not between 0 and 65575`},
	} {
		if err := tt.filter.Check(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%v\nwant %s", err, tt.want)
		}
	}
	f := Filter{Uplink: "wlan0", Reason: "too-big", Verdict: Reply, Protocol: "icmp", Address: netip.MustParsePrefix("64:ff9b::/96"), Snaplen: 100}
	if got, err := parseFilter(f.query()); got != f || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if Explanation("ttl-exceeded") != siit.TTLExceeded.Explanation() || Explanation("from-the-future") != "" {
		t.Error("explanations are wrong")
	}
}

// Extension headers do not hide the protocol, and malformed packets match too.
func TestFilterReadsThroughExtensions(t *testing.T) {
	p := append(udp6(0)[:40], 44, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 8, 0, 0, 0, 1) // Hop-by-Hop, Fragment, TCP cut off
	p[4], p[5], p[6] = 0, 16, 0
	tcp := newMatcher(Filter{Protocol: "tcp"})
	if !tcp.match("", Drop, engine.Seen{Packet: p}) {
		t.Error("a fragment of TCP does not match tcp")
	}
	source, _ := netip.AddrFromSlice(p[8:24])
	from := newMatcher(Filter{Address: netip.PrefixFrom(source, 128)})
	for n := range p {
		if got := from.match("", Drop, engine.Seen{Packet: p[:n]}); got != (n >= 40) {
			t.Errorf("%d bytes of the packet match: %v", n, got)
		}
	}
}
