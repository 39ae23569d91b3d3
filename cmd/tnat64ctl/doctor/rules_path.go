package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// duplicateAddress: every new address seems taken.
func duplicateAddress(f Findings) (Diagnosis, bool) {
	if !f.Fresh.Tested || !f.Fresh.Duplicate {
		return none, false
	}
	return Diagnosis{
		Code: "dad-answered",
		Sentence: fmt.Sprintf("a device on the link of %s claims every new address (it answered for the random %s), so a CLAT cannot get one",
			f.Uplink.Name, f.Fresh.Address),
		Next: "tell the operator of the network that a switch or access point answers duplicate address detection",
	}, fits
}

// oneAddress: no prefix in which a CLAT could form its address, and no way to share
// the host's.
func oneAddress(f Findings) (Diagnosis, bool) {
	if len(f.formable()) > 0 || f.Daemon.translates(f.Uplink.Name) || f.Host.BPF == "" {
		return none, false
	}
	return Diagnosis{
		Code: "dhcpv6-only",
		Sentence: fmt.Sprintf("the network on %s gives this host one IPv6 address (%s), and a CLAT cannot share it because the kernel refuses BPF (%s)",
			f.Uplink.Name, f.Addresses.Usable[0].Addr(), f.Host.BPF),
		Next: "run a kernel that has BPF, or set clat.ipv6 to a second address of this host",
	}, fits
}

// deadPLAT: the target answers through no prefix.
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
	next := "try another target; if none answers, tell the operator of the network that its NAT64 does not work"
	if f.Router.OK {
		next = "the router answers, so try another target; if none does, tell the operator of the network that its NAT64 does not work"
	}
	return Diagnosis{
		Code:     "plat-dead",
		Sentence: fmt.Sprintf("the network names the NAT64 prefix %s, but %s does not answer through it%s", strings.Join(ps, " and "), f.Target.Name, why),
		Next:     next,
	}, fits
}

// oneDeadPLAT: the target answers through some prefixes only.
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
	next := fmt.Sprintf("set clat.pref64 = [%q], or let tnat64d switch by itself when a NAT64 does not answer; tell the operator of the network", alive[0])
	if u, ok := f.Daemon.uplink(f.Uplink.Name); ok && f.Daemon.translates(f.Uplink.Name) && len(u.PREF64) > 0 && slices.Contains(alive, u.PREF64[0].Prefix) {
		next = fmt.Sprintf("nothing to do on this host, where tnat64d uses %s; tell the operator of the network", u.PREF64[0].Prefix)
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
				Sentence: fmt.Sprintf("%s answers ping through the NAT64 prefix %s, but cannot be reached on TCP port %d (%s)", f.Target.Address, w.PREF64, f.Target.Port, w.TCP.Why),
				Next:     "try another port or target; if none works, tell the operator of the network that its NAT64 does not pass TCP",
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
			Sentence: fmt.Sprintf("small packets reach %s through the NAT64, but packets of %d bytes, which every IPv6 link must carry, are lost without a Packet Too Big", f.Target.Name, minMTU),
			Next:     "tell the operator of the network; no setting of tnat64d helps",
		}, fits
	}
	return Diagnosis{
		Code: "black-hole",
		Sentence: fmt.Sprintf("packets larger than %d bytes to %s are lost without a Packet Too Big (%s can send %d): downloads will hang",
			s.Largest, f.Target.Name, f.Uplink.Name, s.Link),
		Next: fmt.Sprintf("if another target shows the same, set clat.mtu = %d and tell the operator of the network that ICMPv6 Packet Too Big messages are lost", s.Largest-20),
	}, fits
}

// filtered: the network passes only addresses that it knows.
func filtered(f Findings) (Diagnosis, bool) {
	if !f.Fresh.filtered() {
		return none, false
	}
	return Diagnosis{
		Code: "address-filtered",
		Sentence: fmt.Sprintf("the network on %s answers this host's own address but not a second, temporary one (%s), so a CLAT would get no answers",
			f.Uplink.Name, f.Fresh.Address),
		Next: "ask the operator of the network to allow several IPv6 addresses for each host (ND inspection, source guard or a limit on the access point)",
	}, fits
}

// plainTrouble: the network works, but IPv4 programs do not reach it.
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
		Sentence: fmt.Sprintf("%s answers through the NAT64 over IPv6 but not over IPv4, so packets are lost between the programs of this host and tnat64d", f.Target.Name),
		Next:     "look for a firewall rule that drops IPv4 on the CLAT's interface, and run tnat64ctl trace",
	}, fits
}
