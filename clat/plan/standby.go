package plan

import (
	"strings"
)

// whyStandby returns why a link needs no CLAT from us.
func whyStandby(o Observed, l Link) Why {
	if o.NativeIPv4(l.Index) {
		return because(NativeIPv4, "native IPv4 on %s", l.Name)
	}
	if all := ForeignCLATs(o, l.Index); len(all) > 0 && all[0].Alive() {
		return because(OtherCLAT, "%s", all[0])
	}
	return Why{}
}

// IsOurs reports whether a link is a TUN of ours, by its alias or, if another
// program removed that, from memory.
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
