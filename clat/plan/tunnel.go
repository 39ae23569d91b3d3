package plan

import "slices"

// HasTunnelBeside reports whether a tunnel is up that is neither ours nor the link
// of the given index, such as a VPN's. If there is one, settings of the whole host,
// such as resolv.conf, may come from that tunnel and not from the link's network.
// A tunnel that is an uplink itself, as clat.uplinks may name one, is no reason to
// doubt its own network, nor that of another uplink.
func (o Observed) HasTunnelBeside(link int, c Config) bool {
	return slices.ContainsFunc(o.Links, func(l Link) bool {
		return l.Index != link && l.Up && l.IsTunnel() && !l.named(c.Uplinks) && !o.IsOurs(l)
	})
}

// IsTunnel reports whether a link carries packets inside other packets, such as
// that of a VPN.
func (l Link) IsTunnel() bool { return overlays[l.Kind] && !leadsNowhere[l.Kind] }

// leadsNowhere are those of [overlays] that carry nothing.
var leadsNowhere = map[string]bool{"dummy": true, "ifb": true, "nlmon": true, "vcan": true}
