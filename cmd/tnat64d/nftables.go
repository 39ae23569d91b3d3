package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/datapath/steer"
	"tnat64d/datapath/steernft"
	"tnat64d/internal/cause"
	"tnat64d/siit"
)

// steerByNFTables steers a path's packets where the kernel refuses BPF.
func (d *datapath) steerByNFTables(uplink, tun int, ours []netip.Prefix, g clat.Guarded, bpf error) (clat.Steering, error) {
	s, err := steernft.New(steernft.Config{Uplink: uplink, TUN: tun, Ours: ours})
	why := strings.TrimPrefix(bpf.Error(), "steer: ")
	if c := cause.Of(err); c == cause.Resource || errors.Is(err, unix.ENODEV) {
		return nil, err
	}
	if err != nil {
		return nil, &clat.SteeringRefused{Why: fmt.Sprintf("%s; %v", why, err), Err: errors.Join(err, bpf)}
	}
	if err := s.SetGuarded(g.IPv4, g.IPv6); err != nil {
		s.Close()
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.paths[tun]
	p.nft, p.steered, p.index, p.whyUser = s, s.Attached(), uplink, "BPF is refused: "+why
	if p.engine != nil {
		p.engine.SetTakesHop(s.TakesHop())
	}
	return &nftSteering{s, p}, nil
}

// nftSteering is the Steering of a path.
type nftSteering struct {
	*steernft.Steering
	path *path
}

// Translate has nothing to do: all packets are the user engine's.
func (s *nftSteering) Translate(siit.Config) error { return nil }

func (s *nftSteering) SetGuarded(g clat.Guarded) error {
	return s.Steering.SetGuarded(g.IPv4, g.IPv6)
}

func (s *nftSteering) Follow(src netip.Addr, pref64 netip.Prefix, via netip.Addr) error {
	p := s.path
	if _, err := p.followRoutes(src, pref64); err != nil {
		return err
	}
	hop, err := nextHop(p.data.handle, p.index, src, pref64.Addr().Next(), via)
	if err != nil {
		return err
	}
	hops := []steernft.NextHop{{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Via: hop}}
	for _, r := range p.routes {
		if r.Action.Rejects() {
			continue // user space answers
		}
		n := steernft.NextHop{Prefix: r.Prefix, Link: r.Link, Via: r.Gateway}
		if r.Action == steer.RouteKernelHop {
			// A rule has one next hop: the one that the kernel chooses now.
			if n.Via, err = kernelHop(p.data.handle, r.Link, src, r.Prefix.Addr()); err != nil {
				return err
			}
		}
		hops = append(hops, n)
	}
	return s.SetNextHops(hops)
}

// Close keeps the counters.
func (s *nftSteering) Close() error {
	p := s.path
	p.data.mu.Lock()
	p.past = p.past.add(nftStats(s.Steering))
	p.nft, p.steered, p.whyUser = nil, "", ""
	if p.engine != nil {
		p.engine.SetTakesHop(false)
	}
	p.data.mu.Unlock()
	return s.Steering.Close()
}

// nftStats reads the counters; what cannot be read counts as nothing.
func nftStats(t *steernft.Steering) (s stats) {
	if c, err := t.Counters(); err == nil {
		s.dropped = nftDrops(c)
	}
	return s
}

func nftDrops(c steernft.Counters) (d drops) {
	d[steer.ForeignSource] = c[steernft.ForeignSource]
	d[steer.UntranslatedIPv4] = c[steernft.UntranslatedIPv4]
	d[steer.BoundSource] = c[steernft.BoundSource]
	d[steer.StrayIPv4] = c[steernft.StrayIPv4]
	d[steer.UnicastToMany] = c[steernft.UnicastToMany]
	return d
}

// nextHop returns the next hop on the uplink for packets from src to dst, via if
// it can be; the zero Addr if dst is a neighbour itself.
func nextHop(h *netlink.Handle, uplink int, src, dst, via netip.Addr) (netip.Addr, error) {
	router, err := steer.Router(h, uplink, src, dst, via)
	switch {
	case err != nil:
		return netip.Addr{}, err
	case router == dst:
		return netip.Addr{}, nil
	case router.IsValid():
		return router, nil
	}
	return kernelHop(h, uplink, src, dst)
}

// kernelHop returns the router on a link that the kernel chooses for dst, which
// knows which of several are reachable; the zero Addr if dst is a neighbour.
func kernelHop(h *netlink.Handle, link int, src, dst netip.Addr) (netip.Addr, error) {
	chosen, err := h.RouteGetWithOptions(net.IP(dst.AsSlice()), &netlink.RouteGetOptions{OifIndex: link, SrcAddr: net.IP(src.AsSlice())})
	if err != nil {
		return netip.Addr{}, err
	}
	if len(chosen) == 0 || chosen[0].LinkIndex != link {
		return netip.Addr{}, unix.ENETUNREACH
	}
	hop, _ := netip.AddrFromSlice(chosen[0].Gw)
	return hop, nil
}
