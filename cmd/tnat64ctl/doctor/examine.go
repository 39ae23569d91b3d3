package doctor

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/internal/bus"
	"tnat64d/internal/control"
	"tnat64d/internal/resolvconf"
)

// Options say what to look at.
type Options struct {
	Uplink string  // interface name; empty: chosen
	Target *Target // nil: nothing beyond the link is tested
	// NoTarget says why Target is nil although the user named one.
	NoTarget string
	Servers  []netip.Addr // DNS servers to ask instead of the link's own
	Deep     bool         // put a temporary address on the uplink; needs root
	Socket   string       // tnat64d's control socket
}

// limit is how long an examination may take.
const limit = 10 * time.Second

const (
	busTimeout    = time.Second
	daemonTimeout = 2 * time.Second
	maxPrefixes   = 4 // that are tried
)

// ErrNoInterface is wrapped by the error for an Uplink that does not exist.
var ErrNoInterface = errors.New("there is no interface")

// ErrInterrupted is returned when ctx ends: what was changed has been undone.
var ErrInterrupted = errors.New("interrupted")

// Examine runs all probes. It takes ten seconds at most, and one or two where
// everything answers. An error is one of the caller's options, of netlink, or
// ErrInterrupted.
func Examine(ctx context.Context, o Options) (Findings, error) {
	h, err := observe()
	if err != nil {
		return Findings{}, err
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	daemon := askDaemon(ctx, o.Socket, h)
	h.namedBy(o.Uplink, daemon)
	u, err := h.uplink(o.Uplink)
	if err != nil {
		return Findings{}, err
	}
	e := &examination{
		options: o, host: h, bus: bus.New(bus.Options{Timeout: busTimeout}), beyond: make(chan netip.Addr, 1),
		Findings: Findings{Daemon: daemon, Uplink: u, Addresses: h.addresses(u), IPv4: h.ipv4(u, o.Uplink != ""), Target: o.Target, NoTarget: o.NoTarget},
	}
	defer e.bus.Close()
	e.run(ctx)
	if parent.Err() != nil {
		return Findings{}, ErrInterrupted
	}
	return e.Findings, nil
}

// examination is one run of the probes. Each of its probes writes fields of
// Findings of its own, and reads only what is finished before it starts.
type examination struct {
	Findings
	options Options
	host    host
	bus     *bus.Bus
	beyond  chan netip.Addr // an address behind the NAT64 that answers, once it is known
}

func (e *examination) run(ctx context.Context) {
	var first, rest sync.WaitGroup
	rest.Go(func() { e.Host = lookAtKernel() })
	u := e.Uplink
	rest.Go(func() { e.Fresh = e.tryFresh(ctx, u) })
	if u.Name != "" {
		rest.Go(func() { e.Others = findOthers(ctx, e.bus, e.host, u) })
		rest.Go(func() { e.DHCP = askDHCP(ctx, e.bus, u) })
		own := e.own()
		first.Go(func() { e.RA = listen(ctx, u, own) })
	}
	conf, confErr := resolvconf.System()
	if confErr == nil {
		rest.Go(func() {
			servers := e.host.systemServers(conf)
			askAll(ctx, servers, 0)
			e.System = servers
		})
	}
	first.Wait()

	if e.Uplink.Name != "" {
		rest.Go(func() { e.Router = askRouter(ctx, u) })
		e.hearsay()
		e.DNS.Servers = e.host.linkServers(ctx, e.options, e.bus, e.Uplink, e.RA, conf)
		askAll(ctx, e.DNS.Servers, e.Uplink.Index)
		e.tryPaths(ctx)
	}
	close(e.beyond)
	rest.Wait()
}

// own returns the uplink's global addresses.
func (e *examination) own() []netip.Prefix {
	var own []netip.Prefix
	for _, a := range e.host.Addrs {
		if ip := a.Prefix.Addr(); a.Link == e.Uplink.Index && ip.Is6() && !ip.IsLinkLocalUnicast() {
			own = append(own, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return own
}

// hearsay believes tnat64d where this user may not ask the routers.
func (e *examination) hearsay() {
	u, ok := e.Daemon.uplink(e.Uplink.Name)
	if !ok || e.RA.Solicited {
		return
	}
	for _, p := range u.PREF64 {
		if p.Source == "ra" && p.From != nil {
			r := e.RA.router(*p.From)
			r.PREF64 = union(r.PREF64, []netip.Prefix{p.Prefix})
		}
	}
}

func askDaemon(ctx context.Context, socket string, h host) Daemon {
	ctx, cancel := context.WithTimeout(ctx, daemonTimeout)
	defer cancel()
	d := Daemon{Interfaces: make(map[string]string)}
	for _, l := range h.Links {
		if uplink, ours := strings.CutPrefix(l.Alias, plan.AliasPrefix); ours {
			d.Interfaces[uplink] = l.Name
		}
	}
	s, err := control.NewClient(socket).Status(ctx)
	switch {
	case err == nil:
		d.Running, d.Status = true, &s
	case errors.Is(err, control.ErrNotRunning) && len(d.Interfaces) == 0:
	default:
		d.Running, d.Error = true, err.Error()
	}
	return d
}

func askDHCP(ctx context.Context, b *bus.Bus, u Uplink) DHCP {
	o, err := b.Option108(ctx, u.Index, u.Name)
	if err != nil {
		return DHCP{Maybe: true, Why: "cannot ask a DHCP client (" + err.Error() + ")"}
	}
	return DHCP{Option: o.Seen, Maybe: o.Likely, Why: o.Why}
}

func askRouter(ctx context.Context, u Uplink) Probe {
	if !u.Router.IsValid() {
		return Probe{Why: "the default route names no router"}
	}
	return pingOnce(ctx, u.Router, u.Index, netip.Addr{})
}

// tryPaths tries every way to the target, and how large packets may be on the
// first that answers.
func (e *examination) tryPaths(ctx context.Context) {
	if e.Target == nil {
		e.Size.Why = "there is no target"
		return
	}
	var ways []netip.Prefix
	// Where the two disagree it matters which of them is right.
	for _, p := range union(prefixes(e.Uplink.Name, e.Daemon, e.RA, e.DNS), e.DNS.pref64()) {
		if !e.RA.refuses(p) && len(ways) < maxPrefixes {
			ways = append(ways, p)
		}
	}
	if via, tunnel := e.host.towards(e.Target.Address); via != "" && !tunnel {
		ways = append(ways, netip.Prefix{})
	}
	e.Paths = make([]Path, len(ways))
	var all sync.WaitGroup
	for i, p := range ways {
		all.Go(func() { e.Paths[i] = tryPath(ctx, p, e.Uplink.Index, *e.Target) })
	}
	all.Wait()
	for _, p := range e.Paths {
		if p.Echo.OK && !p.plain() {
			dst := synthesize(p.PREF64, e.Target.Address)
			e.beyond <- dst
			e.Size = findSize(ctx, dst, e.Uplink.Index, e.Uplink.MTU)
			return
		}
	}
	e.Size.Why = "nothing answers ping through a NAT64"
}

// tryFresh decides whether to.
func (e *examination) tryFresh(ctx context.Context, u Uplink) Fresh {
	switch {
	case u.Name == "" || !u.Default || len(e.Addresses.Usable) == 0:
		return Fresh{Why: "there is no IPv6 default route or address"}
	case len(e.Addresses.Formable) == 0:
		return Fresh{Why: "there is no /64 in which an address could be formed"}
	case !e.options.Deep:
		return Fresh{Why: "-deep tests it as root with a second address on " + u.Name + " for a few seconds"}
	case !privileged(unix.CAP_NET_ADMIN):
		return Fresh{Why: "only root can add a second address to " + u.Name}
	}
	return tryFresh(ctx, u, e.Addresses.Formable[0], e.beyond)
}
