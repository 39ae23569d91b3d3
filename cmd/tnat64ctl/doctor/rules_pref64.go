package doctor

import (
	"fmt"
	"net/netip"
	"slices"
)

// captivePortal: DNS answers are forged, and nothing else works.
func captivePortal(f Findings) (Diagnosis, bool) {
	s, ok := f.DNS.answered(Elsewhere)
	if !ok || slices.ContainsFunc(f.Paths, Path.answers) {
		return none, false
	}
	return Diagnosis{
		Code: "captive-portal",
		Sentence: fmt.Sprintf("the resolver %s of this network returns addresses of its own (%s) for ipv4only.arpa, as captive portals do before login",
			s.Address, join(s.Answer.Address)),
		Next: "open a web page in a browser, log in, and run tnat64ctl doctor again",
	}, fits
}

// noPREF64: no prefix by any means.
func noPREF64(f Findings) (Diagnosis, bool) {
	if len(f.pref64()) > 0 {
		return none, false
	}
	u := f.Uplink
	asked := f.RA.Solicited || len(f.RA.Routers) > 0
	_, negative := f.DNS.answered(Negative)
	intended := ""
	if f.DHCP.Option {
		intended = ", although its DHCP server asks hosts to do without IPv4 (option 108)"
	}
	switch {
	case negative && asked, negative && f.DHCP.Option:
		return Diagnosis{
			Code:     "no-pref64",
			Sentence: fmt.Sprintf("the network on %s is IPv6-only and offers no NAT64: neither its router advertisements nor its DNS name a prefix%s", u.Name, intended),
			Next:     "ask the operator of the network for NAT64, or use a VPN that carries IPv4; if there is a NAT64, clat.pref64 can name its prefix",
		}, fits
	case !asked:
		return Diagnosis{
			Code:     "no-pref64-unasked",
			Sentence: fmt.Sprintf("DNS on %s names no NAT64 prefix%s; only root can solicit the routers", u.Name, intended),
			Next:     "run tnat64ctl doctor as root",
		}, fits
	case len(f.DNS.Servers) == 0:
		return Diagnosis{
			Code:     "no-pref64-no-dns",
			Sentence: fmt.Sprintf("%s, and no DNS server of this network is known%s", f.withoutRA(), intended),
			Next:     "name one with -dns, or ask the operator of the network whether it has a NAT64; clat.pref64 can name its prefix",
		}, fits
	}
	return Diagnosis{
		Code: "no-pref64-dns-silent",
		Sentence: fmt.Sprintf("%s, and its DNS servers do not answer (%s: %s)%s",
			f.withoutRA(), f.DNS.Servers[0].Address, f.DNS.Servers[0].Answer.Problems, intended),
		Next: "if names do not resolve on this host either, tell the operator of the network that its DNS does not work",
	}, fits
}

// withoutRA says why routers name no prefix.
func (f Findings) withoutRA() string {
	if len(f.RA.Routers) == 0 {
		return fmt.Sprintf("no router advertisement comes in on %s", f.Uplink.Name)
	}
	return fmt.Sprintf("the router advertisements on %s carry no NAT64 prefix", f.Uplink.Name)
}

// refusedPREF64: every prefix is refused.
func refusedPREF64(f Findings) (Diagnosis, bool) {
	for _, p := range f.pref64() {
		if !f.RA.refuses(p) {
			return none, false
		}
	}
	p := f.pref64()[0]
	return Diagnosis{
		Code:     "pref64-refused",
		Sentence: fmt.Sprintf("the NAT64 prefix %s of this network overlaps the link or an address of this host, so it cannot be used", p),
		Next:     "tell the operator of the network that the prefix is wrong",
	}, fits
}

// noDNS: no resolver answers, neither the network's nor the host's.
func noDNS(f Findings) (Diagnosis, bool) {
	servers := slices.Concat(f.DNS.Servers, f.System)
	if len(f.DNS.Servers) == 0 || slices.ContainsFunc(servers, func(s Server) bool { return s.Answer.Kind != Silent }) {
		return none, false
	}
	s := f.DNS.Servers[0]
	return Diagnosis{
		Code: "dns-silent",
		Sentence: fmt.Sprintf("the network on %s has the NAT64 prefix %s, but its DNS servers do not answer (%s: %s), so names do not resolve",
			f.Uplink.Name, joinPrefixes(f.pref64()), s.Address, s.Answer.Problems),
		Next: "tell the operator of the network that its DNS does not work",
	}, fits
}

// disagreement: DNS synthesises for another NAT64 than the routers name.
func disagreement(f Findings) (Diagnosis, bool) {
	if !f.disagree() {
		return none, false
	}
	d := Diagnosis{
		Code: "disagreement",
		Sentence: fmt.Sprintf("the router advertisements on %s name the NAT64 prefix %s, but its DNS uses %s",
			f.Uplink.Name, joinPrefixes(f.RA.pref64()), joinPrefixes(f.DNS.pref64())),
	}
	ra, dns := f.any(f.RA.pref64()), f.any(f.DNS.pref64())
	switch {
	case !ra.tested() || !dns.tested():
		d.Sentence += ", and one of the two may not work"
		d.Next = "run tnat64ctl doctor -target HOST:PORT to find out which, and tell the operator of the network; tnat64d follows the router advertisements"
	case ra.answers() && dns.answers():
		d.Healthy = true
		d.Sentence += fmt.Sprintf("; %s answers through both", f.Target.Name)
		d.Next = advice(f, "nothing to do; tnat64d follows the router advertisements")
	case ra.answers():
		d.Sentence += fmt.Sprintf(", through which %s does not answer", f.Target.Name)
		d.Next = "tell the operator of the network that its DNS64 is wrong; programs that use IPv4 addresses still work through tnat64d"
	default:
		d.Sentence += fmt.Sprintf("; %s answers only through the latter", f.Target.Name)
		d.Next = fmt.Sprintf("set clat.pref64 = [%q], and tell the operator of the network that the router advertisements are wrong", dns.PREF64)
	}
	return d, fits
}

// disagree reports whether routers and DNS have no prefix in common.
func (f Findings) disagree() bool {
	ra, dns := f.RA.pref64(), f.DNS.pref64()
	return len(ra) > 0 && len(dns) > 0 && !slices.ContainsFunc(dns, func(p netip.Prefix) bool { return slices.Contains(ra, p) })
}

// any returns the best path through one of the prefixes.
func (f Findings) any(ps []netip.Prefix) Path {
	var best Path
	for _, w := range f.through() {
		if slices.Contains(ps, w.PREF64) && (!best.tested() || w.answers() && !best.answers()) {
			best = w
		}
	}
	return best
}

// vpnResolver: programs do not ask the network's DNS64.
func vpnResolver(f Findings) (Diagnosis, bool) {
	s, ok := f.vpnResolver()
	if !ok {
		return none, false
	}
	where := "not one of the network's own"
	if s.Tunnel {
		where = "reached through the tunnel " + s.Via
	}
	return Diagnosis{
		Code: "vpn-resolver", Healthy: true,
		Sentence: fmt.Sprintf("programs on this host ask the resolver %s, %s, which does not know this network's NAT64 %s: names without AAAA records work only through a CLAT",
			s.Address, where, joinPrefixes(f.pref64())),
		Next: advice(f, "nothing to do; tnat64d asks the network's own resolvers"),
	}, fits
}

// vpnResolver returns a resolver that programs ask and that gives another
// answer than the link's own.
func (f Findings) vpnResolver() (Server, bool) {
	known := union(f.RA.pref64(), f.DNS.pref64())
	if len(f.DNS.pref64()) == 0 {
		return Server{}, false // the network's own would tell programs nothing either
	}
	for _, s := range f.System {
		own := slices.ContainsFunc(f.DNS.Servers, func(l Server) bool { return l.Address == s.Address && !s.Tunnel })
		knows := slices.ContainsFunc(s.Answer.PREF64, func(p netip.Prefix) bool { return slices.Contains(known, p) })
		if !own && !knows && (s.Tunnel || s.Answer.Kind != Silent) {
			return s, true
		}
	}
	return Server{}, false
}

// dns64Only: a prefix, but not from routers.
func dns64Only(f Findings) (Diagnosis, bool) {
	asked := f.RA.Solicited || len(f.RA.Routers) > 0
	if len(f.RA.pref64()) > 0 || len(f.DNS.pref64()) == 0 || !asked {
		return none, false
	}
	return Diagnosis{
		Code: "dns64-only", Healthy: true,
		Sentence: fmt.Sprintf("the network on %s announces its NAT64 (%s) by DNS64 only, not in router advertisements; tnat64d discovers it by DNS",
			f.Uplink.Name, joinPrefixes(f.DNS.pref64())),
		Next: advice(f, "nothing to do"),
	}, fits
}
