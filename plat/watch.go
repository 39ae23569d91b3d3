package plat

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// changeInterval is how often a change of the host is reported at most.
	changeInterval = 500 * time.Millisecond
	// subscribeInterval is how long to wait before a subscription that has ended
	// is renewed.
	subscribeInterval = time.Second
)

// subscription is one that reports changes of the host until done is closed. It
// ends with the first event that the kernel could not deliver.
type subscription func(done <-chan struct{}) (events <-chan struct{}, err error)

// watchHost calls changed after links, addresses or routes have changed, at most
// every changeInterval, until ctx ends. Where events are lost it subscribes anew
// and reports a change, whatever that was.
func watchHost(ctx context.Context, subscribe subscription, changed func()) error {
	done := make(chan struct{})
	events, err := subscribe(done)
	if err != nil {
		return fmt.Errorf("watch the host: %w", err)
	}
	news := make(chan struct{}, 1)
	note := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	go func() {
		for {
			for open := events != nil; open; {
				select {
				case _, open = <-events:
					note()
				case <-ctx.Done():
					open = false
				}
			}
			close(done)
			if pause(ctx, subscribeInterval); ctx.Err() != nil {
				return
			}
			done = make(chan struct{})
			if events, err = subscribe(done); err != nil {
				events = nil
			}
			note() // what happened in between is in no event
		}
	}()
	go func() {
		for {
			select {
			case <-news:
				changed()
			case <-ctx.Done():
				return
			}
			pause(ctx, changeInterval)
		}
	}()
	return nil
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// subscribeHost is the [subscription] of links, addresses, IPv4 and IPv6 routes,
// IPv4 rules and nexthop objects by netlink.
func subscribeHost(done <-chan struct{}) (<-chan struct{}, error) {
	// The library closes a channel after an error, such as ENOBUFS when the
	// kernel has more to say than its buffer holds.
	ignore := func(error) {}
	links, addrs, routes := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate), make(chan netlink.RouteUpdate)
	end := make(chan struct{})
	stop := func() {
		// The library may be waiting for somebody to take its last update.
		close(end)
		go drain(links)
		go drain(addrs)
		go drain(routes)
	}
	selected, err := subscribeSelection(end)
	if err != nil {
		return nil, err
	}
	for i, subscribed := range []func() error{
		func() error {
			return netlink.LinkSubscribeWithOptions(links, end, netlink.LinkSubscribeOptions{ErrorCallback: ignore})
		},
		func() error {
			return netlink.AddrSubscribeWithOptions(addrs, end, netlink.AddrSubscribeOptions{ErrorCallback: ignore})
		},
		func() error {
			return netlink.RouteSubscribeWithOptions(routes, end, netlink.RouteSubscribeOptions{ErrorCallback: ignore})
		},
	} {
		if err := subscribed(); err != nil {
			stop()
			for _, unused := range []func(){func() { close(links) }, func() { close(addrs) }, func() { close(routes) }}[i:] {
				unused()
			}
			return nil, err
		}
	}
	events := make(chan struct{}, 1)
	go func() {
		defer close(events)
		defer stop()
		for ok := true; ok; {
			matter := true
			select {
			case <-done:
				return
			case _, ok = <-links:
			case _, ok = <-addrs:
			case _, ok = <-selected:
			case u, open := <-routes:
				ok, matter = open, !open || matters(u.Route)
			}
			if matter {
				select {
				case events <- struct{}{}:
				default:
				}
			}
		}
	}()
	return events, nil
}

// subscribeSelection reports changes of IPv4 rules and nexthop objects, for which the
// library has no call, until end is closed. Where the sysctl nexthop_compat_mode is
// 0 the kernel reports a changed object without the routes that name it. The channel
// is closed at the first event that the kernel could not deliver.
func subscribeSelection(end <-chan struct{}) (<-chan struct{}, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_NEXTHOP, unix.RTNLGRP_IPV4_RULE)
	if err != nil {
		return nil, err
	}
	go func() { <-end; s.Close() }()
	selected := make(chan struct{})
	go func() {
		defer close(selected)
		for {
			if _, _, err := s.Receive(); err != nil {
				return
			}
			select {
			case selected <- struct{}{}:
			case <-end:
				return
			}
		}
	}()
	return selected, nil
}

// drain takes what is sent until c is closed.
func drain[T any](c <-chan T) {
	for range c {
	}
}
