package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/say"
	"tnat64d/pref64"
	"tnat64d/shim"
)

// parsePREF64 reads the value of -pref64.
func parsePREF64(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New("not a prefix; allowed: an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 (RFC 6052)")
	}
	return pref64.Check(p)
}

// parseIPv4 reads the value of -explain.
func parseIPv4(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Unmap().Is4() {
		return a, errors.New("not an IPv4 address")
	}
	return a.Unmap(), nil
}

// patience is how long router advertisements are waited for where DNS knows no
// PREF64.
const patience = 15 * time.Second

// choosePrefix adds the PREF64 of all destinations that no [[shim.route]]
// covers: that of the command line, of tnat64d, or of the network. from says
// where it comes from, refresh that it may change with the network.
func (o *options) choosePrefix(ctx context.Context, p *shim.Policy, tell func(string)) (from string, refresh bool, err error) {
	if o.pref64.IsValid() {
		// It precedes the routes, not only the one for everything.
		p.Routes = []shim.Route{{Network: shim.Everything, PREF64: o.pref64}}
		return fmt.Sprintf("%s, by -pref64", o.pref64), false, nil
	}
	if i := slices.IndexFunc(p.Routes, func(r shim.Route) bool { return r.Network == shim.Everything }); i >= 0 {
		if !p.Routes[i].PREF64.IsValid() {
			return "of the configured networks only", false, nil
		}
		return fmt.Sprintf("%s, by the configuration", p.Routes[i].PREF64), false, nil
	}
	if found, ok := askDaemon(ctx); ok {
		p.Routes = append(p.Routes, shim.Route{Network: shim.Everything, PREF64: found})
		return fmt.Sprintf("%s, by tnat64d", found), false, nil
	}
	wait := patience
	if len(p.Routes) > 0 {
		wait = 0 // it may be that nothing else is wanted
	}
	found, err := shim.Discover(ctx, wait, func(err error) {
		if wait > 0 {
			tell(fmt.Sprintf("%v; listening for router advertisements for %s", err, wait))
		}
	})
	switch {
	case err == nil:
		p.Routes = append(p.Routes, shim.Route{Network: shim.Everything, PREF64: found.Prefix})
		return fmt.Sprintf("%s, by %s", found.Prefix, found.From), true, nil
	case len(p.Routes) > 0:
		return "of the configured networks only", false, nil
	}
	return "", false, say.Hint(err, "name the prefix with -pref64, for example -pref64 64:ff9b::/96")
}

// askDaemon asks a running tnat64d for the PREF64 in use. Not everybody may ask.
func askDaemon(ctx context.Context) (netip.Prefix, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := control.NewClient(config.Default().Control.Socket).Status(ctx)
	if err != nil {
		return netip.Prefix{}, false
	}
	for _, u := range s.Uplinks {
		for _, p := range u.PREF64 {
			if p.InUse {
				return p.Prefix, true
			}
		}
	}
	return netip.Prefix{}, false
}
