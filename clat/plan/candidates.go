package plan

import (
	"net/netip"
	"slices"
)

// Candidates lists the links on which to look for a PREF64: the uplinks that [Make]
// chooses, in its order, then links that may become uplinks. The router advertisement
// that brings the default route usually brings PREF64 too, and the next one may be
// minutes away.
func Candidates(o Observed, c Config) []Link {
	if c.Enable == Never {
		return nil
	}
	ls, _ := chooseUplinks(o, c)
	ls = append(ls, abandonedLinks(o, c, ls)...)
	for _, l := range o.Links {
		wanted := len(c.Uplinks) == 0 && l.MayBeUplink() && hasLinkLocal(o, l.Index) ||
			l.named(c.Uplinks) && l.Up && !l.Loopback
		if wanted && !o.IsOurs(l) && !slices.ContainsFunc(ls, l.same) {
			ls = append(ls, l)
		}
	}
	return ls
}

// hasLinkLocal reports whether a link has an IPv6 link-local address.
func hasLinkLocal(o Observed, link int) bool {
	return slices.ContainsFunc(o.Addrs, func(a Addr) bool { return a.Link == link && isLinkLocal6(a.Prefix.Addr()) })
}

func isLinkLocal6(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }
