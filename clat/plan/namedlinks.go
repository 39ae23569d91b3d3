package plan

import "slices"

// named reports whether one of names is the link's name or one of its
// alternative names (IFLA_ALT_IFNAME, Linux 5.5).
func (l Link) named(names []string) bool {
	return slices.Contains(names, l.Name) || slices.ContainsFunc(l.AltNames, func(n string) bool { return slices.Contains(names, n) })
}

// linkNamed returns the link that has the name, or the alternative name.
func linkNamed(o Observed, name string) (Link, bool) {
	if l, ok := o.LinkByName(name); ok {
		return l, true
	}
	i := slices.IndexFunc(o.Links, func(l Link) bool { return slices.Contains(l.AltNames, name) })
	if i < 0 {
		return Link{}, false
	}
	return o.Links[i], true
}

// MissingUplinks lists the configured uplinks that the host does not have, in
// the order of the configuration: a device that is not plugged in, or a
// misspelled name. They are waited for.
func MissingUplinks(o Observed, c Config) []string {
	if c.Enable == Never {
		return nil
	}
	var missing []string
	for _, name := range c.Uplinks {
		if _, ok := linkNamed(o, name); !ok {
			missing = append(missing, name)
		}
	}
	return missing
}

// PossibleUplinks lists the names of the links that could be uplinks, for a
// hint beside a name that does not exist.
func PossibleUplinks(o Observed) []string {
	var names []string
	for _, l := range o.Links {
		if !l.Loopback && !l.BridgePort && !overlays[l.Kind] && !o.IsOurs(l) {
			names = append(names, l.Name)
		}
	}
	return names
}
