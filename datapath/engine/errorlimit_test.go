package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// errorTo is the beginning of an ICMP error to dst that quotes a packet to
// quoted.
func errorTo(dst, quoted string) []byte {
	d, q := netip.MustParseAddr(dst), netip.MustParseAddr(quoted)
	if d.Is4() {
		p := make([]byte, 56)
		p[0] = 0x45
		copy(p[16:], d.AsSlice())
		copy(p[28+16:], q.AsSlice())
		return p
	}
	p := make([]byte, 96)
	p[0] = 0x60
	copy(p[24:], d.AsSlice())
	copy(p[48+24:], q.AsSlice())
	return p
}

// errorFlood asks for errors at a fixed rate, as time goes on.
type errorFlood struct {
	limits *errorLimits
	now    time.Time
	sent   int
}

// run asks for perSecond errors in each of so many seconds. packet returns the
// nth, each is called after every one of them.
func (f *errorFlood) run(seconds, perSecond int, packet func(n int) []byte, each func(n int)) {
	for n := range seconds * perSecond {
		f.now = f.now.Add(time.Second / time.Duration(perSecond))
		if f.limits.allow(packet(n), f.now) {
			f.sent++
		}
		if each != nil {
			each(n)
		}
	}
}

func newFlood(perSecond int) *errorFlood {
	l := newErrorLimits(perSecond)
	return &errorFlood{limits: &l, now: time.Now()}
}

func constant(p []byte) func(int) []byte { return func(int) []byte { return p } }

// Ten errors for a traceroute, one every 100 ms, in the middle of a flood.
func TestErrorLimitFairness(t *testing.T) {
	local, mine := constant(errorTo("192.0.0.1", "198.51.100.7")), errorTo("192.0.0.1", "203.0.113.80")
	outside := constant(errorTo("2001:db8:bad::1", "2001:db8::c1a7"))
	spread := func(n int) []byte { // over the addresses of a /64
		p := errorTo("2001:db8:bad::", "2001:db8::c1a7")
		binary.BigEndian.PutUint32(p[36:], uint32(n))
		return p
	}
	fan := func(n int) []byte { // one program that sends everywhere
		p := errorTo("192.0.2.66", "198.51.100.7")
		binary.BigEndian.PutUint32(p[28+16:], uint32(n))
		return p
	}
	for _, tt := range []struct {
		name  string
		flood func(int) []byte
		mine  []byte
	}{
		{"from outside, against a local program", outside, mine},
		{"from a whole /64 outside, against a local program", spread, mine},
		{"from a local program, against another with another destination", local, mine},
		{"from a local host to everywhere, against another local host", fan, mine},
		{"from outside, against another outside host", outside, errorTo("2001:db8:900d::1", "2001:db8::c1a7")},
		{"from a whole /64 outside, against another outside host", spread, errorTo("2001:db8:900d::1", "2001:db8::c1a7")},
		{"from outside, against a neighbour in the same /64", outside, errorTo("2001:db8:bad::2", "2001:db8::c1a7")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, perSecond := range []int{400, 100_000} {
				f := newFlood(100)
				f.run(5, perSecond, tt.flood, nil)
				got := 0
				f.run(1, perSecond, tt.flood, func(n int) {
					if n%(perSecond/10) == 0 && f.limits.allow(tt.mine, f.now) {
						got++
					}
				})
				if got != 10 {
					t.Errorf("%d packets/s: %d of 10 errors were sent", perSecond, got)
				}
				// A burst works as well, a little later.
				f.run(10, perSecond, tt.flood, nil)
				got = 0
				for range 10 {
					if f.limits.allow(tt.mine, f.now) {
						got++
					}
				}
				if got != 10 {
					t.Errorf("%d packets/s: %d of 10 errors at once were sent", perSecond, got)
				}
			}
		})
	}
}

// Whatever comes, a side sends no more than its rate in the long run, and a
// single destination gets all of it if nobody else wants any.
func TestErrorLimitRate(t *testing.T) {
	for _, perSecond := range []int{1, 10, 100, 1000} {
		for name, flood := range map[string]func(int) []byte{
			"one destination": constant(errorTo("192.0.0.1", "198.51.100.7")),
			"many destinations": func(n int) []byte {
				p := errorTo("2001:db8::1", "2001:db8::c1a7")
				binary.BigEndian.PutUint32(p[28:], uint32(n))
				return p
			},
		} {
			f := newFlood(perSecond)
			f.run(2+30/perSecond, 5000, flood, nil) // the burst, and until the reserve is full again
			f.sent = 0
			f.run(20, 5000, flood, nil)
			if least, most := 20*perSecond-1, 20*perSecond+1; f.sent < least || f.sent > most {
				t.Errorf("%d per second, %s: %d errors in 20 s", perSecond, name, f.sent)
			}
		}
	}
}

func TestErrorLimitBurst(t *testing.T) {
	for _, tt := range []struct{ perSecond, want int }{{0, 0}, {-1, 0}, {1, 10}, {10, 10}, {30, 30}, {100, 100}, {1 << 30, 5000}} {
		f := newFlood(tt.perSecond)
		for range 5000 {
			if f.limits.allow(errorTo("192.0.0.1", "198.51.100.7"), f.now) {
				f.sent++
			}
		}
		if f.sent != tt.want {
			t.Errorf("%d per second: %d errors at once, want %d", tt.perSecond, f.sent, tt.want)
		}
	}
}

func TestErrorLimitDoesNotAllocate(t *testing.T) {
	f := newFlood(100)
	p := errorTo("2001:db8::1", "2001:db8::c1a7")
	n := uint32(0)
	if allocs := testing.AllocsPerRun(2000, func() {
		n++
		binary.BigEndian.PutUint32(p[28:], n)
		f.limits.allow(p, f.now)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
