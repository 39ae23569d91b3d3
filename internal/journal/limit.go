package journal

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// window is for how long a line is not repeated.
	window = time.Minute
	// kinds is how many messages are remembered at a time.
	kinds = 128
	// variants is how many different lines of one message are written within a
	// window, and again how often one of them is if others came between: a
	// state that comes and goes is told, up to a point.
	variants = 10
	again    = 5
)

// Handler is a slog.Handler that passes records on to another one, but not the
// same ones again and again. After a line has been passed on, those like it that
// follow at once are only counted, and so are those after the fifth within a
// minute if there are other lines between. A minute later the count is one
// line: that of the latest, its message followed by "(17 more like this in the
// last minute)", and the attribute repeated=17.
//
// Like it is a record with the same level, message, "iface" and "reason"; if
// it has no reason, the same attributes altogether. Whatever else they say, ten
// different lines of a message pass in a minute.
//
// A timer runs only while something is being held back.
type Handler struct {
	next  slog.Handler
	attrs []slog.Attr // of WithAttrs
	open  bool        // in a group: attributes have other names than it seems
	limit *limiter
}

// limiter is shared by all handlers derived from one.
type limiter struct {
	mu    sync.Mutex
	seed  maphash.Seed
	kinds map[kind]*history
	timer *time.Timer // runs while anything is held back; nil: not yet needed
	last  uint64      // the line that came last, written or not
}

// kind is what the records of one history have in common.
type kind struct {
	level   slog.Level
	message string
	iface   string
}

// history is what has recently been written, and not written, of a kind.
type history struct {
	since   time.Time      // start of the window
	written map[uint64]int // lines in it, by hash, and how often
	held    int
	last    slog.Record  // of those held
	next    slog.Handler // for last
}

// Limit returns a handler that passes records on to next.
func Limit(next slog.Handler) *Handler {
	return &Handler{next: next, limit: &limiter{seed: maphash.MakeSeed(), kinds: make(map[kind]*history)}}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	if !h.open {
		c.attrs = append(slices.Clip(h.attrs), attrs...)
	}
	return &c
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	c := *h
	c.next = h.next.WithGroup(name)
	c.open = h.open || name != ""
	return &c
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if h.limit.hold(h, r) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// Flush writes the counts that are waiting for their minute to pass: call it
// before the program ends.
func (h *Handler) Flush() { h.limit.flush(true) }

// hold reports whether the record is one of too many, and keeps count.
func (l *limiter) hold(h *Handler, r slog.Record) bool {
	k, line := l.identify(h, r)
	now := time.Now()

	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.kinds[k]
	if p == nil {
		l.makeRoom(now)
		p = &history{since: now, written: map[uint64]int{}}
		l.kinds[k] = p
	}
	if p.held == 0 && now.Sub(p.since) >= window {
		p.since = now
		clear(p.written)
	}
	before, at := p.written[line], l.last
	l.last = line
	if before == 0 && len(p.written) < variants || before > 0 && before < again && line != at && p.held == 0 {
		p.written[line]++
		return false
	}
	p.held++
	p.last, p.next = r.Clone(), h.next
	if p.held == 1 {
		l.wake(now)
	}
	return true
}

// identify returns what the record is like.
func (l *limiter) identify(h *Handler, r slog.Record) (kind, uint64) {
	k := kind{level: r.Level, message: clip(r.Message)}
	var reason string
	var hash maphash.Hash
	hash.SetSeed(l.seed)
	look := func(a slog.Attr) bool {
		switch a.Key {
		case "iface":
			k.iface = text(a.Value.Resolve())
		case "reason":
			reason = text(a.Value.Resolve())
		}
		hash.WriteString(a.Key)
		hash.WriteByte('=')
		hash.WriteString(text(a.Value.Resolve()))
		hash.WriteByte('\n')
		return true
	}
	for _, a := range h.attrs {
		look(a)
	}
	r.Attrs(look)
	if reason != "" {
		hash.Reset()
		hash.WriteString(reason)
	}
	hash.WriteString(k.level.String() + k.message + k.iface)
	return k, hash.Sum64()
}

// makeRoom forgets what is over, or else the oldest.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.kinds) < kinds {
		return
	}
	var oldest kind
	for k, p := range l.kinds {
		if p.held == 0 && now.Sub(p.since) >= window {
			delete(l.kinds, k)
		} else if o := l.kinds[oldest]; o == nil || p.since.Before(o.since) {
			oldest = k
		}
	}
	if len(l.kinds) == kinds {
		l.kinds[oldest].summarize(now)
		delete(l.kinds, oldest)
	}
}

// wake sees to it that flush runs when the first window with something held
// back ends.
func (l *limiter) wake(now time.Time) {
	var first time.Duration = -1
	for _, p := range l.kinds {
		if d := max(0, window-now.Sub(p.since)); p.held > 0 && (first < 0 || d < first) {
			first = d
		}
	}
	switch {
	case first < 0:
	case l.timer == nil:
		l.timer = time.AfterFunc(first, func() { l.flush(false) })
	default:
		l.timer.Reset(first)
	}
}

// flush writes the counts of the windows that are over, or all.
func (l *limiter) flush(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, p := range l.kinds {
		if p.held > 0 && (all || now.Sub(p.since) >= window) {
			p.summarize(now)
		}
	}
	l.wake(now)
}

// summarize writes the count, if any, which starts a new window: those that go
// on are counted again.
func (p *history) summarize(now time.Time) {
	if p.held == 0 {
		return
	}
	r := p.last
	r.Message = fmt.Sprintf("%s (%d more like this in the last minute)", r.Message, p.held)
	r.AddAttrs(slog.Int("repeated", p.held))
	p.next.Handle(context.Background(), r) // as slog itself: an error has nowhere to go
	p.since, p.held, p.last, p.next = now, 0, slog.Record{}, nil
}
