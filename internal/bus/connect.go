package bus

import (
	"context"
	"fmt"
	"time"
)

// dialing is an attempt to connect that several questions may wait for.
type dialing struct {
	over chan struct{} // closed when err is final
	err  error
}

// connect returns the session, and opens one if there is none.
func (b *Bus) connect(ctx context.Context) (*session, error) {
	d, s, err := b.attempt()
	if d == nil {
		return s, err
	}
	select {
	case <-d.over:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w at %q: %w", ErrNoBus, b.address, context.Cause(ctx))
	}
	if d.err != nil {
		return nil, d.err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session == nil {
		return nil, fmt.Errorf("%w at %q: the connection was closed at once", ErrNoBus, b.address)
	}
	return b.session, nil
}

// attempt returns the session or why there cannot be one now, or else the
// attempt to wait for.
func (b *Bus) attempt() (*dialing, *session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ctx.Err() != nil:
		return nil, nil, ErrClosed
	case b.session != nil:
		return nil, b.session, nil
	case b.dialing != nil:
		return b.dialing, nil, nil
	}
	if rest := b.silence.left(""); rest > 0 {
		return nil, nil, fmt.Errorf("%w: %q %w; next attempt in %s", ErrNoBus, b.address, ErrSilent, rest)
	}
	b.dialing = &dialing{over: make(chan struct{})}
	go b.dial(b.dialing)
	return b.dialing, nil, nil
}

// dial opens a session and keeps it.
func (b *Bus) dial(d *dialing) {
	s, err := open(b)
	b.mu.Lock()
	defer b.mu.Unlock()
	defer close(d.over)
	b.dialing = nil
	switch {
	case b.ctx.Err() != nil:
		d.err = ErrClosed
	case err != nil:
		d.err = err
		b.retryLater()
	default:
		b.session = s
		b.silence.forgetAll()
		b.signals.tellDNS() // nobody has told of changes until now
		go b.keep(s)
	}
}

// keep waits for the end of s and sees to it that there is another one.
func (b *Bus) keep(s *session) {
	<-s.conn.Context().Done()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = nil
	b.retryLater()
}

// retryLater sees to it that the bus is tried again even if nobody asks, as only
// a connection tells of changes. The caller holds b.mu.
func (b *Bus) retryLater() {
	if !b.retrying {
		b.retrying = true
		go b.retry()
	}
}

// retry connects again, with growing pauses.
func (b *Bus) retry() {
	pause := firstPause
	for range attempts {
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
			return
		}
		b.connect(b.ctx) // which tells those who wait for signals
		if b.retried() {
			return
		}
		pause = min(2*pause, lastPause)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retrying = false
}

// retried reports whether there is a session, and if so ends the retries.
func (b *Bus) retried() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retrying = b.session == nil
	return !b.retrying
}
