package datapath

import (
	"errors"
	"sync"

	"tnat64d/datapath/steer"
	"tnat64d/datapath/steernft"
)

// Guard keeps packets from leaving a link from the addresses of translators
// unless the translator has sent them, and IPv4 from coming to these addresses.
// It is in force until Close, unless another program removes it.
type Guard struct {
	by guardBy

	mu   sync.Mutex
	past Drops // once closed
	over bool
}

// guardBy is BPF or nftables.
type guardBy interface {
	Intact() bool
	SetGuarded(steer.Guarded) error
	Close() error
	dropped() Drops // what cannot be read counts as nothing
}

// NewGuard guards a link by BPF or, where the kernel refuses that, by nftables.
func NewGuard(c steer.GuardConfig) (*Guard, error) {
	b, err := steer.NewGuard(c)
	if err == nil {
		return &Guard{by: bpfGuard{b}}, nil
	}
	if refused := (*steer.Error)(nil); !errors.As(err, &refused) || !refused.Refused() {
		return nil, err
	}
	n, nftErr := steernft.NewGuard(steernft.GuardConfig{Link: c.Link, IPv4: c.Guarded.IPv4, IPv6: c.Guarded.IPv6})
	if nftErr != nil {
		return nil, errors.Join(err, nftErr)
	}
	return &Guard{by: nftGuard{n}}, nil
}

// Kept reports whether the guard works without this process, if it has a store.
func (g *Guard) Kept() bool {
	b, ok := g.by.(bpfGuard)
	return ok && b.Outlives()
}

// Intact reports whether no other program has removed the guard.
func (g *Guard) Intact() bool { return g.by.Intact() }

// SetGuarded replaces the guarded addresses.
func (g *Guard) SetGuarded(to steer.Guarded) error { return g.by.SetGuarded(to) }

// Dropped returns the counts. It may be called at any time, also after Close.
func (g *Guard) Dropped() Drops {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return g.past
	}
	return g.by.dropped()
}

// Close ends the guard.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.past, g.over = g.by.dropped(), true
	}
	return g.by.Close()
}

type bpfGuard struct{ *steer.Guard }

func (g bpfGuard) dropped() Drops {
	c, _ := g.Counters()
	return c.Dropped
}

type nftGuard struct{ *steernft.Guard }

func (g nftGuard) SetGuarded(to steer.Guarded) error { return g.Guard.SetGuarded(to.IPv4, to.IPv6) }

func (g nftGuard) dropped() Drops {
	c, _ := g.Counters()
	return nftDrops(c)
}
