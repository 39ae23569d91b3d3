package pref64

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// RFC 4861 section 6.3.7 delays the first solicitation by up to a second,
	// so that hosts that come up together do not ask together. A daemon starts
	// when its host has been up for a while, and every delay is an outage for
	// IPv4-only programs: a tenth has to do. Solicit, which follows events
	// that many hosts see at once, takes the whole second.
	startDelay   = 100 * time.Millisecond // MAX_RTR_SOLICITATION_DELAY / 10
	solicitDelay = time.Second            // MAX_RTR_SOLICITATION_DELAY (RFC 4861 section 10)

	// A read error that is not a closed socket is waited out, this often.
	readErrors     = 10
	readErrorPause = time.Second

	// So many messages are taken in within so much time: a flood of them must
	// not keep a processor busy. The kernel drops what comes faster, and what
	// is true comes again.
	maxMessages    = 128
	messagesWithin = 640 * time.Millisecond
)

// RASource finds the prefixes that routers advertise on one interface (RFC
// 8781), by two ways at once: what the kernel passes on of the RAs it accepts,
// which needs no privilege, and a raw ICMPv6 socket, which needs CAP_NET_RAW
// and also hears RAs that the kernel does not accept because a network manager
// reads them. It survives that the interface goes down and up. It is a Source.
type RASource struct {
	ifindex  int
	log      *slog.Logger
	solicits chan struct{}
	renewals chan struct{}
	attaches chan struct{}
}

var _ Source = (*RASource)(nil)

// NewRASource returns a RASource for the interface with the given index. The
// log should carry its name.
func NewRASource(ifindex int, log *slog.Logger) *RASource {
	return &RASource{ifindex: ifindex, log: log, solicits: make(chan struct{}, 1), renewals: make(chan struct{}, 1), attaches: make(chan struct{}, 1)}
}

// Solicit makes Run ask the routers again: up to three Router Solicitations,
// at least 4 s apart, until a default router has answered. Call it when the
// link has come back, an address has appeared or the host has woken up. It
// does not block.
func (s *RASource) Solicit() {
	select {
	case s.solicits <- struct{}{}:
	default:
	}
}

// renew makes Run send one Router Solicitation, at least 4 s after the last.
func (s *RASource) renew() {
	select {
	case s.renewals <- struct{}{}:
	default:
	}
}

// attached makes Run ask the routers as at the start: the link may be another
// one, on which nothing has been asked yet.
func (s *RASource) attached() {
	select {
	case s.attaches <- struct{}{}:
	default:
	}
}

// Run solicits and reports RAs until ctx ends. It fails only if neither of the
// two ways is open, or one of them breaks for good. Sockets are opened, and
// the interface is looked at, in the network namespace of the goroutine that
// calls Run.
func (s *RASource) Run(ctx context.Context, emit func(Report)) error {
	ctx, cancel := context.WithCancel(ctx)
	reports := make(chan Report)
	broken := make(chan error, 2)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()

	userOpt, userOptErr := openUserOpt(s.ifindex)
	if userOptErr == nil {
		defer userOpt.close()
		readers.Go(func() { receive(ctx, userOpt.read, reports, broken) })
	}
	raw, rawErr := openRaw(ctx, s.ifindex)
	if rawErr == nil {
		defer raw.close()
		readers.Go(func() { receive(ctx, raw.read, reports, broken) })
	}
	switch {
	case userOptErr != nil && rawErr != nil:
		return fmt.Errorf("listen for router advertisements: %w", errors.Join(userOptErr, rawErr))
	case userOptErr != nil:
		s.log.Warn("the kernel does not report router advertisements; using the raw socket alone", "reason", userOptErr)
	case rawErr != nil:
		s.log.Warn("receiving only the router advertisements that the kernel accepts (accept_ra), and sending no solicitations", "reason", rawErr)
	}

	var sol solicitor
	timer := time.NewTimer(0)
	defer timer.Stop()
	if rawErr == nil {
		sol.start(time.Now().Add(rand.N(startDelay)))
	}
	for {
		timer.Stop()
		if sol.left > 0 {
			timer.Reset(time.Until(sol.next))
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return fmt.Errorf("listen for router advertisements: %w", err)
		case <-s.solicits:
			if rawErr == nil {
				sol.start(time.Now().Add(rand.N(solicitDelay)))
			}
		case <-s.renewals:
			if rawErr == nil {
				sol.once(time.Now().Add(rand.N(solicitDelay)))
			}
		case <-s.attaches:
			if rawErr == nil {
				sol.attach(time.Now().Add(rand.N(startDelay)))
			}
		case <-timer.C:
			if err := raw.solicit(); err == nil {
				sol.sent(time.Now())
			} else if sol.failed(time.Now()) {
				s.log.Warn("cannot send a router solicitation", "reason", err)
			}
		case r := <-reports:
			if r.RA != nil {
				sol.heard(r.RA)
			}
			if lost(r) {
				s.Solicit()
			}
			emit(r)
		}
	}
}

// lost reports whether r says that something was missed.
func lost(r Report) bool {
	for _, ig := range r.Ignored {
		if ig.Reason == EventsLost {
			return true
		}
	}
	return false
}

// receive passes on what read returns until ctx ends.
func receive(ctx context.Context, read func() (Report, error), reports chan<- Report, broken chan<- error) {
	began, seen := time.Now(), 0
	for failures := 0; ; {
		if seen++; seen > maxMessages {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(began.Add(messagesWithin))):
			}
			began, seen = time.Now(), 1
		}
		r, err := read()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if failures++; failures == readErrors {
				broken <- err
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(readErrorPause):
			}
			continue
		}
		failures = 0
		if r.RA == nil && r.Observations == nil && r.Resolvers == nil && r.Ignored == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case reports <- r:
		}
	}
}
