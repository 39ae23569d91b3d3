package steer

import (
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FIBRoute returns the host's route for packets from src to dst, out of link if that
// is not 0, or nil. dst is an example of a prefix, so that what the kernel has learned
// of dst alone does not count: its gateway is that of the routing table and not that
// of a redirect (RFC 4861 section 8), which any station on the link can forge.
func FIBRoute(h *netlink.Handle, link int, src, dst netip.Addr) (*netlink.Route, error) {
	o := netlink.RouteGetOptions{OifIndex: link, SrcAddr: net.IP(src.AsSlice())}
	got, err := h.RouteGetWithOptions(net.IP(dst.AsSlice()), &o)
	if err != nil || len(got) == 0 {
		return nil, err
	}
	r := got[0]
	if r.Flags&unix.RTM_F_CLONED == 0 {
		return &r, nil
	}
	whole, err := fibMatch(h, link, src, dst)
	if err != nil {
		return nil, err
	}
	if whole == nil {
		return &r, nil
	}
	r.Gw, r.Via, r.Protocol = whole.Gw, whole.Via, whole.Protocol
	// Which of several hops the kernel would choose is not known.
	i := slices.IndexFunc(whole.MultiPath, func(hop *netlink.NexthopInfo) bool { return hop.LinkIndex == r.LinkIndex })
	if i >= 0 {
		r.Gw = whole.MultiPath[i].Gw
	}
	return &r, nil
}

// fibMatch returns the route of the routing table for packets from src to dst, with
// all its next hops and without what the kernel has learned of dst alone, such as a
// path MTU; nil if there is none, or if the kernel gives another route: those that
// share a nexthop object share a cache (seen on Linux 6.1). It needs Linux 4.13.
func fibMatch(h *netlink.Handle, link int, src, dst netip.Addr) (*netlink.Route, error) {
	got, err := h.RouteGetWithOptions(net.IP(dst.AsSlice()), &netlink.RouteGetOptions{OifIndex: link, SrcAddr: net.IP(src.AsSlice()), FIBMatch: true})
	if err != nil || len(got) == 0 || got[0].Dst != nil && !got[0].Dst.Contains(net.IP(dst.AsSlice())) {
		return nil, err
	}
	return &got[0], nil
}
