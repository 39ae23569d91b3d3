package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// settle is how long a burst of changes may go on before we look: one event
// in the network is often a dozen messages.
const settle = 50 * time.Millisecond

// Watch calls changed, from one goroutine, after links, addresses, routes,
// nexthop objects or rules of the network namespace of the calling thread have changed,
// at most once per 50 ms, until ctx ends. What has changed is not said: the
// receiver observes anew, so that messages lost (ENOBUFS) cost nothing. It
// sleeps while nothing changes.
//
// The subscription is in force when Watch returns.
func Watch(ctx context.Context, changed func()) error {
	s, err := nl.SubscribeAt(netns.None(), netns.None(), unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_IFINFO,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP)
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	context.AfterFunc(ctx, s.Close)
	go func() {
		for {
			s.SetReceiveTimeout(&unix.Timeval{}) // none
			_, _, err := s.Receive()
			if ctx.Err() != nil {
				return
			}
			if err != nil && !transient(err) {
				// Only a broken socket leads here; slow down rather than spin.
				time.Sleep(time.Second)
			}
			if passBurst(ctx, s); ctx.Err() != nil {
				return
			}
			changed()
		}
	}()
	return nil
}

// transient reports whether a receive may be repeated at once. ENOBUFS means
// that messages were lost.
func transient(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN)
}

// passBurst swallows what arrives for the time of a burst.
func passBurst(ctx context.Context, s *nl.NetlinkSocket) {
	end := time.Now().Add(settle)
	for ctx.Err() == nil {
		left := time.Until(end)
		if left < time.Microsecond {
			return
		}
		tv := unix.NsecToTimeval(left.Nanoseconds())
		s.SetReceiveTimeout(&tv)
		if _, _, err := s.Receive(); err != nil && !transient(err) {
			return // the next Receive will say it again
		}
	}
}
