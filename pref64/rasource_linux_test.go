package pref64

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netns"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// running is an RASource at work in the host's namespace, with its Tracker.
type running struct {
	*RASource
	t       *testing.T
	tracker *Tracker
	reports chan Report
	log     lockedBuffer
}

// start runs an RASource until the test ends. If uid is not 0 it has that user
// and no capability.
func (l *testLink) start(uid int) *running {
	l.t.Helper()
	r := &running{t: l.t, reports: make(chan Report, 10000)}
	log := slog.New(slog.NewTextHandler(&r.log, nil))
	r.RASource = NewRASource(l.index, log)
	r.tracker = NewTracker(nil, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends here
		err := netns.Set(l.net.host)
		if err == nil && uid != 0 {
			// Of this thread alone: it ends with the function.
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				err = errno
			}
		}
		if err == nil {
			err = r.Run(ctx, func(rep Report) {
				r.tracker.Apply(rep)
				r.reports <- rep
			})
		}
		done <- err
	}()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("Run: %v", err)
		}
		r.tracker.Close()
	})
	return r
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// next returns the next report.
func (r *running) next() Report {
	r.t.Helper()
	select {
	case rep := <-r.reports:
		return rep
	case <-time.After(60 * time.Second):
		r.t.Fatalf("no report within 60 s; log:\n%s", &r.log)
		return Report{}
	}
}

// expect waits until the tracker has changed to want.
func (r *running) expect(want netip.Prefix) {
	r.t.Helper()
	select {
	case <-r.tracker.Changed():
	case <-time.After(60 * time.Second):
		r.t.Fatalf("no change within 60 s; want %v; log:\n%s", want, &r.log)
	}
	if o, _ := r.tracker.Current(); o.Prefix != want {
		r.t.Fatalf("in use %v, want %v", o.Prefix, want)
	}
}

// known returns what the tracker remembers.
func (r *running) known() []entry {
	r.tracker.mu.Lock()
	defer r.tracker.mu.Unlock()
	return slices.Clone(r.tracker.state.prefixes)
}

// advertise sends an RA of a default router.
func (l *testLink) advertise(from netip.Addr, opts ...ndp.Option) {
	l.t.Helper()
	l.send(from, 255, advertisement(l.t, from, opts...))
}

func advertisement(t *testing.T, from netip.Addr, opts ...ndp.Option) []byte {
	t.Helper()
	msg, err := ndp.MarshalMessageChecksum(&ndp.RouterAdvertisement{RouterLifetime: 30 * time.Minute, Options: opts}, from, allNodes)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func option(p netip.Prefix, lifetime time.Duration) ndp.Option {
	return &ndp.PREF64{Prefix: p, Lifetime: lifetime}
}

// TestRASourceRaw: the kernel ignores RAs because a network manager reads
// them; the raw socket asks, hears, and hears the withdrawal.
func TestRASourceRaw(t *testing.T) {
	l := newTestNet(t, 0).newLink("up0")
	r := l.start(0)

	rs, err := l.solicitation()
	if err != nil {
		t.Fatal(err)
	}
	src, dst := netip.AddrFrom16([16]byte(rs[8:])), netip.AddrFrom16([16]byte(rs[24:]))
	if rs[7] != 255 || !isLinkLocal(src) || dst != allRouters {
		t.Errorf("solicitation from %v to %v with hop limit %d", src, dst, rs[7])
	}
	want := solicitation(l.hostMAC)
	want[2], want[3] = rs[42], rs[43] // the checksum
	if !bytes.Equal(rs[40:], want) {
		t.Errorf("solicitation %x, want %x", rs[40:], want)
	}
	if sum := checksum(src, dst, rs[40:]); sum != 0xffff {
		t.Errorf("solicitation has a bad checksum: sum %#x", sum)
	}

	pio := &ndp.PrefixInformation{Prefix: netip.MustParseAddr("2001:db8:1::"), PrefixLength: 64, OnLink: true,
		AutonomousAddressConfiguration: true, ValidLifetime: time.Hour, PreferredLifetime: time.Hour}
	l.advertise(router1, pio, ndp.NewMTU(1400), option(prefixA, 30*time.Minute), option(prefixB, time.Hour))
	rep := r.next()
	if rep.RA == nil || rep.RA.MTU != 1400 || rep.RA.RouterLifetime != 30*time.Minute ||
		len(rep.RA.Prefixes) != 1 || len(rep.Observations) != 2 || len(rep.Ignored) != 0 {
		t.Errorf("report %+v", rep)
	}
	r.expect(prefixA)
	o, _ := r.tracker.Current()
	if o.Router != router1 || o.Interface != l.index || time.Until(o.Expires).Round(time.Minute) != 30*time.Minute {
		t.Errorf("got %+v", o)
	}

	l.advertise(router1, option(prefixA, 0))
	r.expect(prefixB)
	l.advertise(router1, option(prefixB, 0))
	r.expect(none)
	if s := r.log.String(); strings.Contains(s, "level=WARN") {
		t.Errorf("logged:\n%s", s)
	}
}

// TestRASourceOwn has the host be a router itself on the link: it does not hear its
// own RAs, but those of another router.
func TestRASourceOwn(t *testing.T) {
	l := newTestNet(t, 0).newLink("up0")
	r := l.start(0)
	if _, err := l.solicitation(); err != nil { // the sockets are open
		t.Fatal(err)
	}
	var own net.PacketConn
	l.net.in(l.net.host, func() (err error) {
		own, err = net.ListenPacket("ip6:58", "::")
		return err
	})
	defer own.Close()
	conn := ipv6.NewPacketConn(own)
	if on, err := conn.MulticastLoopback(); err != nil || !on {
		t.Fatalf("the host does not hear itself: %v, %v", on, err)
	}
	msg := advertisement(t, router1, option(prefixA, time.Hour))
	if _, err := conn.WriteTo(msg, &ipv6.ControlMessage{HopLimit: 255, IfIndex: l.index}, &net.IPAddr{IP: allNodes.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	l.advertise(router1, option(prefixB, time.Hour))
	if rep := r.next(); len(rep.Observations) != 1 || rep.Observations[0].Prefix != prefixB {
		t.Errorf("report %+v, want only %s", rep, prefixB)
	}
	r.expect(prefixB)
}

// checksum adds up an ICMPv6 message with its pseudo-header; 0xffff is right.
func checksum(src, dst netip.Addr, msg []byte) uint16 {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(msg)))
	b = append(b, 0, 0, 0, 58)
	b = append(b, msg...)
	var sum uint32
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// TestRASourceUnprivileged: without CAP_NET_RAW the kernel's reports suffice.
func TestRASourceUnprivileged(t *testing.T) {
	l := newTestNet(t, 1).newLink("up0")
	r := l.start(65534)
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(r.log.String(), "accept_ra"); {
		if time.Now().After(deadline) {
			t.Fatalf("no word about the raw socket; log:\n%s", &r.log)
		}
		time.Sleep(time.Millisecond)
	}

	l.advertise(router1, option(prefixA, 30*time.Minute), option(prefixB, time.Hour))
	rep := r.next()
	if rep.RA != nil || len(rep.Observations) != 2 || len(rep.Ignored) != 0 {
		t.Errorf("report %+v", rep)
	}
	r.expect(prefixA)
	if o, _ := r.tracker.Current(); o.Router != router1 || o.Interface != l.index || o.Origin != RA {
		t.Errorf("got %+v", o)
	}

	// Renumbering comes as two messages of the kernel, and is one change.
	r.next0()
	l.advertise(router1, option(prefixA, 0), option(prefixB, 0), option(prefixC, time.Hour))
	r.expect(prefixC)
	if n := len(r.next().Observations); n != 3 {
		t.Errorf("%d observations in one report, want 3", n)
	}
	l.advertise(router1, option(prefixC, 0))
	r.expect(none)
	if n := strings.Count(r.log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d lines logged:\n%s", n, &r.log)
	}
}

// next0 drops the reports that are waiting.
func (r *running) next0() {
	for {
		select {
		case <-r.reports:
		default:
			return
		}
	}
}

// TestRASourceBothWays: the same RA by kernel and raw socket is one change,
// and a withdrawal too.
func TestRASourceBothWays(t *testing.T) {
	l := newTestNet(t, 1).newLink("up0")
	r := l.start(0)
	if _, err := l.solicitation(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		opts []ndp.Option
		want netip.Prefix
	}{
		{[]ndp.Option{option(prefixA, time.Hour)}, prefixA},
		{[]ndp.Option{option(prefixA, 0), option(prefixB, time.Hour)}, prefixB},
		{[]ndp.Option{option(prefixB, 0)}, none},
	} {
		l.advertise(router1, c.opts...)
		whole, kernel := 0, 0
		for range 2 {
			if r.next().RA != nil {
				whole++
			} else {
				kernel++
			}
		}
		if whole != 1 || kernel != 1 {
			t.Fatalf("%d reports by the raw socket, %d by the kernel", whole, kernel)
		}
		r.expect(c.want)
		select {
		case <-r.tracker.Changed():
			t.Error("more than one change")
		default:
		}
	}
}

// TestRASourceHostile: bad RAs on the wire, by both ways. After each a good
// one shows that the source is alive and that all before it has been seen.
func TestRASourceHostile(t *testing.T) {
	l := newTestNet(t, 1).newLink("up0")
	r := l.start(0)
	if _, err := l.solicitation(); err != nil {
		t.Fatal(err)
	}
	evil := netip.MustParsePrefix("2001:db8:bad::/96")
	good := advertisement(t, router1, option(evil, time.Hour))
	// again returns the message with something changed and the checksum right.
	again := func(src netip.Addr, change func(b []byte) []byte) []byte {
		b := change(bytes.Clone(good))
		b[2], b[3] = 0, 0
		binary.BigEndian.PutUint16(b[2:], ^checksum(src, allNodes, b))
		return b
	}
	global := netip.MustParseAddr("2001:db8::1")
	earlier := map[Reason]bool{} // the kernel's own report of a case may come during a later one
	for _, c := range []struct {
		name string
		send func()
		want Reason // None: the kernel drops it before we see it
	}{
		{"bad checksum", func() {
			b := bytes.Clone(good)
			b[2] ^= 1
			l.send(router1, 255, b)
		}, None},
		{"hop limit 254", func() { l.send(router1, 254, good) }, HopLimit},
		{"global source", func() {
			l.send(global, 255, again(global, func(b []byte) []byte { return b }))
		}, NotLinkLocal},
		{"code 1", func() {
			l.send(router1, 255, again(router1, func(b []byte) []byte { b[1] = 1; return b }))
		}, BadCode},
		{"12 bytes", func() {
			l.send(router1, 255, again(router1, func(b []byte) []byte { return b[:12] }))
		}, Truncated},
		{"option of length 0 at the end", func() {
			l.send(router1, 255, again(router1, func(b []byte) []byte { return append(b, 253, 0, 0, 0, 0, 0, 0, 0) }))
		}, OptionLengthZero},
		{"option beyond the end", func() {
			l.send(router1, 255, again(router1, func(b []byte) []byte { return append(b, 253, 2, 0, 0, 0, 0, 0, 0) }))
		}, OptionTruncated},
		{"PLC 7", func() {
			l.send(router1, 255, again(router1, func(b []byte) []byte { b[19] |= 7; return b }))
		}, BadPLC},
		{"PREF64 of 24 bytes", func() {
			l.send(router1, 255, again(router1, func(b []byte) []byte { b[17] = 3; return append(b, make([]byte, 8)...) }))
		}, BadLength},
		{"multicast prefix", func() {
			l.send(router1, 255, again(router1, func(b []byte) []byte { b[20] = 0xff; return b }))
		}, BadPrefix},
		{"in two fragments", func() {
			l.sendIPv6(router1, 44, 255, append([]byte{58, 0, 0, 1, 0, 0, 0, 1}, good[:24]...))
			l.sendIPv6(router1, 44, 255, append([]byte{58, 0, 0, 24, 0, 0, 0, 1}, good[24:]...))
		}, Fragmented},
		{"in an atomic fragment", func() {
			l.sendIPv6(router1, 44, 255, append([]byte{58, 0, 0, 0, 0, 0, 0, 2}, good...))
		}, Fragmented},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			before := r.tracker.IgnoredTotals()
			c.send()
			l.advertise(router1, option(prefixA, time.Hour))
			r.expect(prefixA)
			l.advertise(router1, option(prefixA, 0))
			r.expect(none)
			after := r.tracker.IgnoredTotals()
			for reason := range NumReasons {
				wanted := reason == c.want && reason != None
				if n := after[reason] - before[reason]; n > 0 && !wanted && !earlier[reason] || n == 0 && wanted {
					t.Errorf("%v counted %d times, want only %v", reason, n, c.want)
				}
			}
			for _, e := range r.known() {
				t.Errorf("remembered %v", e.Prefix)
			}
			earlier[c.want] = true
			r.tracker.event((*state).attach) // keeps the limit on changes out of this test
		})
	}
}

// TestRASourceFlood: 200 prefixes on the wire while one is in use.
func TestRASourceFlood(t *testing.T) {
	l := newTestNet(t, 1).newLink("up0")
	r := l.start(0)
	if _, err := l.solicitation(); err != nil {
		t.Fatal(err)
	}
	l.advertise(router1, option(prefixA, time.Hour))
	r.expect(prefixA)
	for i := range 20 {
		var opts []ndp.Option
		for j := range 10 {
			opts = append(opts, option(flooded(10*i+j), 8*time.Second))
		}
		l.advertise(router2, opts...)
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		if r.tracker.IgnoredTotals()[TooMany] >= 200-maxPerRouter {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("ignored %v", r.tracker.IgnoredTotals())
		}
		time.Sleep(time.Millisecond)
	}
	if o, _ := r.tracker.Current(); o.Prefix != prefixA {
		t.Errorf("in use %v, want %v", o.Prefix, prefixA)
	}
	select {
	case <-r.tracker.Changed():
		t.Error("a change was announced")
	default:
	}
	if n := strings.Count(r.log.String(), "\n"); n > 2 {
		t.Errorf("%d lines logged:\n%s", n, &r.log)
	}
}

// TestRASourceLinkFlap: the link goes away at either end and comes back.
func TestRASourceLinkFlap(t *testing.T) {
	for _, acceptRA := range []int{0, 1} {
		t.Run(fmt.Sprintf("accept_ra=%d", acceptRA), func(t *testing.T) {
			t.Parallel() // most of the time is the 4 s between solicitations
			l := newTestNet(t, acceptRA).newLink("up0")
			r := l.start(0)
			if _, err := l.solicitation(); err != nil {
				t.Fatal(err)
			}
			l.advertise(router1, option(prefixA, time.Hour))
			r.expect(prefixA)

			check := func(want netip.Prefix) {
				t.Helper()
				r.Solicit()
				if _, err := l.solicitation(); err != nil {
					t.Fatal(err)
				}
				l.advertise(router1, option(r.current(), 0), option(want, time.Hour))
				r.expect(want)
			}
			for _, err := range []error{
				l.hostHandle.LinkSetDown(l.hostLink),
				l.hostHandle.LinkSetUp(l.hostLink),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			check(prefixB)

			if err := l.routerHandle.LinkSetDown(l.rtr); err != nil {
				t.Fatal(err)
			}
			r.Solicit() // comes too early, and is not the last
			time.Sleep(50 * time.Millisecond)
			if err := l.routerHandle.LinkSetUp(l.rtr); err != nil {
				t.Fatal(err)
			}
			check(prefixC)
			if s := r.log.String(); strings.Contains(s, "level=WARN") {
				t.Errorf("logged:\n%s", s)
			}
		})
	}
}

func (r *running) current() netip.Prefix {
	o, _ := r.tracker.Current()
	return o.Prefix
}

// TestRASourceOtherLink shows that RAs of another interface do not count.
func TestRASourceOtherLink(t *testing.T) {
	n := newTestNet(t, 1)
	other, l := n.newLink("up0"), n.newLink("up1")
	r := l.start(0)
	if _, err := l.solicitation(); err != nil {
		t.Fatal(err)
	}
	other.advertise(router1, option(prefixA, time.Hour))
	l.advertise(router1, option(prefixB, time.Hour))
	r.expect(prefixB)
	time.Sleep(20 * time.Millisecond)
	for _, e := range r.known() {
		if e.Prefix != prefixB {
			t.Errorf("remembered %+v", e)
		}
	}
}

// TestRASourceLinkDeleted: the source waits for its end in peace, and leaves
// no descriptor behind.
func TestRASourceLinkDeleted(t *testing.T) {
	l := newTestNet(t, 1).newLink("up0")
	before := openFiles(t)
	t.Run("", func(t *testing.T) {
		l := *l
		l.t = t
		r := l.start(0)
		if _, err := l.solicitation(); err != nil {
			t.Fatal(err)
		}
		if err := l.hostHandle.LinkDel(l.hostLink); err != nil {
			t.Fatal(err)
		}
		r.Solicit()
		time.Sleep(100 * time.Millisecond)
		if len(r.reports) != 0 {
			t.Errorf("reports %+v", <-r.reports)
		}
	})
	if after := openFiles(t); after != before {
		t.Errorf("%d open files, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// TestUserOptOverrun: the kernel drops reports, we count it and go on.
func TestUserOptOverrun(t *testing.T) {
	l := newTestNet(t, 1).newLink("up0")
	var c *userOptConn
	l.net.in(l.net.host, func() (err error) {
		c, err = openUserOpt(l.index)
		return err
	})
	defer c.close()
	if err := c.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		l.advertise(router1, option(prefixA, time.Hour))
	}
	r, err := c.read()
	if err != nil || !lost(r) {
		t.Fatalf("report %+v, error %v; want events lost", r, err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; {
		l.advertise(router1, option(prefixB, time.Hour))
		r, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(r.Observations); n > 0 && r.Observations[n-1].Prefix == prefixB {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is heard any more")
		}
	}
}

// TestReceive: read errors are waited out, but not forever.
func TestReceive(t *testing.T) {
	failure := os.NewSyscallError("recvfrom", unix.EIO)
	for _, c := range []struct {
		name     string
		failures int // in a row, twice
		broken   bool
	}{
		{"none", 0, false},
		{"bearable", readErrors - 1, false},
		{"broken", readErrors, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				reports, broken := make(chan Report), make(chan error, 1)
				n := 0
				go receive(ctx, func() (Report, error) {
					if n++; n%(c.failures+1) != 0 {
						return Report{}, failure
					}
					return Report{Ignored: []Ignored{{Reason: EventsLost}}}, nil
				}, reports, broken)
				for range 2 {
					select {
					case <-reports:
						if c.broken {
							t.Fatal("went on reading")
						}
					case err := <-broken:
						if !c.broken || !errors.Is(err, unix.EIO) {
							t.Fatal(err)
						}
						return
					}
				}
			})
		})
	}
}

// TestReceiveFlood: what never ends is taken in at a bearable pace, and what
// comes seldom at once.
func TestReceiveFlood(t *testing.T) {
	for _, c := range []struct {
		name   string
		apart  time.Duration
		atMost int
	}{
		{"a flood", 0, maxMessages * int(1+10*time.Second/messagesWithin)},
		{"not quite a flood", messagesWithin / maxMessages, 1 + 10*maxMessages*int(time.Second)/int(messagesWithin)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				reports, n := make(chan Report), 0
				go func() {
					defer close(reports)
					receive(ctx, func() (Report, error) {
						if n++; n > 2*c.atMost {
							cancel()
						}
						time.Sleep(c.apart)
						return Report{Ignored: []Ignored{{Reason: BadPLC}}}, nil
					}, reports, make(chan error, 1))
				}()
				for range reports {
				}
				if n > c.atMost || n < c.atMost-maxMessages {
					t.Errorf("%d messages in ten seconds, want %d", n, c.atMost)
				}
			})
		})
	}
}

// TestReceiveEnds: the socket is closed because the source has to end.
func TestReceiveEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	broken := make(chan error, 1)
	receive(ctx, func() (Report, error) {
		cancel()
		return Report{}, net.ErrClosed
	}, nil, broken)
	if len(broken) != 0 {
		t.Error("an orderly end was reported as an error")
	}
}

// TestRASourceResolvers: resolvers come by both ways, and alone as well.
func TestRASourceResolvers(t *testing.T) {
	for _, c := range []struct {
		name     string
		acceptRA int
		uid      int
	}{{"kernel", 1, 65534}, {"raw", 0, 0}} {
		t.Run(c.name, func(t *testing.T) {
			l := newTestNet(t, c.acceptRA).newLink("up0")
			r := l.start(c.uid)
			if c.uid == 0 {
				if _, err := l.solicitation(); err != nil {
					t.Fatal(err)
				}
			} else {
				for deadline := time.Now().Add(60 * time.Second); !strings.Contains(r.log.String(), "accept_ra") && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
			}
			l.advertise(router1, &ndp.RecursiveDNSServer{Lifetime: time.Hour, Servers: addrs("2001:db8::53", "fe80::53")})
			rep := r.next()
			if len(rep.Resolvers) != 2 || rep.Resolvers[0].Addr != netip.MustParseAddr("2001:db8::53") || rep.Resolvers[1].Router != router1 ||
				time.Until(rep.Resolvers[0].Expires).Round(time.Minute) != time.Hour || len(rep.Observations)+len(rep.Ignored) != 0 {
				t.Errorf("report %+v", rep)
			}
		})
	}
}
