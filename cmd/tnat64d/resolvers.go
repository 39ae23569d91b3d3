package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"tnat64d/clat/plan"
	"tnat64d/internal/resolvconf"
)

// nudges are the resolvers that network managers' hooks have told, by
// interface name. Finders ask from their own goroutines.
type nudges struct {
	mu        sync.Mutex
	resolvers map[string][]netip.Addr
}

// maxNudges is how many interfaces are remembered: more than there are links
// that are listened to. Names come and go with modems and docks, and nobody says
// when one has gone for good.
const maxNudges = 4 * maxLinks

// set remembers the DNS servers of an interface, and reports whether they are
// other ones than before. If too many interfaces are remembered, it forgets
// those that nobody needs now.
func (n *nudges) set(iface string, servers []netip.Addr, needed func(iface string) bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(n.resolvers[iface], servers) {
		return false
	}
	delete(n.resolvers, iface)
	if len(servers) == 0 {
		return true
	}
	if len(n.resolvers) >= maxNudges {
		maps.DeleteFunc(n.resolvers, func(other string, _ []netip.Addr) bool { return !needed(other) })
	}
	n.resolvers[iface] = servers
	return true
}

func (n *nudges) of(iface string) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.resolvers[iface]
}

// resolvers returns the DNS servers of a link besides those of router
// advertisements: what a hook has told, then what systemd-resolved or
// NetworkManager say, and resolv.conf last, where nobody else knows any (RFC
// 8880 section 7.1.3). That file does not say to which link a server belongs:
// while there is a tunnel beside the link they may be those of a VPN, which are
// not to be asked.
func (d *discoveries) resolvers(ctx context.Context, up plan.Uplink, tunnel *atomic.Bool) []netip.Addr {
	if told := d.nudged.of(up.Name); len(told) > 0 {
		return told
	}
	if known, _, err := d.bus.LinkDNS(ctx, up.Index, up.Name); err == nil && len(known) > 0 {
		return known
	}
	if tunnel.Load() {
		return nil
	}
	c, err := resolvconf.System()
	if err != nil {
		d.log.Debug("no DNS servers in resolv.conf", "reason", err)
	}
	return c.Servers
}
