package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"tnat64d/datapath"
	"tnat64d/internal/config"
	"tnat64d/internal/say"
	"tnat64d/plat"
	"tnat64d/plat/nat44"
	"tnat64d/siit"
)

// nat64Part is the NAT64 with hints where it cannot start.
type nat64Part struct {
	*plat.NAT64
	ready func()
	tun   string
	up    atomic.Bool // it has translated
}

// errorsPerSecond limits the ICMP errors of the translator to each side.
const errorsPerSecond = 1000

func (d *gateway) newNAT64(c config.Gateway) (*nat64Part, error) {
	n, err := plat.New(d.nat64Config(c), &d.handover, d.log)
	if err != nil {
		return nil, err
	}
	return &nat64Part{NAT64: n, tun: c.NAT64.TUN}, nil
}

// Run translates until ctx ends.
func (p *nat64Part) Run(ctx context.Context) error {
	err := p.NAT64.Run(ctx, p.ready)
	var off *plat.ErrNoForwarding
	var refused *datapath.EngineRefused
	switch {
	case errors.As(err, &refused):
		return &say.Failure{
			What: `nat64.engine is "kernel", and the kernel refuses that engine`,
			Hint: `set engine = "auto" to translate in user space where the kernel refuses`,
			Err:  refused.Err,
		}
	case errors.As(err, &off):
		return say.Hint(err, "start it with -setup, or set what is missing: sysctl -w %s=1", strings.Join(off.Sysctls, "=1 "))
	case errors.Is(err, plat.ErrRouteExists):
		return say.Hint(err, "find it with `ip route` or `ip -6 route` and remove it, or choose another prefix or pool")
	case errors.Is(err, fs.ErrExist):
		return say.Hint(err, "set nat64.tun to another name, or remove the interface: ip link del %s", p.tun)
	case errors.Is(err, fs.ErrPermission):
		return say.Hint(err, "run it as root, or by its systemd unit")
	}
	return err
}

// engines are the words of both packages.
var engines = map[config.Engine]datapath.Engine{
	config.EngineAuto: datapath.EngineAuto, config.EngineKernel: datapath.EngineKernel, config.EngineUser: datapath.EngineUser,
}

// modes are the words of both packages.
var modes = map[config.NAT44]nat44.Mode{
	config.NAT44Masquerade: nat44.Masquerade, config.NAT44Pool: nat44.Pool, config.NAT44None: nat44.None,
}

func (d *gateway) nat64Config(g config.Gateway) plat.Config {
	c := g.NAT64
	clients := newClients(c)
	p := plat.Config{
		Prefix: c.Prefix, Inside: c.Inside, Outside: c.Outside, Pool: c.Pool, Deny: c.Deny,
		Clients:      func(a netip.Addr) bool { return !a.IsLinkLocalUnicast() && clients.mayAsk(a) },
		NamedClients: len(c.Clients) > 0,
		MaxPer64:     c.MapsPer64, Idle: c.MapIdle, TUN: c.TUN, Engine: engines[c.Engine], NAT44: modes[c.NAT44],
		PortsPerClient: c.PortsPerClient, ConnectionsPerClient: c.ConnectionsPerClient, ConnectionsPer64: c.ConnectionsPer64,
		ICMPErrorsPerSecond: errorsPerSecond, StateFile: stateFile(d.log, "maps"), LogSessions: g.Log.Sessions,
	}
	for _, r := range c.Addresses {
		p.Addresses = append(p.Addresses, nat44.Range(r))
	}
	for _, m := range c.Maps {
		p.Static = append(p.Static, siit.Pair{IPv4: m.IPv4, IPv6: m.IPv6})
	}
	for _, f := range c.Forwards {
		p.Forwards = append(p.Forwards, plat.Forward{Protocol: uint8(f.Protocol), Outside: f.Outside, Inside: f.Inside})
	}
	return p
}

// stateFile returns the file of that name for what is kept over restarts, or
// nothing if there is no place for one.
func stateFile(log *slog.Logger, name string) string {
	dir := "/var/lib/tnat64-gateway"
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 {
		dir = dirs[0]
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Warn("cannot keep state over restarts", "file", name, "reason", err)
		return ""
	}
	return filepath.Join(dir, name)
}
