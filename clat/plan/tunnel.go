package plan

// Tunnel returns the name of a tunnel that is up and not ours, such as a VPN's, or
// "". If there is one, settings of the whole host, such as resolv.conf, may come
// from the tunnel and not from the network.
func (o Observed) Tunnel() string {
	for _, l := range o.Links {
		if l.Up && l.IsTunnel() && !o.IsOurs(l) {
			return l.Name
		}
	}
	return ""
}

// IsTunnel reports whether a link carries packets inside other packets, such as
// that of a VPN.
func (l Link) IsTunnel() bool { return overlays[l.Kind] && !leadsNowhere[l.Kind] }

// leadsNowhere are those of [overlays] that carry nothing.
var leadsNowhere = map[string]bool{"dummy": true, "ifb": true, "nlmon": true, "vcan": true}
