package doctor

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"tnat64d/pref64"
)

const (
	dnsTries   = 3
	dnsWait    = 800 * time.Millisecond // for the answer to each
	maxServers = 4                      // that are asked, of each kind

	maxAddresses = 8 // of an answer that are shown
)

// askAll asks all servers at once. Questions leave by the interface ifindex
// unless it is 0.
func askAll(ctx context.Context, servers []Server, ifindex int) {
	var all sync.WaitGroup
	for i := range servers {
		all.Go(func() { servers[i].Answer = ask(ctx, servers[i].Address, ifindex) })
	}
	all.Wait()
}

// ask asks one server. The daemon stops at the first prefix; here each server's
// own answer matters, and what it says instead of a prefix.
func ask(ctx context.Context, server netip.Addr, ifindex int) Answer {
	a, err := pref64.Ask(ctx, server, ifindex, dnsTries, dnsWait)
	if err != nil {
		return Answer{Kind: Silent, Problems: problem(err)}
	}
	return understand(a)
}

// problem says why a server does not answer.
func problem(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, pref64.ErrNoAnswer):
		return "no answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// understand says what the answer of a server means.
func understand(a pref64.Answer) Answer {
	switch {
	case len(a.Prefixes) > 0:
		return Answer{Kind: DNS64, PREF64: a.Prefixes}
	case len(a.Addresses) > 0:
		return Answer{Kind: Elsewhere, Address: a.Addresses[:min(len(a.Addresses), maxAddresses)]}
	}
	return Answer{Kind: Negative}
}
