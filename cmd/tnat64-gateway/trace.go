package main

import (
	"errors"
	"sync"

	"tnat64d/datapath/engine"
)

// trace shows the packets of the NAT64. It outlasts a reload. The zero value shows
// nothing. Its methods may be called concurrently.
type trace struct {
	mu    sync.Mutex
	nat64 *nat64Part // nil: has not started yet
	see   func(uplink string, p engine.Seen)
}

// set shows packets to see from now on; nil ends that. The NAT64's TUN stands for an
// uplink.
func (t *trace) set(see func(uplink string, p engine.Seen)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if see != nil && t.nat64 == nil {
		return errors.New("NAT64 has not started yet")
	}
	t.see = see
	return t.apply()
}

// follow shows packets of n from now on, if any.
func (t *trace) follow(n *nat64Part) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nat64 = n
	if t.see == nil {
		return nil
	}
	return t.apply()
}

func (t *trace) apply() error {
	n, see := t.nat64, t.see
	switch {
	case n == nil:
		return nil
	case see == nil:
		return n.SetTrace(nil)
	}
	return n.SetTrace(func(p engine.Seen) { see(n.tun, p) })
}
