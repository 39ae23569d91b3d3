package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tnat64d/cmd/internal/control"
)

// Diagnosis is what the findings come to.
type Diagnosis struct {
	Code     string `json:"code"` // one word for programs, for example "no-pref64"
	Healthy  bool   `json:"healthy"`
	Sentence string `json:"sentence"`
	Next     string `json:"next"` // the next step
}

// Diagnose comes to one sentence: the first rule that fits. The rules are in
// the order in which one thing needs the other: a host without IPv6 is not told
// that its NAT64 does not answer.
func Diagnose(f Findings) Diagnosis {
	for _, r := range rules {
		if d, ok := r(f); ok {
			return d
		}
	}
	return healthy(f)
}

// A rule returns false if it does not fit.
type rule func(f Findings) (Diagnosis, bool)

var rules = []rule{
	noNetwork,
	nativeIPv4,
	noIPv6,
	noAddress,
	deadRouter,
	otherCLAT,
	captivePortal,
	noPREF64,
	refusedPREF64,
	unfitHost,
	duplicateAddress,
	dhcpv6Only,
	deadPLAT,
	disagreement,
	oneDeadPLAT,
	silentTCP,
	blackHole,
	filtered,
	daemonTrouble,
	plainTrouble,
	noDNS,
	vpnResolver,
	dns64Only,
}

const fits = true

var none Diagnosis // of a rule that does not fit

// noNetwork: there is no link to say anything about.
func noNetwork(f Findings) (Diagnosis, bool) {
	u := f.Uplink
	switch {
	case u.Name == "" && len(u.Tunnels) > 0:
		return Diagnosis{
			Code:     "tunnel-only",
			Sentence: fmt.Sprintf("the only way out of this host is the tunnel %s, and a tunnel is no network that could have a NAT64", u.Tunnels[0]),
			Next:     "connect to a network, or name the link below the tunnel with -uplink",
		}, fits
	case u.Name == "":
		return Diagnosis{
			Code:     "no-network",
			Sentence: "no network interface of this host is connected to anything",
			Next:     "connect to a network",
		}, fits
	case !u.Up:
		return Diagnosis{
			Code:     "link-down",
			Sentence: fmt.Sprintf("%s is not connected: it is switched off, or has no carrier", u.Name),
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
			Sentence: fmt.Sprintf("%s has a native IPv4 default route, but %s does not answer over it, and beside native IPv4 there is no CLAT", f.IPv4.Native, f.Target.Name),
			Next: "try another target; if none answers remove that route, or set clat.enable = \"always\" and a clat.metric below its own, " +
				"and tell the operator of the network",
		}, fits
	}
	d := Diagnosis{
		Code: "native-ipv4", Healthy: true,
		Sentence: fmt.Sprintf("%s has native IPv4, so nothing needs to be translated and tnat64d stands aside", f.IPv4.Native),
		Next:     "nothing to do",
	}
	if f.IPv4.Native != f.Uplink.Name {
		d.Code = "native-ipv4-elsewhere"
		d.Sentence = fmt.Sprintf("%s has native IPv4, which programs use whatever the network on %s offers", f.IPv4.Native, f.Uplink.Name)
		d.Next = fmt.Sprintf("nothing to do; -uplink %s looks at that network alone", f.Uplink.Name)
	} else if !f.Uplink.Default {
		d.Code = "ipv4-only"
		d.Sentence = fmt.Sprintf("this is a network with native IPv4 on %s and without IPv6, so there is nothing to translate", f.IPv4.Native)
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
			Sentence: fmt.Sprintf("IPv6 is switched off on %s (net.ipv6.conf.%s.disable_ipv6)", u.Name, u.Name),
			Next:     "switch it on in the network manager, or with sysctl",
		}, fits
	case offers:
		why := ""
		if u.Ignores {
			why = fmt.Sprintf(" (net.ipv6.conf.%s.accept_ra lets the kernel ignore them, and no network manager has set a route instead)", u.Name)
		}
		return Diagnosis{
			Code:     "ra-ignored",
			Sentence: fmt.Sprintf("%s offers itself as IPv6 router on %s, but this host has taken no default route from its advertisements%s", offeringRouter(f.RA), u.Name, why),
			Next:     "set IPv6 to automatic in the network manager, or accept_ra to 1 (2 on a host that forwards)",
		}, fits
	case len(f.RA.Routers) > 0:
		return Diagnosis{
			Code:     "no-default-router",
			Sentence: fmt.Sprintf("%s advertises on %s but does not offer itself as a way out, so this network's IPv6 ends at the link", f.RA.Routers[0].Address, u.Name),
			Next:     "tell the operator of the network that the router lifetime in its advertisements is 0",
		}, fits
	case !f.RA.Solicited:
		return Diagnosis{
			Code:     "no-ipv6-unasked",
			Sentence: fmt.Sprintf("%s has no IPv6 default route and no IPv4, and whether a router would offer one cannot be asked without root", u.Name),
			Next:     "run tnat64ctl doctor as root",
		}, fits
	}
	return Diagnosis{
		Code:     "no-ipv6",
		Sentence: fmt.Sprintf("there is neither IPv6 nor IPv4 on %s: no router answers and there is no IPv4 default route", u.Name),
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

// noAddress: a route out, but nobody to send from.
func noAddress(f Findings) (Diagnosis, bool) {
	a, u := f.Addresses, f.Uplink
	switch {
	case len(a.Usable) > 0:
		return none, false
	case len(a.Tentative) > 0:
		return Diagnosis{
			Code:     "address-tentative",
			Sentence: fmt.Sprintf("%s is still making sure that nobody else on the link has its address %s", u.Name, a.Tentative[0]),
			Next:     "run tnat64ctl doctor again in a few seconds",
		}, fits
	case len(a.Duplicate) > 0:
		return Diagnosis{
			Code:     "address-duplicate",
			Sentence: fmt.Sprintf("another machine on the link of %s answers for its address %s, so that the kernel must not use it", u.Name, a.Duplicate[0]),
			Next:     "find the machine with the same address, or reconnect to get another one",
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
		Next:     "if the network gives addresses by DHCPv6, run a DHCPv6 client; otherwise tell its operator",
	}, fits
}

// deadRouter: an address and a route of a network that is not there any more.
func deadRouter(f Findings) (Diagnosis, bool) {
	talks := len(f.RA.Routers) > 0 || !f.RA.Solicited || !f.Router.failed() ||
		slices.ContainsFunc(f.DNS.Servers, func(s Server) bool { return s.Answer.Kind != Silent }) ||
		slices.ContainsFunc(f.Paths, Path.answers)
	if talks {
		return none, false
	}
	return Diagnosis{
		Code: "router-dead",
		Sentence: fmt.Sprintf("%s has an address and an IPv6 default route, but the router %s answers nothing, neither a solicitation nor ping, and no DNS server answers either",
			f.Uplink.Name, f.Uplink.Router),
		Next: "reconnect to the network; if that does not help the router is broken, or the radio link is",
	}, fits
}

// otherCLAT: somebody does it already.
func otherCLAT(f Findings) (Diagnosis, bool) {
	if len(f.Others) == 0 || f.Daemon.translates(f.Uplink.Name) {
		return none, false
	}
	o := f.Others[0]
	if p, ok := f.plain(); ok && !p.answers() {
		return Diagnosis{
			Code:     "other-clat-broken",
			Sentence: fmt.Sprintf("%s has a CLAT on this host (%s), but %s does not answer through it", o.Name, o.Evidence, f.Target.Name),
			Next:     "stop that CLAT and start tnat64d; clat.enable = \"always\" lets tnat64d run beside it",
		}, fits
	}
	return Diagnosis{
		Code: "other-clat", Healthy: true,
		Sentence: fmt.Sprintf("%s has a CLAT on this host (%s), and tnat64d stands aside", o.Name, o.Evidence),
		Next:     "nothing to do, or stop that CLAT to use tnat64d",
	}, fits
}

// captivePortal: DNS does not tell the truth, and nothing else works.
func captivePortal(f Findings) (Diagnosis, bool) {
	s, ok := f.DNS.answered(Elsewhere)
	if !ok || slices.ContainsFunc(f.Paths, Path.answers) {
		return none, false
	}
	return Diagnosis{
		Code: "captive-portal",
		Sentence: fmt.Sprintf("the resolver %s of this network answers with addresses of its own (%s) instead of the truth, as captive portals do before one has logged in",
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
		intended = ", although its DHCP server says that it is meant to be used without IPv4 (option 108)"
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
			Sentence: fmt.Sprintf("DNS on %s names no NAT64 prefix%s, and what its routers advertise cannot be asked without root", u.Name, intended),
			Next:     "run tnat64ctl doctor as root",
		}, fits
	case len(f.DNS.Servers) == 0:
		return Diagnosis{
			Code:     "no-pref64-no-dns",
			Sentence: fmt.Sprintf("%s, and no DNS server of this network is known that could be asked for one%s", f.withoutRA(), intended),
			Next:     "name one with -dns, or ask the operator of the network whether it has a NAT64; clat.pref64 can name its prefix",
		}, fits
	}
	return Diagnosis{
		Code: "no-pref64-dns-silent",
		Sentence: fmt.Sprintf("%s, and its DNS servers give no answer (%s: %s)%s",
			f.withoutRA(), f.DNS.Servers[0].Address, f.DNS.Servers[0].Answer.Problems, intended),
		Next: "if names do not resolve on this host either, tell the operator of the network that its DNS does not work",
	}, fits
}

// withoutRA says how it is that routers name no prefix.
func (f Findings) withoutRA() string {
	if len(f.RA.Routers) == 0 {
		return fmt.Sprintf("no router advertises a NAT64 prefix on %s, or anything else", f.Uplink.Name)
	}
	return fmt.Sprintf("the router advertisements on %s carry no NAT64 prefix", f.Uplink.Name)
}

// refusedPREF64: every prefix is one that must not be used.
func refusedPREF64(f Findings) (Diagnosis, bool) {
	for _, p := range f.pref64() {
		if !f.RA.refuses(p) {
			return none, false
		}
	}
	p := f.pref64()[0]
	return Diagnosis{
		Code:     "pref64-refused",
		Sentence: fmt.Sprintf("the NAT64 prefix %s of this network contains its own link or this host's address, so that it cannot be used", p),
		Next:     "tell the operator of the network that the prefix is wrong",
	}, fits
}

// unfitHost: this host cannot run tnat64d.
func unfitHost(f Findings) (Diagnosis, bool) {
	h := f.Host
	if f.Daemon.translates(f.Uplink.Name) {
		return none, false // it does
	}
	switch {
	case h.TUN != "":
		return Diagnosis{
			Code:     "no-tun",
			Sentence: fmt.Sprintf("the network has a NAT64, but tnat64d cannot run on this host: %s", h.TUN),
			Next:     "load the driver (modprobe tun); a container must be given the device /dev/net/tun",
		}, fits
	case slices.Contains(h.Missing, "CAP_NET_ADMIN"):
		return Diagnosis{
			Code:     "no-rights",
			Sentence: "the network has a NAT64, but no process here may have CAP_NET_ADMIN, without which tnat64d cannot run",
			Next:     "give that capability to the container, or run tnat64d outside of it",
		}, fits
	}
	return none, false
}

// duplicateAddress: every address that we could form seems taken.
func duplicateAddress(f Findings) (Diagnosis, bool) {
	if !f.Fresh.Tested || !f.Fresh.Duplicate {
		return none, false
	}
	return Diagnosis{
		Code: "dad-answered",
		Sentence: fmt.Sprintf("something on the link of %s claims every new address for itself (it answered for %s, which was made up), so that a CLAT gets none",
			f.Uplink.Name, f.Fresh.Address),
		Next: "tell the operator of the network that a switch or access point answers duplicate address detection",
	}, fits
}

// dhcpv6Only: no prefix of which a CLAT could form its address.
func dhcpv6Only(f Findings) (Diagnosis, bool) {
	if len(f.formable()) > 0 || f.Daemon.translates(f.Uplink.Name) {
		return none, false
	}
	return Diagnosis{
		Code: "dhcpv6-only",
		Sentence: fmt.Sprintf("the network on %s has a NAT64 but gives addresses by DHCPv6 only, one for each host (%s), and a CLAT needs one of its own",
			f.Uplink.Name, f.Addresses.Usable[0].Addr()),
		Next: "get a second address for this host and name it in clat.ipv6, or ask the operator of the network for SLAAC",
	}, fits
}

// deadPLAT: nothing comes back through any prefix.
func deadPLAT(f Findings) (Diagnosis, bool) {
	ways := f.through()
	if len(ways) == 0 || slices.ContainsFunc(ways, Path.answers) {
		return none, false
	}
	var ps []string
	for _, w := range ways {
		ps = append(ps, w.PREF64.String())
	}
	why := ""
	if w := ways[0].Echo; w.Tested && w.Why != noAnswer {
		why = " (" + w.Why + ")"
	}
	next := "try another target; if none answers tell the operator of the network that its NAT64 does not work"
	if f.Router.OK {
		next = "the router answers, so try another target; if none does tell the operator of the network that its NAT64 does not work"
	}
	return Diagnosis{
		Code:     "plat-dead",
		Sentence: fmt.Sprintf("the network names the NAT64 prefix %s, but %s does not answer through it%s", strings.Join(ps, " and "), f.Target.Name, why),
		Next:     next,
	}, fits
}

// oneDeadPLAT: of several prefixes some work.
func oneDeadPLAT(f Findings) (Diagnosis, bool) {
	var dead, alive []netip.Prefix
	for _, w := range f.through() {
		if w.answers() {
			alive = append(alive, w.PREF64)
		} else {
			dead = append(dead, w.PREF64)
		}
	}
	if len(dead) == 0 {
		return none, false
	}
	next := fmt.Sprintf("set clat.pref64 = [%q], or leave it to tnat64d, which changes over by itself when nothing comes back; and tell the operator of the network", alive[0])
	if u, ok := f.Daemon.uplink(f.Uplink.Name); ok && f.Daemon.translates(f.Uplink.Name) && len(u.PREF64) > 0 && slices.Contains(alive, u.PREF64[0].Prefix) {
		next = fmt.Sprintf("nothing to do on this host, where tnat64d uses %s; but tell the operator of the network", u.PREF64[0].Prefix)
	}
	return Diagnosis{
		Code:     "one-plat-dead",
		Sentence: fmt.Sprintf("the network names several NAT64 prefixes, and %s answers through %s but not through %s", f.Target.Name, joinPrefixes(alive), joinPrefixes(dead)),
		Next:     next,
	}, fits
}

// silentTCP: ping passes, TCP does not.
func silentTCP(f Findings) (Diagnosis, bool) {
	for _, w := range f.through() {
		if w.Echo.OK && w.TCP.failed() {
			return Diagnosis{
				Code:     "tcp-silent",
				Sentence: fmt.Sprintf("%s answers ping through the NAT64 prefix %s, but no TCP connection to its port %d comes about (%s)", f.Target.Address, w.PREF64, f.Target.Port, w.TCP.Why),
				Next:     "try another port or target; if none works tell the operator of the network that its NAT64 does not pass TCP",
			}, fits
		}
	}
	return none, false
}

// blackHole: large packets disappear.
func blackHole(f Findings) (Diagnosis, bool) {
	s := f.Size
	switch {
	case !s.blackHole():
		return none, false
	case s.Largest == 0:
		return Diagnosis{
			Code:     "black-hole",
			Sentence: fmt.Sprintf("small packets reach %s through the NAT64, but not even those of %d bytes, which every IPv6 network must carry, and nobody says that they are too big", f.Target.Name, minMTU),
			Next:     "tell the operator of the network; there is no setting of tnat64d that helps",
		}, fits
	}
	return Diagnosis{
		Code: "black-hole",
		Sentence: fmt.Sprintf("packets above %d bytes disappear on the way to %s without anybody saying that they are too big (%s could send %d): downloads will hang",
			s.Largest, f.Target.Name, f.Uplink.Name, s.Link),
		Next: fmt.Sprintf("if another target shows the same, set clat.mtu = %d and tell the operator of the network that ICMPv6 Packet Too Big messages are lost", s.Largest-20),
	}, fits
}

// filtered: only addresses that the network knows may be used.
func filtered(f Findings) (Diagnosis, bool) {
	if !f.Fresh.filtered() {
		return none, false
	}
	return Diagnosis{
		Code: "address-filtered",
		Sentence: fmt.Sprintf("the network on %s answers this host's own address but not a second one that was put beside it for a moment (%s), so that a CLAT would get no answers",
			f.Uplink.Name, f.Fresh.Address),
		Next: "ask the operator of the network to allow several IPv6 addresses for each host (ND inspection, source guard or a limit on the access point)",
	}, fits
}

// daemonTrouble: the network is good, but tnat64d is not at work.
func daemonTrouble(f Findings) (Diagnosis, bool) {
	d := f.Daemon
	if !d.Running {
		return none, false
	}
	if d.Status == nil {
		if d.translates(f.Uplink.Name) {
			return none, false
		}
		return Diagnosis{
			Code:     "tnat64d-mute",
			Sentence: fmt.Sprintf("the network is good, and tnat64d runs but cannot be asked what it does: %s", d.Error),
			Next:     "run tnat64ctl doctor as root, or as a member of the group that owns the control socket",
		}, fits
	}
	if d.Status.Enable == "never" {
		return Diagnosis{
			Code: "tnat64d-never", Healthy: true,
			Sentence: "the network has all that a CLAT needs, but tnat64d is told never to run one",
			Next:     "set clat.enable = \"auto\" to let it",
		}, fits
	}
	u, ok := d.uplink(f.Uplink.Name)
	why := d.Status.Why
	if ok {
		why = u.Why
	}
	switch {
	case !ok:
		return Diagnosis{
			Code:     "tnat64d-elsewhere",
			Sentence: fmt.Sprintf("the network on %s is good, but tnat64d does not look at it%s", f.Uplink.Name, because(why)),
			Next:     "see clat.uplinks in its configuration",
		}, fits
	case u.State == control.Failed:
		return Diagnosis{
			Code:     "tnat64d-failed",
			Sentence: fmt.Sprintf("the network on %s is good, but tnat64d could not set up its CLAT%s", u.Name, because(why)),
			Next:     "see its log: journalctl -u tnat64d",
		}, fits
	case u.State == control.Starting:
		return Diagnosis{
			Code: "tnat64d-starting", Healthy: true,
			Sentence: fmt.Sprintf("the network on %s is good, and tnat64d is just starting its CLAT%s", u.Name, because(why)),
			Next:     "wait for two seconds",
		}, fits
	case !d.translates(u.Name):
		return Diagnosis{
			Code:     "tnat64d-waits",
			Sentence: fmt.Sprintf("the network on %s is good, but tnat64d has no CLAT there (%s)%s", u.Name, u.State, because(why)),
			Next:     "see tnat64ctl status",
		}, fits
	case u.CLAT != nil && u.CLAT.PLAT.State == control.PLATSilent && len(f.through()) == 0:
		return Diagnosis{
			Code:     "plat-silent",
			Sentence: fmt.Sprintf("tnat64d translates on %s, but nothing comes back from the NAT64%s", u.Name, because(u.CLAT.PLAT.Why)),
			Next:     "name a host that is known to answer with -target, to see where the packets stay",
		}, fits
	}
	return none, false
}

// plainTrouble: everything works except what programs do.
func plainTrouble(f Findings) (Diagnosis, bool) {
	p, ok := f.plain()
	ways := f.through()
	if !ok || p.answers() || !slices.ContainsFunc(ways, Path.answers) {
		return none, false
	}
	if !f.Daemon.translates(f.Uplink.Name) {
		return none, false
	}
	return Diagnosis{
		Code:     "clat-stuck",
		Sentence: fmt.Sprintf("%s answers through the NAT64 over IPv6 but not over IPv4, so the packets stay between the programs of this host and tnat64d", f.Target.Name),
		Next:     "look for a firewall rule that drops IPv4 on the CLAT's interface, and see tnat64ctl trace",
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
		Sentence: fmt.Sprintf("the network on %s has the NAT64 prefix %s, but none of the DNS servers answers (%s: %s), so that only addresses work and no names",
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
		d.Sentence += ", and one of the two may lead nowhere"
		d.Next = "find out which with -target, and tell the operator of the network; tnat64d follows the router advertisements"
	case ra.answers() && dns.answers():
		d.Healthy = true
		d.Sentence += fmt.Sprintf("; %s answers through both", f.Target.Name)
		d.Next = advice(f, "nothing to do; tnat64d follows the router advertisements")
	case ra.answers():
		d.Sentence += fmt.Sprintf(", through which %s does not answer", f.Target.Name)
		d.Next = "tell the operator of the network that its DNS64 is wrong; programs that use IPv4 addresses work with tnat64d all the same"
	default:
		d.Sentence += fmt.Sprintf(", and only through that does %s answer", f.Target.Name)
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
	where := "another than the network's own"
	if s.Tunnel {
		where = "reached through the tunnel " + s.Via
	}
	return Diagnosis{
		Code: "vpn-resolver", Healthy: true,
		Sentence: fmt.Sprintf("programs on this host ask the resolver %s, %s, which knows nothing of this network's NAT64 %s: IPv4-only names work only through a CLAT",
			s.Address, where, joinPrefixes(f.pref64())),
		Next: advice(f, "nothing to do; tnat64d asks the network's own resolvers and is not misled"),
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
		Sentence: fmt.Sprintf("the network on %s has a NAT64 (%s) that it names by DNS64 only and not in its router advertisements; tnat64d finds it nevertheless",
			f.Uplink.Name, joinPrefixes(f.DNS.pref64())),
		Next: advice(f, "nothing to do"),
	}, fits
}

// healthy is the diagnosis of last resort, and the best.
func healthy(f Findings) Diagnosis {
	u := f.Uplink.Name
	d := Diagnosis{Code: "healthy", Healthy: true, Next: advice(f, "nothing to do")}
	tested := ""
	if len(f.through()) > 0 {
		tested = fmt.Sprintf(", through which %s answers", f.Target.Name)
	}
	if !f.Daemon.translates(u) {
		d.Sentence = fmt.Sprintf("the network on %s is IPv6-only and has all that a CLAT needs: the NAT64 prefix %s%s", u, joinPrefixes(f.pref64()), tested)
		return d
	}
	d.Sentence = fmt.Sprintf("all is well: tnat64d translates on %s with the NAT64 prefix %s%s", u, joinPrefixes(f.pref64()), tested)
	return d
}

// advice is the next step on a network that is good: to start tnat64d if it
// does not run, or else what is given.
func advice(f Findings, otherwise string) string {
	if f.Daemon.Running {
		return otherwise
	}
	return "start tnat64d: systemctl enable --now tnat64d"
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func join(as []netip.Addr) string {
	var s []string
	for _, a := range as {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}

func joinPrefixes(ps []netip.Prefix) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.String())
	}
	return strings.Join(s, " and ")
}
