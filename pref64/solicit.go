package pref64

import (
	"net"
	"time"
)

const (
	maxSolicitations     = 3               // MAX_RTR_SOLICITATIONS (RFC 4861 section 10)
	solicitationInterval = 4 * time.Second // RTR_SOLICITATION_INTERVAL (RFC 4861 section 10)

	// attachInterval is the least time between solicitations when the link
	// comes and goes.
	attachInterval = time.Second

	// A solicitation that could not be sent, most often because the interface
	// has no address yet, is tried again for as long as its interval lasts.
	solicitationRetry = 500 * time.Millisecond
	maxRetries        = int(solicitationInterval / solicitationRetry)
)

// solicitor decides when to send Router Solicitations (RFC 4861 section
// 6.3.7). The zero value is idle.
type solicitor struct {
	left    int       // solicitations still to be sent
	retries int       // of the next one
	next    time.Time // when, if left > 0
	last    time.Time // when one was sent
}

// start asks for a new round that begins at the given time, or as much later
// as the distance from the last solicitation demands. A round that would begin
// sooner is begun again.
func (s *solicitor) start(at time.Time) { s.begin(at, solicitationInterval) }

// attach asks for a new round on what may be another link, for which the
// distance is only there to bound what a link costs that comes and goes.
func (s *solicitor) attach(at time.Time) { s.begin(at, attachInterval) }

// once asks for a single solicitation, unless a round is going on.
func (s *solicitor) once(at time.Time) {
	if s.left == 0 {
		s.begin(at, solicitationInterval)
		s.left = 1
	}
}

func (s *solicitor) begin(at time.Time, apart time.Duration) {
	if !s.last.IsZero() {
		at = later(at, s.last.Add(apart))
	}
	if s.left == 0 || at.Before(s.next) {
		s.next = at
	}
	s.left, s.retries = maxSolicitations, 0
}

// sent notes that the solicitation that was due went out.
func (s *solicitor) sent(now time.Time) {
	s.left--
	s.retries = 0
	s.last = now
	s.next = now.Add(solicitationInterval)
}

// failed notes that it could not be sent, and reports whether the round is
// over without there being anything left to try.
func (s *solicitor) failed(now time.Time) (over bool) {
	s.next = now.Add(solicitationRetry)
	s.retries++
	if s.retries < maxRetries {
		return false
	}
	s.left--
	s.retries = 0
	return s.left == 0
}

// heard notes a valid RA. One of a default router ends the round.
func (s *solicitor) heard(ra *RouterAdvertisement) {
	if ra.RouterLifetime != 0 {
		s.left = 0
	}
}

// solicitation returns a Router Solicitation (RFC 4861 section 4.1) with the
// checksum left to the kernel. A link layer without addresses has no option.
func solicitation(link net.HardwareAddr) []byte {
	b := make([]byte, 8)
	b[0] = typeRouterSolicitation
	if len(link) == 0 {
		return b
	}
	units := (2 + len(link) + 7) / 8
	opt := make([]byte, 8*units)
	opt[0], opt[1] = optSourceLinkLayer, byte(units)
	copy(opt[2:], link)
	return append(b, opt...)
}
