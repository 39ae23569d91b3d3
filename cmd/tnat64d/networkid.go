package main

import (
	"errors"
	"net/netip"
	"slices"

	"tnat64d/clat/plan"
)

// networkID is what tells the network on a link from others.
type networkID struct {
	Link           string         `json:"link"` // name
	Index          int            `json:"index"`
	CarrierChanges int            `json:"carrier_changes"` // of the link
	Routers        []router       `json:"routers"`         // next hops of its default routes
	Prefixes       []netip.Prefix `json:"prefixes"`        // of the host's own addresses
}

type router struct {
	Addr      netip.Addr `json:"addr"`                 // without zone
	LinkLayer string     `json:"link_layer,omitempty"` // as net.HardwareAddr prints it; empty: not known, or the link has none
}

// maxNoted bounds the routers and the prefixes of a network, each.
const maxNoted = 16

// networkOn describes the network on a link without the link-layer addresses.
func networkOn(o plan.Observed, link plan.Uplink) networkID {
	l, _ := o.LinkByIndex(link.Index)
	n := networkID{Link: link.Name, Index: link.Index, CarrierChanges: l.CarrierChanges}
	for _, r := range o.Routes {
		next := router{Addr: r.Gateway.WithZone("")}
		if r.Link != link.Index || !r.IPv6 || r.Protocol == plan.Protocol || !next.Addr.Is6() ||
			len(n.Routers) == maxNoted || slices.Contains(n.Routers, next) {
			continue
		}
		n.Routers = append(n.Routers, next)
	}
	for _, a := range o.Addrs {
		p := a.Prefix.Masked()
		if ip := p.Addr(); a.Link != link.Index || !ip.Is6() || ip.IsLinkLocalUnicast() || ip.IsLoopback() || a.LooksLikeCLAT() ||
			len(n.Prefixes) == maxNoted || slices.Contains(n.Prefixes, p) {
			continue
		}
		n.Prefixes = append(n.Prefixes, p)
	}
	return n
}

// equal reports whether nothing but link-layer addresses differs.
func (n networkID) equal(b networkID) bool {
	return n.Link == b.Link && n.Index == b.Index && n.CarrierChanges == b.CarrierChanges && slices.Equal(n.Prefixes, b.Prefixes) &&
		slices.EqualFunc(n.Routers, b.Routers, func(x, y router) bool { return x.Addr == y.Addr })
}

var (
	// errUndecided says that the link has no default route or no address yet.
	errUndecided  = errors.New("the network is not known yet")
	errReattached = errors.New("the link had no carrier meanwhile, and the router cannot be recognised by its link-layer address")
	errRouter     = errors.New("the link has another router")
	errPrefix     = errors.New("the link has another prefix")
)

// same returns nil if a link with the network is is on the network was of a former
// process: one of the routers is the same, by its link-layer address, and so is one
// of the prefixes. Without link-layer addresses, or if crashed says that nobody knows
// when that process ended, the link must have had carrier ever since.
func (was networkID) same(is networkID, crashed bool) error {
	attached := was.Index == is.Index && was.CarrierChanges == is.CarrierChanges
	if len(was.Routers) > 0 && len(is.Routers) == 0 || len(was.Prefixes) > 0 && len(is.Prefixes) == 0 {
		return errUndecided
	}
	known, recognised := len(was.Routers) == 0, false
	for _, a := range was.Routers {
		for _, b := range is.Routers {
			if a.Addr != b.Addr {
				continue
			}
			if a.LinkLayer != "" && b.LinkLayer != "" {
				known, recognised = known || a == b, recognised || a == b
				continue
			}
			known = true
		}
	}
	switch {
	case !known:
		return errRouter
	case len(was.Prefixes) > 0 && !slices.ContainsFunc(was.Prefixes, func(p netip.Prefix) bool { return slices.Contains(is.Prefixes, p) }):
		return errPrefix
	case !attached && (crashed || !recognised):
		return errReattached
	}
	return nil
}
