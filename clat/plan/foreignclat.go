package plan

import (
	"fmt"
	"net/netip"
	"strings"
)

// ForeignCLAT is the CLAT of another program, or the remains of one.
type ForeignCLAT struct {
	Link Link       // with the address or the BPF programs
	IPv4 netip.Addr // of 192.0.0.0/29; invalid: none
	// Lacks describes what is missing: a CLAT needs an IPv4 address, an IPv4
	// default route and a translator. It is empty if the CLAT is alive.
	Lacks string
}

// Alive reports whether the CLAT can carry packets.
func (f ForeignCLAT) Alive() bool { return f.Lacks == "" }

// managerPrograms is the prefix of the names of NetworkManager's BPF programs.
const managerPrograms = "nm_"

// Manager reports whether the CLAT is NetworkManager's, judged by the names of its
// BPF programs.
func (f ForeignCLAT) Manager() bool {
	for _, p := range f.Link.Programs {
		if strings.HasPrefix(p, managerPrograms) {
			return true
		}
	}
	return false
}

// Evidence describes how the CLAT was recognised.
func (f ForeignCLAT) Evidence() string {
	var has []string
	if f.IPv4.IsValid() {
		has = append(has, "the address "+f.IPv4.String())
	}
	if len(f.Link.Programs) > 0 {
		has = append(has, "the BPF program "+f.Link.Programs[0])
	}
	s := fmt.Sprintf("%s has %s", f.Link.Name, strings.Join(has, " and "))
	if !f.Alive() {
		s += ", but " + f.Lacks
	}
	return s
}

// String describes the CLAT in a clause without a full stop.
func (f ForeignCLAT) String() string {
	name := "another CLAT"
	if f.Manager() {
		name = "NetworkManager's CLAT"
	}
	if f.Alive() {
		return fmt.Sprintf("%s is active: %s", name, f.Evidence())
	}
	return fmt.Sprintf("%s does not work: %s", name, f.Evidence())
}

// ForeignCLATs lists the CLATs of other programs that serve an uplink; those that
// are alive come first. It recognises them by an address of 192.0.0.0/29, which
// NetworkManager adds to the uplink and clatd to an interface of its own, or by
// BPF programs attached to the uplink.
func ForeignCLATs(o Observed, uplink int) []ForeignCLAT {
	var alive, dead []ForeignCLAT
	add := func(f ForeignCLAT) {
		if f.Alive() {
			alive = append(alive, f)
		} else {
			dead = append(dead, f)
		}
	}
	onUplink := false
	for _, a := range o.Addrs {
		l, known := o.LinkByIndex(a.Link)
		if !known || !ServiceContinuityPrefix.Contains(a.Prefix.Addr()) || o.IsOurs(l) || a.Link != uplink && o.leadsToOther(l) {
			continue
		}
		onUplink = onUplink || a.Link == uplink
		ip := a.Prefix.Addr()
		add(ForeignCLAT{Link: l, IPv4: ip, Lacks: lacks(o, l, ip)})
	}
	if l, known := o.LinkByIndex(uplink); known && !onUplink && len(l.Programs) > 0 {
		add(ForeignCLAT{Link: l, Lacks: "no IPv4 address"})
	}
	return append(alive, dead...)
}

// leadsToOther reports whether a link is an uplink itself, so that a CLAT on it
// serves that link and no other.
func (o Observed) leadsToOther(l Link) bool {
	return !l.Loopback && l.MayBeUplink() && o.HasIPv6Default(l.Index)
}

// lacks describes what is missing for the CLAT with address a on a link; empty:
// nothing.
func lacks(o Observed, l Link, a netip.Addr) string {
	if !l.Up {
		return "it is down"
	}
	why := "no IPv4 default route leads there"
	for _, r := range o.Routes {
		if r.IPv6 || r.Protocol == Protocol || r.Link != l.Index && r.Source != a {
			continue
		}
		by, ok := o.LinkByIndex(r.Link)
		if !ok || o.IsOurs(by) {
			continue
		}
		if why = noTranslator(o, by, r); why == "" {
			return ""
		}
	}
	return why
}

// noTranslator returns why nothing translates packets that leave by the default
// route r on link l; empty: something does. A TUN has a carrier while a process
// has it open.
func noTranslator(o Observed, l Link, r Route) string {
	switch {
	case o.leadsToOther(l) && len(l.Programs) == 0 && !l.ProgramsHidden:
		return "no BPF program translates"
	case (!l.Carrier || r.LinkDown) && l.Kind == "tun":
		return "no process holds it"
	case !l.Carrier || r.LinkDown:
		return "it has no carrier"
	}
	return ""
}

// deadCLAT reports whether a link has the address of another program's CLAT that
// does not work.
func deadCLAT(o Observed, l Link) bool { return hasCLAT(o, l, false) }

// aliveCLAT reports whether a link has the address of another program's CLAT that
// works.
func aliveCLAT(o Observed, l Link) bool { return hasCLAT(o, l, true) }

func hasCLAT(o Observed, l Link, alive bool) bool {
	for _, a := range o.Addrs {
		if a.Link == l.Index && ServiceContinuityPrefix.Contains(a.Prefix.Addr()) && (lacks(o, l, a.Prefix.Addr()) == "") == alive {
			return true
		}
	}
	return false
}
