package pref64

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	server1 = netip.MustParseAddr("2001:db8:53::1")
	server2 = netip.MustParseAddr("2001:db8:53::2")
	server3 = netip.MustParseAddr("2001:db8:53::3")
)

// fakeDNS is a network of DNS servers in memory.
type fakeDNS struct {
	t       *testing.T
	mu      sync.Mutex
	servers map[netip.Addr]handler
	asked   []asking
}

// handler answers one question. Each message that it sends is a datagram, or
// what one write to a TCP connection holds.
type handler func(network string, q []byte, send func([]byte) error)

type asking struct {
	at      time.Time
	network string
	server  netip.Addr
}

// set makes server answer like h; nil: it is silent.
func (n *fakeDNS) set(server netip.Addr, h handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[server] = h
}

// answers makes server give the reply to every question.
func (n *fakeDNS) answers(server netip.Addr, r reply) {
	n.set(server, func(network string, q []byte, send func([]byte) error) {
		msg := r.from(n.t, q)
		if network == "tcp" {
			msg = append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
		}
		send(msg)
	})
}

// count returns how often anybody was asked since the last call.
func (n *fakeDNS) count() int { return len(n.take()) }

func (n *fakeDNS) take() []asking {
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := n.asked
	n.asked = nil
	return asked
}

func (n *fakeDNS) dial(ctx context.Context, network string, server netip.Addr) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, asking{time.Now(), network, server})
	h, ok := n.servers[server]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	}
	ours, theirs := net.Pipe()
	go func() {
		defer ours.Close()
		buf := make([]byte, 512)
		for {
			read, err := ours.Read(buf)
			if err != nil {
				return
			}
			q := bytes.Clone(buf[:read])
			if network == "tcp" {
				q = q[2:]
			}
			if !bytes.Equal(q[2:], query(0)[2:]) {
				n.t.Errorf("asked %x", q)
			}
			if h != nil {
				h(network, q, func(b []byte) error { _, err := ours.Write(b); return err })
			}
			if network == "tcp" {
				return
			}
		}
	}()
	return theirs, nil
}

// fakeRouters is a Source that hears what the test says.
type fakeRouters struct {
	mu       sync.Mutex
	solicits int
	renewals int
	attaches int
	runs     int
	fail     error // what Run gives
}

func (r *fakeRouters) Run(ctx context.Context, _ func(Report)) error {
	r.mu.Lock()
	r.runs++
	err := r.fail
	r.mu.Unlock()
	if err == nil {
		<-ctx.Done()
	}
	return err
}

func (r *fakeRouters) Solicit() { r.mu.Lock(); r.solicits++; r.mu.Unlock() }

func (r *fakeRouters) renew() { r.mu.Lock(); r.renewals++; r.mu.Unlock() }

// renewed returns how often renew was called.
func (r *fakeRouters) renewed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.renewals
}

func (r *fakeRouters) attached() { r.mu.Lock(); r.attaches++; r.mu.Unlock() }

// lookout is a Finder at work in a test.
type lookout struct {
	*Finder
	t       *testing.T
	dns     *fakeDNS
	routers *fakeRouters
	own     []netip.Addr // what Options.Resolvers gives
	log     lockedBuffer
	start   time.Time
}

const uplink = 7

// newLookout starts a Finder with both sources, whose link has the resolver
// server1. The options may be changed before.
func newLookout(t *testing.T, change func(o *Options)) *lookout {
	l := &lookout{t: t, routers: &fakeRouters{}, own: []netip.Addr{server1}, start: time.Now()}
	l.dns = &fakeDNS{t: t, servers: map[netip.Addr]handler{}}
	o := Options{Interface: uplink, Name: "up0", RA: true, DNS: true,
		Resolvers: func(context.Context) []netip.Addr { return l.own },
		Log:       textLog(&l.log)}
	if change != nil {
		change(&o)
	}
	l.Finder = newFinder(o, l.routers, l.dns.dial)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return l
}

// hear has router send an RA with the prefixes, for an hour, and for addresses
// of pio.
func (l *lookout) hear(router netip.Addr, pio netip.Prefix, prefixes ...netip.Prefix) {
	ra := RouterAdvertisement{Router: router, RouterLifetime: 30 * time.Minute}
	if pio.IsValid() {
		ra.Prefixes = []PrefixInfo{{Prefix: pio, OnLink: true, Autonomous: true, Valid: 2 * time.Hour, Preferred: 2 * time.Hour}}
	}
	for _, p := range prefixes {
		ra.PREF64 = append(ra.PREF64, PREF64{Prefix: p, Lifetime: time.Hour})
	}
	l.send(ra)
}

func (l *lookout) send(ra RouterAdvertisement) {
	l.Finder.hear(ra.report(uplink, time.Now()))
	synctest.Wait()
}

// sleep lets time pass.
func (l *lookout) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// uses checks which prefix is in use and from whom.
func (l *lookout) uses(p netip.Prefix, origin Origin, from netip.Addr) {
	l.t.Helper()
	synctest.Wait()
	o, _ := l.Current()
	if o.Prefix != p || p.IsValid() && (o.Origin != origin || o.Router != from) {
		l.t.Fatalf("after %v: in use %v of %v from %v, want %v of %v from %v\n%s", time.Since(l.start), o.Prefix, o.Origin, o.Router, p, origin, from, l.Snapshot().Discovery)
	}
	s := l.Snapshot()
	if len(s.Candidates) == 0 == p.IsValid() || p.IsValid() && s.Candidates[0].Prefix != p {
		l.t.Fatalf("candidates %v", s.Candidates)
	}
}

// usesNone checks that no prefix is in use.
func (l *lookout) usesNone() { l.t.Helper(); l.uses(netip.Prefix{}, 0, netip.Addr{}) }

// asks checks how often DNS was asked since the last call.
func (l *lookout) asks(want int) {
	l.t.Helper()
	synctest.Wait()
	if got := l.dns.take(); len(got) != want {
		l.t.Fatalf("after %v: asked %d times, want %d: %v\n%s", time.Since(l.start), len(got), want, got, l.Snapshot().Discovery)
	}
}

// says checks the words of the Snapshot.
func (l *lookout) says(want string) {
	l.t.Helper()
	synctest.Wait()
	if got := l.Snapshot().Discovery; got != want {
		l.t.Fatalf("says\n%s\nwant\n%s", got, want)
	}
}

// announced reports whether Changed has something.
func (l *lookout) announced() bool {
	synctest.Wait()
	select {
	case <-l.Changed():
		return true
	default:
		return false
	}
}

func servers(list []asking) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, a.server)
	}
	return slices.Compact(all)
}

func textLog(to io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(to, nil)) }

var errTest = errors.New("out of order")
