package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// routers are what advertises on a network's link: one machine, which may have
// several link-local addresses.
type routers struct {
	network *Network

	mu  sync.Mutex
	all []*Advertiser
}

// AddRouter puts a second router on the link, with a link-local address of its
// own. It forwards as the first one does, as it is the same machine; use
// AddPLAT if it advertises a PREF64 of its own.
func (r *routers) AddRouter(local netip.Addr, advert Advert) (*Advertiser, error) {
	n := r.network
	if !local.IsLinkLocalUnicast() || local == n.Local {
		return nil, fmt.Errorf("another router: %q is not a link-local address of its own", local)
	}
	n.attachment.attaching.Lock()
	defer n.attachment.attaching.Unlock()
	a := &Advertiser{network: n, local: local, mac: n.mac}
	r.mu.Lock()
	r.all = append(r.all, a)
	r.mu.Unlock()
	if n.Attached() != "" {
		if err := a.turnOn(); err != nil {
			return nil, err
		}
	}
	return a, a.SetAdvert(advert)
}

// advertisers are the routers on the link.
func (r *routers) advertisers() []*Advertiser {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// SetPREF64 moves the network to another PREF64: the PLAT translates it
// instead of the old one, and the same RA withdraws the old one (RFC 8781
// section 4: lifetime 0) and announces the new one.
func (r *routers) SetPREF64(p netip.Prefix) error {
	n := r.network
	old := n.PREF64()
	if p == old {
		return nil
	}
	if err := n.MovePLAT(p); err != nil {
		return err
	}
	a := n.Advert()
	a.PREF64 = []PREF64{{p, n.options.PREF64Lifetime}, {old, 0}}
	return n.SetAdvert(a)
}

// WithdrawPREF64 tells the laptop that PREF64 is gone. The PLAT stays, and
// SetPREF64 or SetAdvert brings it back.
func (r *routers) WithdrawPREF64() error {
	n := r.network
	a := n.Advert()
	for i := range a.PREF64 {
		a.PREF64[i].Lifetime = 0
	}
	return n.SetAdvert(a)
}
