package clat

import "net/netip"

// TUNLink is what the TUN interface should look like.
type TUNLink struct {
	Index int
	Alias string
	MTU   MTU6
	IPv4  netip.Addr
}

// matches reports whether the link is there as t says.
func (t TUNLink) matches(o Observed) bool {
	l, ok := o.linkByIndex(t.Index)
	if !ok || !l.Up || l.Alias != t.Alias || l.MTU != int(t.MTU) {
		return false
	}
	a, ok := o.addr(t.Index, t.IPv4)
	return ok && !a.NotLocal
}
