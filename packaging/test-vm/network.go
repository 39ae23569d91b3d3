package main

import (
	"context"
	"fmt"

	"tnat64d/internal/lab"
)

// tapName is the machine's network card as the lab sees it.
const tapName = "vm0"

// network is the lab with the machine in the place of its laptop.
type network struct {
	lab *lab.Lab
	dhcpServer
}

// newNetwork builds the lab and makes a switch of its laptop.
func newNetwork(ctx context.Context) (*network, error) {
	l, err := lab.New(ctx, lab.Options{})
	if err != nil {
		return nil, err
	}
	n := &network{lab: l}
	for _, args := range [][]string{
		{"sysctl", "-qw", "net.ipv6.conf." + lab.Uplink + ".disable_ipv6=1"},
		{"ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"},
		{"sysctl", "-qw", "net.ipv6.conf.br0.disable_ipv6=1"},
		{"ip", "tuntap", "add", tapName, "mode", "tap"},
		{"ip", "link", "set", lab.Uplink, "master", "br0"},
		{"ip", "link", "set", tapName, "master", "br0", "up"},
		{"ip", "link", "set", "br0", "up"},
	} {
		if out, err := l.Laptop.Command(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			l.Close()
			return nil, fmt.Errorf("%q: %w\n%s", args, err, out)
		}
	}
	return n, nil
}

// Close takes the lab away.
func (n *network) Close() error {
	n.stopDHCP()
	return n.lab.Close()
}
