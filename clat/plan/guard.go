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

// needSourceRules reports whether the best IPv4 default route may not be that
// of every CLAT: with two CLATs, or beside native IPv4. A flow must stay with
// the CLAT it began with.
func needSourceRules(o Observed, desired []Desired) bool {
	n := 0
	for _, d := range desired {
		if d.CLAT != nil || d.Hold {
			n++
		}
	}
	return n > 1 || n == 1 && hasNative(o)
}
