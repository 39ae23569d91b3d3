package plan

import (
	"fmt"
	"slices"
	"strings"
)

// whyStandby returns why a link needs no CLAT of ours.
func whyStandby(o Observed, l Link) Why {
	if o.NativeIPv4(l.Index) {
		return because(NativeIPv4, "native IPv4 on %s: standing aside", l.Name)
	}
	if other, ok := anotherCLAT(o, l.Index); ok {
		return because(OtherCLAT, "%s: standing aside", other)
	}
	return Why{}
}

// anotherCLAT looks for somebody else's CLAT that serves the link: an address
// of 192.0.0.0/29 on the link itself, where NetworkManager has it, or on one
// that is no uplink, where clatd has it; or a program at the link's packets.
func anotherCLAT(o Observed, link int) (what string, ok bool) {
	for _, a := range o.Addrs {
		l, known := o.LinkByIndex(a.Link)
		if !known || !l.Up || !ServiceContinuityPrefix.Contains(a.Prefix.Addr()) || o.IsOurs(l) {
			continue
		}
		if a.Link == link || l.Loopback || !l.MayBeUplink() || !o.HasIPv6Default(l.Index) {
			return fmt.Sprintf("another CLAT is at work: %s has %s", l.Name, a.Prefix.Addr()), true
		}
	}
	if l, known := o.LinkByIndex(link); known && len(l.Programs) > 0 {
		return fmt.Sprintf("another CLAT is at work: %s has the BPF program %s", l.Name, l.Programs[0]), true
	}
	return "", false
}

// hasOtherCLAT reports whether somebody else's CLAT is on the link itself.
func hasOtherCLAT(o Observed, l Link) bool {
	return len(l.Programs) > 0 || slices.ContainsFunc(o.Addrs, func(a Addr) bool {
		return a.Link == l.Index && ServiceContinuityPrefix.Contains(a.Prefix.Addr())
	})
}

// isOurs reports whether a link is a TUN of ours. The alias tells, and where
// somebody has removed that, memory.
func (o Observed) IsOurs(l Link) bool {
	if strings.HasPrefix(l.Alias, AliasPrefix) {
		return true
	}
	for _, r := range o.Memory.CLATs {
		if r.TUN == l.Name && (r.TUNIndex == l.Index || r.TUNIndex == 0) {
			return true
		}
	}
	return false
}
