package pref64

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Answer is what one DNS server says about ipv4only.arpa (RFC 7050 section 3).
type Answer struct {
	// Prefixes are those of the server's DNS64, in the order of the answer.
	Prefixes []netip.Prefix
	// Addresses are the AAAA records of the answer, whether or not a prefix
	// can be read from them; none if the server is no DNS64.
	Addresses []netip.Addr
	// TTL is how long the prefixes, or their absence, may be cached; 0 if the
	// answer does not say.
	TTL time.Duration
	// Ignored says why there are addresses and no prefix; None otherwise.
	Ignored Reason
}

// Ask asks a DNS server for the AAAA records of ipv4only.arpa, over UDP and, if
// the answer is truncated, over TCP. It repeats a question that is not answered
// within timeout, tries times in all. Sockets are bound to the interface with
// index ifindex unless that is 0. An answer with another RCODE than NOERROR or
// NXDOMAIN is an error, as is one that cannot be parsed.
func Ask(ctx context.Context, server netip.Addr, ifindex, tries int, timeout time.Duration) (Answer, error) {
	return dialOver(ifindex).askRepeatedly(ctx, server, tries, timeout)
}

func (dial dialFunc) askRepeatedly(ctx context.Context, server netip.Addr, tries int, timeout time.Duration) (Answer, error) {
	var (
		a   answer
		err error
	)
	for range tries {
		a, _, err = dial.ask(ctx, server, timeout)
		if !errors.Is(err, ErrNoAnswer) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return Answer{}, err
	}
	if a.rcode != dnsmessage.RCodeSuccess {
		return Answer{}, fmt.Errorf("answers %s", strings.TrimPrefix(a.rcode.String(), "RCode"))
	}
	r := Answer{Prefixes: a.prefixes, Addresses: a.addrs, TTL: a.ttl}
	if len(a.prefixes) == 0 {
		r.Ignored = a.ignored
	}
	return r, nil
}
