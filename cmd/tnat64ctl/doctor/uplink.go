package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	linux "tnat64d/clat/host"
	"tnat64d/clat/plan"
	"tnat64d/datapath/steer"
)

// host is what the kernel says about links, addresses and routes.
type host struct {
	plan.Observed
	sysctl func(family, link, key string) string
	// named are tunnels that are uplinks because the configuration or the user
	// names them. They are judged as other uplinks are.
	named []string
}

// observe asks the kernel.
func observe() (host, error) {
	k, err := linux.New(steer.NewPrograms().Foreign)
	if err != nil {
		return host{}, err
	}
	defer k.Close()
	o, err := k.Observe()
	return host{Observed: o, sysctl: sysctl}, err
}

// sysctl reads net.FAMILY.conf.LINK.KEY; empty if there is none.
func sysctl(family, link, key string) string {
	b, err := os.ReadFile("/proc/sys/net/" + family + "/conf/" + link + "/" + key)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// eligible reports whether a link may be the uplink once it is up.
func (h host) eligible(l plan.Link) bool {
	return (l.LeadsToNetwork() || h.isNamed(l)) && !h.IsOurs(l)
}

// isNamed reports whether a link is an uplink although it is a tunnel.
func (h host) isNamed(l plan.Link) bool { return l.IsTunnel() && slices.Contains(h.named, l.Name) }

// isTunnel reports whether a link is a tunnel, such as a VPN's, and no uplink.
func (h host) isTunnel(l plan.Link) bool { return l.IsTunnel() && !h.isNamed(l) && !h.isCLAT(l) }

// namedBy takes the links that the user or the daemon calls uplinks.
func (h *host) namedBy(user string, d Daemon) {
	h.named = append(h.named, user)
	for uplink := range d.Interfaces {
		h.named = append(h.named, uplink)
	}
	if d.Status != nil {
		for _, u := range d.Status.Uplinks {
			h.named = append(h.named, u.Name)
		}
	}
}

// uplink describes the link of the given name, or finds one: the best IPv6
// default route, then IPv4, then any link with a carrier. The error is a
// mistake of whoever gave the name.
func (h host) uplink(name string) (Uplink, error) {
	var u Uplink
	for _, r := range h.defaults(true) {
		if l, _ := h.LinkByIndex(r.Link); h.isTunnel(l) && !slices.Contains(u.Tunnels, l.Name) {
			u.Tunnels = append(u.Tunnels, l.Name)
		}
	}
	l, err := h.choose(name)
	if err != nil || l.Index == 0 {
		return u, err
	}
	u.Name, u.Index, u.Up, u.MTU = l.Name, l.Index, l.Up && l.Carrier, int(h.UplinkMTU(l))
	if i := slices.IndexFunc(h.defaults(true), func(r plan.Route) bool { return r.Link == l.Index }); i >= 0 {
		u.Default, u.Router = true, h.defaults(true)[i].Gateway
	}
	accept, forwarding := h.sysctl("ipv6", l.Name, "accept_ra"), h.sysctl("ipv6", l.Name, "forwarding")
	u.Ignores = accept == "0" || accept == "1" && forwarding == "1"
	u.IPv6Off = h.sysctl("ipv6", l.Name, "disable_ipv6") == "1"
	return u, nil
}

func (h host) choose(name string) (plan.Link, error) {
	if name != "" {
		if l, ok := h.LinkByName(name); ok {
			return l, nil
		}
		var names []string
		for _, l := range h.Links {
			if h.eligible(l) {
				names = append(names, l.Name)
			}
		}
		return plan.Link{}, fmt.Errorf("%w %q; there are %s", ErrNoInterface, name, strings.Join(names, ", "))
	}
	for _, ipv6 := range []bool{true, false} {
		for _, r := range h.defaults(ipv6) {
			if l, ok := h.LinkByIndex(r.Link); ok && h.eligible(l) {
				return l, nil
			}
		}
	}
	for _, l := range h.Links {
		if h.eligible(l) && l.Up && l.Carrier {
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
			if p, ok := a.Formable(); ok && !slices.Contains(as.Formable, p) {
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
		l, _ := h.LinkByIndex(r.Link)
		switch {
		case h.isTunnel(l):
			v.Tunnel = cmp.Or(v.Tunnel, l.Name)
		case h.eligible(l) && h.NativeIPv4(l.Index):
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
			if !plan.ServiceContinuityPrefix.Contains(ip) {
				return false
			}
			found = true
		}
	}
	return found || h.IsOurs(l)
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
	l, _ := h.LinkByIndex(rs[0].LinkIndex)
	return l.Name, h.isTunnel(l)
}
