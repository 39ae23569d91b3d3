package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	linux "tnat64d/clat/host"
	"tnat64d/clat/plan"
)

// tunnels are the rtnetlink kinds of links that carry packets inside other
// packets: a VPN is neither an uplink nor native IPv4 (see package clat/plan).
var tunnels = map[string]bool{
	"amt": true, "bareudp": true, "erspan": true, "geneve": true, "gre": true, "gretap": true, "gtp": true,
	"ip6erspan": true, "ip6gre": true, "ip6gretap": true, "ip6tnl": true, "ipip": true, "ovpn": true,
	"sit": true, "tun": true, "vti": true, "vti6": true, "vxlan": true, "wireguard": true, "xfrm": true,
}

// notUplinks are kinds that lead to no network either.
var notUplinks = map[string]bool{"dummy": true, "ifb": true, "nlmon": true, "vcan": true}

// aliasPrefix begins the link alias of tnat64d's own TUNs; the uplink follows.
const aliasPrefix = "tnat64d: CLAT on "

// host is what the kernel says about links, addresses and routes.
type host struct {
	plan.Observed
	carrier map[int]bool
	native  map[int]bool // links with native IPv4
	sysctl  func(family, link, key string) string
}

// observe asks the kernel.
func observe() (host, error) {
	h := host{carrier: make(map[int]bool), native: make(map[int]bool), sysctl: sysctl}
	k, err := linux.New(nil)
	if err != nil {
		return h, err
	}
	defer k.Close()
	if h.Observed, err = k.Observe(); err != nil {
		return h, err
	}
	for _, l := range h.Links {
		h.native[l.Index] = h.NativeIPv4(l.Index)
		if link, err := k.Handle().LinkByIndex(l.Index); err == nil {
			h.carrier[l.Index] = link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
		}
	}
	return h, nil
}

// sysctl reads net.FAMILY.conf.LINK.KEY; empty if there is none.
func sysctl(family, link, key string) string {
	b, err := os.ReadFile("/proc/sys/net/" + family + "/conf/" + link + "/" + key)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (h host) link(index int) plan.Link {
	for _, l := range h.Links {
		if l.Index == index {
			return l
		}
	}
	return plan.Link{}
}

func isTunnel(l plan.Link) bool { return tunnels[l.Kind] }

func eligible(l plan.Link) bool {
	return !l.Loopback && !l.BridgePort && !isTunnel(l) && !notUplinks[l.Kind] && !strings.HasPrefix(l.Alias, aliasPrefix)
}

// uplink describes the link of the given name, or finds one: the best IPv6
// default route, then IPv4, then any link with a carrier. The error is a
// mistake of whoever gave the name.
func (h host) uplink(name string) (Uplink, error) {
	var u Uplink
	for _, r := range h.defaults(true) {
		if l := h.link(r.Link); isTunnel(l) && !slices.Contains(u.Tunnels, l.Name) {
			u.Tunnels = append(u.Tunnels, l.Name)
		}
	}
	l, err := h.choose(name)
	if err != nil || l.Index == 0 {
		return u, err
	}
	u.Name, u.Index, u.Up, u.MTU = l.Name, l.Index, l.Up && h.carrier[l.Index], l.MTU
	if l.MTU6 > 0 {
		u.MTU = min(u.MTU, int(l.MTU6))
	}
	for _, r := range h.defaults(true) {
		if r.Link != l.Index {
			continue
		}
		if r.MTU > 0 {
			u.MTU = min(u.MTU, r.MTU)
		}
		if !u.Default {
			u.Default, u.Router = true, r.Gateway
		}
	}
	accept, forwarding := h.sysctl("ipv6", l.Name, "accept_ra"), h.sysctl("ipv6", l.Name, "forwarding")
	u.Ignores = accept == "0" || accept == "1" && forwarding == "1"
	u.IPv6Off = h.sysctl("ipv6", l.Name, "disable_ipv6") == "1"
	return u, nil
}

func (h host) choose(name string) (plan.Link, error) {
	if name != "" {
		var names []string
		for _, l := range h.Links {
			if l.Name == name {
				return l, nil
			}
			if eligible(l) {
				names = append(names, l.Name)
			}
		}
		return plan.Link{}, fmt.Errorf("%w %q; there are %s", ErrNoInterface, name, strings.Join(names, ", "))
	}
	for _, ipv6 := range []bool{true, false} {
		for _, r := range h.defaults(ipv6) {
			if l := h.link(r.Link); l.Index != 0 && eligible(l) {
				return l, nil
			}
		}
	}
	for _, l := range h.Links {
		if eligible(l) && l.Up && h.carrier[l.Index] {
			return l, nil
		}
	}
	return plan.Link{}, nil
}

// defaults returns the default routes of a family, the best first, without
// those of tnat64d itself.
func (h host) defaults(ipv6 bool) []plan.Route {
	var rs []plan.Route
	for _, r := range h.Routes {
		if r.IPv6 == ipv6 && r.Protocol != plan.Protocol {
			rs = append(rs, r)
		}
	}
	slices.SortStableFunc(rs, func(a, b plan.Route) int {
		main := func(r plan.Route) int {
			if r.Table == plan.TableMain {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(main(a), main(b)), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Link, b.Link))
	})
	return rs
}

// addresses returns the global IPv6 addresses of the uplink.
func (h host) addresses(u Uplink) Addresses {
	var as Addresses
	for _, a := range h.Addrs {
		ip := a.Prefix.Addr()
		if a.Link != u.Index || !ip.Is6() || ip.IsLinkLocalUnicast() || ip.IsLoopback() || a.Protocol == plan.Protocol {
			continue
		}
		switch {
		case a.DADFailed:
			as.Duplicate = append(as.Duplicate, ip)
		case a.Tentative:
			as.Tentative = append(as.Tentative, ip)
		case a.Temporary, a.Deprecated:
		default:
			as.Usable = append(as.Usable, a.Prefix)
			if p := a.Prefix.Masked(); p.Bits() >= 64 && p.Bits() <= 120 && !slices.Contains(as.Formable, p) {
				as.Formable = append(as.Formable, p)
			}
		}
	}
	return as
}

// ipv4 says what IPv4 the host has without a translator; with only, native IPv4
// of the uplink alone counts.
func (h host) ipv4(u Uplink, only bool) IPv4 {
	var v IPv4
	for _, r := range h.defaults(false) {
		l := h.link(r.Link)
		switch {
		case isTunnel(l) && !h.isCLAT(l):
			if v.Tunnel == "" {
				v.Tunnel = l.Name
			}
		case eligible(l) && !h.isCLAT(l) && h.native[l.Index]:
			if l.Index == u.Index || v.Native == "" && !only {
				v.Native = l.Name
			}
		}
	}
	return v
}

// isCLAT reports whether a link has an address that only CLATs have and no
// other IPv4 address.
func (h host) isCLAT(l plan.Link) bool {
	found := false
	for _, a := range h.Addrs {
		if ip := a.Prefix.Addr(); a.Link == l.Index && ip.Is4() {
			if !inner.Contains(ip) {
				return false
			}
			found = true
		}
	}
	return found || strings.HasPrefix(l.Alias, aliasPrefix)
}

// towards returns the link by which the host would reach an address, and
// whether it is a tunnel. It asks the kernel, as there may be routing rules.
func (h host) towards(a netip.Addr) (name string, tunnel bool) {
	if zone := a.Zone(); zone != "" {
		return zone, false
	}
	k, err := linux.New(nil)
	if err != nil {
		return "", false
	}
	defer k.Close()
	rs, err := k.Handle().RouteGet(a.AsSlice())
	if err != nil || len(rs) == 0 {
		return "", false
	}
	l := h.link(rs[0].LinkIndex)
	return l.Name, isTunnel(l) && !h.isCLAT(l)
}
