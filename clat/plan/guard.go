package plan

// guardedLinks returns the links that have a default route of either family and
// lead to a network. A VPN's tunnel does not count: packets leave the host
// encapsulated.
func guardedLinks(o Observed, desired []Desired) []Uplink {
	if !anyCLAT(desired) {
		return nil
	}
	var us []Uplink
	for _, l := range o.Links {
		if l.MayBeUplink() && !o.IsOurs(l) && (o.HasIPv6Default(l.Index) || o.HasIPv4Default(l.Index)) {
			us = append(us, Uplink{l.Name, l.Index})
		}
	}
	return us
}

func anyCLAT(desired []Desired) bool {
	for _, d := range desired {
		if d.CLAT != nil || d.Hold {
			return true
		}
	}
	return false
}
