package main

import (
	"context"
	"errors"

	"tnat64d/internal/lab"
)

// forwarded is IPv4 as most networks have it: the router forwards and
// masquerades it, and nothing translates between the families.
type forwarded struct{ onRouter }

func (forwarded) id() string    { return "router-ipv4" }
func (forwarded) title() string { return "IPv4 + masquerade" }
func (forwarded) about() string {
	return "IPv4 of the laptop, forwarded by the router with masquerading by nftables: what a NAT44 costs without a NAT64"
}

func (forwarded) version(ctx context.Context) (string, error) {
	return packageVersion(ctx, "nftables")
}

func (forwarded) start(ctx context.Context, l *lab.Lab, _ setup) (*service, error) {
	if err := l.SetNativeIPv4(true); err != nil {
		return nil, err
	}
	stop := func() error { return errors.Join(l.SetNativeIPv4(false), dropMasquerade(l)) }
	if err := nftables(ctx, l, masquerade); err != nil {
		return nil, errors.Join(err, stop())
	}
	return &service{target: lab.ServerIPv4, ipv4: true, stop: stop}, nil
}
