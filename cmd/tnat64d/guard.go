package main

import (
	"errors"

	"tnat64d/clat"
	"tnat64d/datapath/steer"
	"tnat64d/datapath/steernft"
)

// guard is the guard of a link, by BPF or nftables. It keeps its counts when it
// is closed.
type guard struct {
	programs
	data *datapath
}

// programs are what drops the packets.
type programs interface {
	clat.Guard
	dropped() drops // what cannot be read counts as nothing
}

func (d *datapath) Guard(link int, addrs clat.Guarded) (clat.Guard, error) {
	made, err := newGuard(link, addrs, d.token)
	if err != nil {
		return nil, err
	}
	g := &guard{made, d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guards[g] = true
	return g, nil
}

func newGuard(link int, addrs clat.Guarded, token steer.Token) (programs, error) {
	b, err := steer.NewGuard(steer.GuardConfig{Link: link, Guarded: steer.Guarded(addrs), Token: token})
	if err == nil {
		return bpfGuard{b}, nil
	}
	if refused := (*steer.Error)(nil); !errors.As(err, &refused) || !refused.Refused() {
		return nil, err
	}
	n, nftErr := steernft.NewGuard(steernft.GuardConfig{Link: link, IPv4: addrs.IPv4, IPv6: addrs.IPv6})
	if nftErr != nil {
		return nil, errors.Join(err, nftErr)
	}
	return nftGuard{n}, nil
}

func (g *guard) Close() error {
	g.data.mu.Lock()
	delete(g.data.guards, g)
	g.data.past.dropped = g.data.past.dropped.add(g.dropped())
	g.data.mu.Unlock()
	return g.programs.Close()
}

type bpfGuard struct{ *steer.Guard }

func (g bpfGuard) SetGuarded(addrs clat.Guarded) error {
	return g.Guard.SetGuarded(steer.Guarded(addrs))
}

func (g bpfGuard) dropped() drops {
	c, _ := g.Counters()
	return c.Dropped
}

type nftGuard struct{ *steernft.Guard }

func (g nftGuard) SetGuarded(addrs clat.Guarded) error {
	return g.Guard.SetGuarded(addrs.IPv4, addrs.IPv6)
}

func (g nftGuard) dropped() drops {
	c, _ := g.Counters()
	return nftDrops(c)
}
