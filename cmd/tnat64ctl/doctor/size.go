package doctor

import (
	"context"
	"net/netip"
	"slices"
)

// minMTU is what every IPv6 link carries (RFC 8200 section 5).
const minMTU = 1280

// usualSizes are the MTUs of links that people have, largest first: Ethernet
// behind PPPoE, tunnels of all kinds, mobile networks, and what careful
// operators set.
var usualSizes = []int{9000, 1500, 1492, 1480, 1472, 1460, 1452, 1440, 1428, 1420, 1412, 1400, 1380, 1360, 1340, 1320, 1300, minMTU}

// findSize looks for the largest packet that is answered by dst. Packets of
// link bytes are tried first; where the network says how much it can carry it
// is believed and tried, and only if it says nothing are all usual sizes tried
// at once.
func findSize(ctx context.Context, dst netip.Addr, ifindex, link int) Size {
	s := Size{Link: link}
	e, err := openEcho(true, ifindex, netip.Addr{})
	if err != nil {
		s.Why = err.Error()
		return s
	}
	defer e.close()
	s.Tested = true
	size := link
	for range maxHops {
		r := e.ping(ctx, dst, ifindex, hasty, size)[0]
		if r.replied {
			s.Largest = size
			return s
		}
		if r.tooBig == 0 || r.tooBig >= size {
			break
		}
		size = s.hear(r)
	}

	sizes := slices.DeleteFunc(slices.Clone(usualSizes), func(n int) bool { return n >= size && n > minMTU })
	for _, r := range e.ping(ctx, dst, ifindex, hasty, sizes...) {
		if r.replied {
			s.Largest = max(s.Largest, r.size)
		} else if r.tooBig != 0 {
			s.hear(r)
		}
	}
	if s.Told > s.Largest && s.Told < size && e.ping(ctx, dst, ifindex, hasty, s.Told)[0].replied {
		s.Largest = s.Told
	}
	if ctx.Err() != nil && s.blackHole() {
		s.Tested, s.Why = false, noTime
	}
	return s
}

// maxHops is how many links with ever smaller MTUs there may be.
const maxHops = 4

// hear takes in a Packet Too Big and returns the size that it allows. What is
// too big for this host itself never was on the network.
func (s *Size) hear(r echo) int {
	n := max(r.tooBig, minMTU)
	if !r.reporter.IsValid() {
		s.Link = min(s.Link, n)
	} else if s.Told == 0 || n < s.Told {
		s.Told, s.Reporter = n, r.reporter
	}
	return n
}
