package clat

import (
	"net/netip"
	"slices"

	"tnat64d/clat/plan"
)

// bringUpEAMAddrs puts the addresses of explicit address mappings on the uplink.
// Packets to them are steered already. What fails there does not end the CLAT.
func (c *running) bringUpEAMAddrs(o plan.Observed, want *plan.CLAT) (replan bool) {
	for _, a := range want.EAMAddrs {
		p, err := c.bringUpAddress(o, a)
		if err != nil {
			c.rec.log.Warn("cannot answer for an address of translation.eam", "iface", c.uplink.Name, "address", a, "reason", err)
			c.added = slices.DeleteFunc(c.added, func(b netip.Addr) bool { return a == b })
		}
		replan = replan || p == Replan
	}
	return replan
}

// answers reports whether a is on the uplink for an explicit mapping.
func (c *running) answers(a netip.Addr) bool { return slices.Contains(c.eamAddrs, a) }
