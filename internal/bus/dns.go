package bus

import (
	"context"
	"errors"
	"net/netip"
	"slices"
)

// maxServers is how many DNS servers of a link are believed.
const maxServers = 16

// LinkDNS returns the IPv6 DNS servers of a link as systemd-resolved knows
// them, or else NetworkManager, in their order, and which of the two it was.
// Link-local addresses carry ifname as zone. What cannot be asked in plain DNS
// over that link is left out: IPv4 and loopback addresses, and servers with a
// port of their own.
//
// No addresses and no error mean that somebody manages the link and knows of no
// servers. The error is that of all that have been asked; errors.Is tells
// ErrNoBus, ErrNotRunning, ErrNotManaged and ErrSilent.
func (b *Bus) LinkDNS(ctx context.Context, ifindex int, ifname string) (servers []netip.Addr, source string, err error) {
	var errs []error
	for _, s := range []struct {
		service string
		ask     func(question) ([]netip.Addr, error)
	}{
		{resolvedName, func(q question) ([]netip.Addr, error) { return resolvedServers(q, ifindex) }},
		{managerName, func(q question) ([]netip.Addr, error) { return managerServers(q, ifname) }},
	} {
		err := b.ask(ctx, s.service, func(q question) (err error) {
			servers, err = s.ask(q)
			return err
		})
		if err != nil {
			errs = append(errs, err)
			if errors.Is(err, ErrNoBus) || ctx.Err() != nil {
				break // the next one is no better off
			}
			continue
		}
		source = programs[s.service]
		if servers = usable(servers, ifname); len(servers) > 0 {
			return servers, source, nil
		}
	}
	if source == "" {
		return nil, "", errors.Join(errs...)
	}
	return nil, source, nil
}

// usable returns the addresses that can be asked in plain DNS over the link.
func usable(servers []netip.Addr, ifname string) []netip.Addr {
	var out []netip.Addr
	for _, a := range servers {
		if !a.Is6() || a.Is4In6() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			continue
		}
		a = a.WithZone("")
		if a.IsLinkLocalUnicast() {
			a = a.WithZone(ifname)
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
		if len(out) == maxServers {
			break
		}
	}
	return out
}
