package doctor

import (
	"fmt"
	"net/netip"
	"slices"
)

// noNetwork: there is no uplink.
func noNetwork(f Findings) (Diagnosis, bool) {
	u := f.Uplink
	switch {
	case u.Name == "" && len(u.Tunnels) > 0:
		return Diagnosis{
			Code:     "tunnel-only",
			Sentence: fmt.Sprintf("the only IPv6 default route of this host leads into the tunnel %s, and a tunnel is not an uplink", u.Tunnels[0]),
			Next:     "connect to a network, or name the link below the tunnel with -uplink",
		}, fits
	case u.Name == "":
		return Diagnosis{
			Code:     "no-network",
			Sentence: "no network interface of this host is connected to a network",
			Next:     "connect to a network",
		}, fits
	case !u.Up:
		return Diagnosis{
			Code:     "link-down",
			Sentence: fmt.Sprintf("%s is not connected: it is down or has no carrier", u.Name),
			Next:     "connect it to a network",
		}, fits
	}
	return none, false
}

// nativeIPv4: nothing needs translating.
func nativeIPv4(f Findings) (Diagnosis, bool) {
	if f.IPv4.Native == "" {
		return none, false
	}
	if p, ok := f.plain(); ok && !p.answers() {
		return Diagnosis{
			Code:     "native-ipv4-broken",
			Sentence: fmt.Sprintf("%s has a native IPv4 default route, but %s does not answer over it, and tnat64d runs no CLAT beside native IPv4", f.IPv4.Native, f.Target.Name),
			Next: "try another target; if none answers, remove that route, or set clat.enable = \"always\" and a clat.metric below its own, " +
				"and tell the operator of the network",
		}, fits
	}
	d := Diagnosis{
		Code: "native-ipv4", Healthy: true,
		Sentence: fmt.Sprintf("%s has native IPv4, so no CLAT is needed", f.IPv4.Native),
		Next:     "nothing to do",
	}
	if f.IPv4.Native != f.Uplink.Name {
		d.Code = "native-ipv4-elsewhere"
		d.Sentence = fmt.Sprintf("%s has native IPv4, which programs use whatever the network on %s offers", f.IPv4.Native, f.Uplink.Name)
		d.Next = fmt.Sprintf("nothing to do; run tnat64ctl doctor -uplink %s to examine that network alone", f.Uplink.Name)
	} else if !f.Uplink.Default {
		d.Code = "ipv4-only"
		d.Sentence = fmt.Sprintf("the network on %s has native IPv4 and no IPv6, so there is nothing to translate", f.IPv4.Native)
	}
	return d, fits
}

// noIPv6: no IPv6 default route.
func noIPv6(f Findings) (Diagnosis, bool) {
	u := f.Uplink
	if u.Default {
		return none, false
	}
	offers := slices.ContainsFunc(f.RA.Routers, func(r Router) bool { return r.Default })
	switch {
	case u.IPv6Off:
		return Diagnosis{
			Code:     "ipv6-off",
			Sentence: fmt.Sprintf("IPv6 is disabled on %s (net.ipv6.conf.%s.disable_ipv6)", u.Name, u.Name),
			Next:     "enable it in the network manager, or with sysctl",
		}, fits
	case offers:
		why := ""
		if u.Ignores {
			why = fmt.Sprintf(" (net.ipv6.conf.%s.accept_ra makes the kernel ignore advertisements, and no network manager has added a route)", u.Name)
		}
		return Diagnosis{
			Code:     "ra-ignored",
			Sentence: fmt.Sprintf("%s advertises itself as a default router on %s, but this host has no IPv6 default route%s", offeringRouter(f.RA), u.Name, why),
			Next:     "set IPv6 to automatic in the network manager, or accept_ra to 1 (2 on a host that forwards)",
		}, fits
	case len(f.RA.Routers) > 0:
		return Diagnosis{
			Code:     "no-default-router",
			Sentence: fmt.Sprintf("%s sends router advertisements on %s but is not a default router, so IPv6 does not reach beyond the link", f.RA.Routers[0].Address, u.Name),
			Next:     "tell the operator of the network that the router lifetime in its advertisements is 0",
		}, fits
	case !f.RA.Solicited:
		return Diagnosis{
			Code:     "no-ipv6-unasked",
			Sentence: fmt.Sprintf("%s has no IPv6 default route and no IPv4; only root can solicit routers", u.Name),
			Next:     "run tnat64ctl doctor as root",
		}, fits
	}
	return Diagnosis{
		Code:     "no-ipv6",
		Sentence: fmt.Sprintf("%s has neither IPv6 nor IPv4: no router answers, and there is no IPv4 default route", u.Name),
		Next:     "check that this is the right network and that its router works",
	}, fits
}

func offeringRouter(ra RA) netip.Addr {
	for _, r := range ra.Routers {
		if r.Default {
			return r.Address
		}
	}
	return netip.Addr{}
}

// noAddress: a default route, but no address to send from.
func noAddress(f Findings) (Diagnosis, bool) {
	a, u := f.Addresses, f.Uplink
	switch {
	case len(a.Usable) > 0:
		return none, false
	case len(a.Tentative) > 0:
		return Diagnosis{
			Code:     "address-tentative",
			Sentence: fmt.Sprintf("duplicate address detection on %s is still running for %s", u.Name, a.Tentative[0]),
			Next:     "run tnat64ctl doctor again in a few seconds",
		}, fits
	case len(a.Duplicate) > 0:
		return Diagnosis{
			Code:     "address-duplicate",
			Sentence: fmt.Sprintf("another machine on the link of %s uses its address %s, so the kernel does not", u.Name, a.Duplicate[0]),
			Next:     "find the machine with the same address, or reconnect to get another address",
		}, fits
	case len(f.RA.slaac()) > 0:
		return Diagnosis{
			Code:     "no-address",
			Sentence: fmt.Sprintf("the network offers addresses in %s, but %s has formed none", f.RA.slaac()[0], u.Name),
			Next:     "set IPv6 to automatic in the network manager, or net.ipv6.conf." + u.Name + ".autoconf to 1",
		}, fits
	}
	return Diagnosis{
		Code:     "no-address",
		Sentence: fmt.Sprintf("%s has an IPv6 default route and no global IPv6 address", u.Name),
		Next:     "if the network assigns addresses by DHCPv6, run a DHCPv6 client; otherwise tell its operator",
	}, fits
}

// deadRouter: an address and a route of a network that has gone.
func deadRouter(f Findings) (Diagnosis, bool) {
	talks := len(f.RA.Routers) > 0 || !f.RA.Solicited || !f.Router.failed() ||
		slices.ContainsFunc(f.DNS.Servers, func(s Server) bool { return s.Answer.Kind != Silent }) ||
		slices.ContainsFunc(f.Paths, Path.answers)
	if talks {
		return none, false
	}
	return Diagnosis{
		Code: "router-dead",
		Sentence: fmt.Sprintf("%s has an address and an IPv6 default route, but the router %s answers neither solicitations nor ping, and no DNS server answers",
			f.Uplink.Name, f.Uplink.Router),
		Next: "reconnect to the network; if that does not help, the router or the radio link is broken",
	}, fits
}
