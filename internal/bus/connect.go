package bus

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// dialing is an attempt to connect that several questions may wait for.
type dialing struct {
	over chan struct{} // closed when err is final
	err  error
}

// connection is the connection to the bus, which is opened when it is needed and
// again when it has ended.
type connection struct {
	address string
	timeout time.Duration // of connecting, and of one question to one service

	signals signals
	silence silence

	ctx   context.Context // ends with close
	close context.CancelFunc

	mu      sync.Mutex
	session *session // nil: not connected
	dialing *dialing // the attempt under way; nil: none

	retrying bool // retry runs
}

// connect returns the session, and opens one if there is none.
func (c *connection) connect(ctx context.Context) (*session, error) {
	d, s, err := c.attempt()
	if d == nil {
		return s, err
	}
	select {
	case <-d.over:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w at %q: %w", ErrNoBus, c.address, context.Cause(ctx))
	}
	if d.err != nil {
		return nil, d.err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return nil, fmt.Errorf("%w at %q: the connection was closed at once", ErrNoBus, c.address)
	}
	return c.session, nil
}

// attempt returns the session or why there cannot be one now, or else the
// attempt to wait for.
func (c *connection) attempt() (*dialing, *session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ctx.Err() != nil:
		return nil, nil, ErrClosed
	case c.session != nil:
		return nil, c.session, nil
	case c.dialing != nil:
		return c.dialing, nil, nil
	}
	if rest := c.silence.left(""); rest > 0 {
		return nil, nil, fmt.Errorf("%w: %q %w; next attempt in %s", ErrNoBus, c.address, ErrSilent, rest)
	}
	c.dialing = &dialing{over: make(chan struct{})}
	go c.dial(c.dialing)
	return c.dialing, nil, nil
}

// dial opens a session and keeps it.
func (c *connection) dial(d *dialing) {
	s, err := open(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(d.over)
	c.dialing = nil
	switch {
	case c.ctx.Err() != nil:
		d.err = ErrClosed
	case err != nil:
		d.err = err
		c.retryLater()
	default:
		c.session = s
		c.silence.forgetAll()
		c.signals.tellDNS() // nobody has told of changes until now
		go c.keep(s)
	}
}

// keep waits for the end of s and sees to it that there is another one.
func (c *connection) keep(s *session) {
	<-s.conn.Context().Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = nil
	c.retryLater()
}

// retryLater sees to it that the bus is tried again even if nobody asks, as only
// a connection tells of changes. The caller holds c.mu.
func (c *connection) retryLater() {
	if !c.retrying {
		c.retrying = true
		go c.retry()
	}
}

// retry connects again, with growing pauses.
func (c *connection) retry() {
	pause := firstPause
	for range attempts {
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
			return
		}
		c.connect(c.ctx) // which tells those who wait for signals
		if c.retried() {
			return
		}
		pause = min(2*pause, lastPause)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retrying = false
}

// retried reports whether there is a session, and if so ends the retries.
func (c *connection) retried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retrying = c.session == nil
	return !c.retrying
}
