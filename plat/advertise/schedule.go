package advertise

import "time"

// Constants of RFC 4861 section 10.
const (
	maxInitialInterval = 16 * time.Second // MAX_INITIAL_RTR_ADVERT_INTERVAL
	maxInitial         = 3                // MAX_INITIAL_RTR_ADVERTISEMENTS
	minDelay           = 3 * time.Second  // MIN_DELAY_BETWEEN_RAS
	maxAnswerDelay     = 500 * time.Millisecond
)

// schedule says when the next multicast advertisement is due (RFC 4861 sections
// 6.2.4 and 6.2.6). Solicitations in any number bring it forward, but never
// closer than 3 seconds to the one before.
type schedule struct {
	interval time.Duration // MaxRtrAdvInterval
	random   func(n time.Duration) time.Duration

	sent int // since the link came up, up to maxInitial
	last time.Time
	next time.Time
}

// interval returns MaxRtrAdvInterval for a lifetime: hosts hear three
// advertisements before it ends (RFC 8781 section 4.1), in the bounds of RFC
// 4861 section 6.2.1, but never more often than every 8 seconds.
func interval(lifetime time.Duration) time.Duration {
	return min(max(lifetime/3, 8*time.Second), 600*time.Second)
}

// begin makes the first advertisement due at once.
func (s *schedule) begin(now time.Time) { s.sent, s.next = 0, now }

// done says that one has been sent.
func (s *schedule) done(now time.Time) {
	s.last = now
	// Between MinRtrAdvInterval, a third of the maximum, and that.
	least := max(s.interval/3, minDelay)
	wait := least + s.random(s.interval-least)
	if s.sent < maxInitial {
		s.sent++
	}
	if s.sent < maxInitial {
		wait = min(wait, maxInitialInterval)
	}
	s.next = now.Add(wait)
}

// solicited says that a host asks, or that what is announced has changed.
func (s *schedule) solicited(now time.Time) {
	delay := s.random(maxAnswerDelay)
	at := now.Add(delay)
	if earliest := s.last.Add(minDelay); !s.last.IsZero() && now.Before(earliest) {
		at = earliest.Add(delay)
	}
	if at.Before(s.next) {
		s.next = at
	}
}
