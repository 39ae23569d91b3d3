package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"tnat64d/internal/lab"
)

// taygaRouter is Debian's tayga as the router's NAT64, set up as its manual page
// has it: an IPv4 address for each host, and masquerading behind.
type taygaRouter struct{ onRouter }

func (taygaRouter) id() string         { return "router-tayga" }
func (taygaRouter) title() string      { return "tayga + masquerade" }
func (taygaRouter) packages() []string { return []string{"tayga", "nftables"} }
func (taygaRouter) about() string {
	return "Debian's tayga, one process, as the router's NAT64, with a pool of IPv4 addresses and masquerading by nftables behind it"
}

func (taygaRouter) version(ctx context.Context) (string, error) { return packageVersion(ctx, "tayga") }

const (
	taygaPool = "192.168.255.0/24"
	taygaOwn  = "192.168.255.1"
)

func (c taygaRouter) start(ctx context.Context, l *lab.Lab, s setup) (*service, error) {
	path, err := exec.LookPath("tayga")
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(l.Dir, "tayga-router.conf")
	text := fmt.Sprintf("tun-device %s\nipv4-addr %s\nprefix %s\ndynamic-pool %s\ndata-dir %s\n", gatewayTUN, taygaOwn, gatewayPrefix, taygaPool, l.Dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	if err := c.wire(ctx, l, s.MTU); err != nil {
		return nil, errors.Join(err, c.undo(l))
	}
	cmd := l.Router.Command(context.WithoutCancel(ctx), path, "-d", "-c", conf)
	// The router was wired before: see wire.
	service, err := runTayga(cmd, func() error { return nil }, func() error { return c.undo(l) })
	if err != nil {
		return nil, err
	}
	service.target, service.ipv4 = gatewayTarget(), true
	return service, nil
}

// wire configures the router for tayga. The TUN is made before tayga starts: it
// reads the MTU then.
func (taygaRouter) wire(ctx context.Context, l *lab.Lab, mtu int) error {
	for _, args := range [][]string{
		{"tuntap", "add", "dev", gatewayTUN, "mode", "tun"},
		{"link", "set", "dev", gatewayTUN, "up", "mtu", fmt.Sprint(mtu)},
		{"route", "add", taygaPool, "dev", gatewayTUN},
		{"-6", "route", "add", gatewayPrefix.String(), "dev", gatewayTUN},
	} {
		if err := onHost(ctx, l.Router, "", "ip", args...); err != nil {
			return err
		}
	}
	return nftables(ctx, l, masquerade)
}

// undo takes back what wire did, as far as it came.
func (taygaRouter) undo(l *lab.Lab) error {
	err := dropMasquerade(l)
	if link, linkErr := l.Router.Netlink.LinkByName(gatewayTUN); linkErr == nil {
		err = errors.Join(err, l.Router.Netlink.LinkDel(link)) // its routes go with it
	}
	return err
}
