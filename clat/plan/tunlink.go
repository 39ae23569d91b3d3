package plan

import "net/netip"

// TUNLink is what the TUN interface should look like.
type TUNLink struct {
	Index int
	Alias string
	MTU   MTU6
	IPv4  netip.Addr
}

// Matches reports whether the link is as t describes it.
func (t TUNLink) Matches(o Observed) bool {
	l, ok := o.LinkByIndex(t.Index)
	if !ok || !l.Up || l.Alias != t.Alias || l.MTU != int(t.MTU) {
		return false
	}
	a, ok := o.Addr(t.Index, t.IPv4)
	return ok && !a.NotLocal
}
