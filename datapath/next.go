package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"tnat64d/datapath/steer"
)

// SetNext gives flows that begin from now on the IPv6 address next, while those that
// began before keep main: see [steer.Steering.SetNext]. Packets from next to pref64
// go by the host's routes; of several routers via is preferred, as with Follow. Call
// it again when those may have changed. The zero next ends it. By nftables the error
// is errors.ErrUnsupported.
func (s *Steering) SetNext(main, next, via netip.Addr, pref64 netip.Prefix, begun func() []steer.Flow) error {
	if s.kernel == nil {
		if !next.IsValid() {
			return nil
		}
		return fmt.Errorf("%w: nftables cannot tell flows apart", errors.ErrUnsupported)
	}
	s.path.mu.Lock() // the kernel engine's parameters change
	defer s.path.mu.Unlock()
	if !next.IsValid() {
		return s.kernel.SetNext(steer.Next{}, nil)
	}
	to := routesToPLAT{netlink: s.path.options.Netlink, uplink: s.uplink, src: next, dst: pref64.Addr().Next(), via: via}
	router, err := to.router()
	if err != nil {
		return err
	}
	return s.kernel.SetNext(steer.Next{Main: main, Addr: next, Router: router}, begun)
}

// KeepsMain reports whether a flow has the main address: see [Steering.SetNext].
func (s *Steering) KeepsMain(f steer.Flow) bool { return s.kernel == nil || s.kernel.KeepsMain(f) }
