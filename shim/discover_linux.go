package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"tnat64d/pref64"
)

// Everything is the network of the route for what no other covers.
var Everything = netip.PrefixFrom(netip.AddrFrom4([4]byte{}), 0)

// Found is a discovered PREF64.
type Found struct {
	Prefix netip.Prefix
	From   string // in words
}

// ErrNoPrefix: the network announces no PREF64 in any way that a user without
// privilege can hear.
var ErrNoPrefix = errors.New("no PREF64 found")

const (
	resolverLimit = 5 * time.Second // how long the resolver may take
	resolverPause = time.Second     // between a failure and the next question
)

// Discover finds the PREF64 of the network: the system's resolver is asked for
// ipv4only.arpa (RFC 7050). If it knows none, Discover listens for router
// advertisements (RFC 8781) until patience, counted from the start, has passed, and
// asks a resolver that has failed again; waiting is called once before. Routers
// cannot be asked without privilege.
func Discover(ctx context.Context, patience time.Duration, waiting func(error)) (Found, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := hear(ctx)
	timeout := time.NewTimer(patience)
	defer timeout.Stop()

	p, err := askResolver(ctx)
	if err == nil {
		return byDNS(p), nil
	}
	select {
	case f := <-heard:
		return f, nil
	default:
	}
	if waiting != nil {
		waiting(err)
	}
	answered := make(chan netip.Prefix, 1)
	if !errors.Is(err, errNone) {
		go askAgain(ctx, answered)
	}
	select {
	case f := <-heard:
		return f, nil
	case p := <-answered:
		return byDNS(p), nil
	case <-timeout.C:
		return Found{}, fmt.Errorf("%w: %w, and no router advertises one", ErrNoPrefix, err)
	case <-ctx.Done():
		return Found{}, ctx.Err()
	}
}

func byDNS(p netip.Prefix) Found { return Found{p, "DNS (ipv4only.arpa)"} }

// errNone is the error of a resolver that works and knows no PREF64.
var errNone = errors.New("DNS has none")

// askAgain asks the resolver until it answers: a datagram was lost, or it was not yet
// there.
func askAgain(ctx context.Context, answered chan<- netip.Prefix) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(resolverPause):
		}
		p, err := askResolver(ctx)
		if err == nil {
			answered <- p
		}
		if err == nil || errors.Is(err, errNone) {
			return
		}
	}
}

// askResolver asks the system's resolver for ipv4only.arpa.
func askResolver(ctx context.Context) (netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(ctx, resolverLimit)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip6", "ipv4only.arpa.")
	if err != nil {
		var d *net.DNSError
		if errors.As(err, &d) && d.IsNotFound {
			return netip.Prefix{}, fmt.Errorf("%w (no AAAA record of ipv4only.arpa)", errNone)
		}
		return netip.Prefix{}, fmt.Errorf("DNS fails (%w)", err)
	}
	prefixes, reason := pref64.Prefixes(addrs)
	if len(prefixes) == 0 {
		return netip.Prefix{}, fmt.Errorf("%w (the addresses of ipv4only.arpa are of no NAT64: %s)", errNone, reason)
	}
	return prefixes[0], nil
}

// maxListening bounds the interfaces on which routers are heard.
const maxListening = 32

// hear returns a channel with the first PREF64 that a router advertises.
func hear(ctx context.Context) <-chan Found {
	found := make(chan Found, 1)
	interfaces, err := net.Interfaces()
	if err != nil {
		return found
	}
	quiet := slog.New(slog.DiscardHandler)
	for _, i := range interfaces[:min(len(interfaces), maxListening)] {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		go pref64.NewRASource(i.Index, quiet).Run(ctx, func(r pref64.Report) {
			for _, o := range r.Observations {
				if o.Withdrawn || !o.Prefix.IsValid() {
					continue
				}
				select {
				case found <- Found{o.Prefix, "router advertisement on " + i.Name}:
				default:
				}
				return
			}
		})
	}
	return found
}

const (
	settle       = time.Second      // of routing, before the network is asked again
	refreshEvery = 30 * time.Second // at most
	patience     = 10 * time.Second
)

// followPrefix looks for the PREF64 of everything again after each wake, and
// replaces it.
func (s *supervisor) followPrefix(p Policy, wake <-chan struct{}) {
	at := slices.IndexFunc(p.Routes, func(r Route) bool { return r.Network == Everything })
	if at < 0 {
		return
	}
	p.Routes = slices.Clone(p.Routes)
	for range wake {
		time.Sleep(settle)
		f, err := Discover(context.Background(), patience, nil)
		if err == nil && f.Prefix != p.Routes[at].PREF64 {
			p.Routes[at].PREF64 = f.Prefix
			if t, err := p.prepare(); err == nil {
				s.policy.Store(t)
				if s.hidden != nil {
					s.hidden.update(p)
				}
				s.say("prefix "+f.Prefix.String(), "the network's PREF64 has changed to %s, from %s", f.Prefix, f.From)
			}
		}
		time.Sleep(refreshEvery)
	}
}
