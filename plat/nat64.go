package plat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath"
	"tnat64d/datapath/engine"
	"tnat64d/plat/nat44"
	"tnat64d/siit"
	"tnat64d/tun"
)

// NAT64 is a gateway's NAT64. Run serves; the other methods may be called at any
// time.
type NAT64 struct {
	config   Config
	log      *slog.Logger
	table    *Table
	handover *Handover

	mu     sync.Mutex
	path   *datapath.Path // nil: not running
	kernel kernelEngine   // of path
	rules  *nat44.Ruleset
	host   observed
	see    func(engine.Seen)
}

// New returns a NAT64 that has touched nothing yet. Those that follow each other share
// handover.
func New(c Config, handover *Handover, log *slog.Logger) (*NAT64, error) {
	table, err := c.table()
	if err != nil {
		return nil, err
	}
	if _, err := c.nat44(c.Outside, table); err != nil {
		return nil, err
	}
	if _, err := siit.New(c.translation(table, observed{mtu6: 1500, mtu4: 1500})); err != nil {
		return nil, err
	}
	return &NAT64{config: c, log: log, table: table, handover: handover}, nil
}

// translation returns what the translator is made of.
func (c Config) translation(table *Table, o observed) siit.Config {
	own := c.Own()
	own6 := netip.Addr{}
	if p, err := siit.NewPrefix(c.Prefix); err == nil {
		own6 = p.Embed(own)
	}
	return siit.Config{
		Mapping:     siit.Mapping{PREF64: c.Prefix.Masked(), Hosts: table},
		MTU6:        o.mtu6,
		MTU4:        o.mtu4,
		ICMPSource4: own,
		ICMPSource6: own6,
		DenyIPv4:    append(c.unforwarded(o.own), c.Deny...),
		PoolIPv4:    c.Pool.Masked(),
		NodeID:      true,
	}
}

// unforwarded returns those of the host's addresses that have no forwarded port.
// The others are reached from inside too; nftables refuses the rest of their ports.
func (c Config) unforwarded(own []netip.Prefix) []netip.Prefix {
	if c.NAT44 == nat44.None {
		return slices.Clone(own)
	}
	return slices.DeleteFunc(slices.Clone(own), func(p netip.Prefix) bool {
		return slices.ContainsFunc(c.Forwards, func(f Forward) bool { return f.Outside.Addr() == p.Addr() })
	})
}

// followRetry is when a change of the host that could not be followed is looked
// at again.
const followRetry = 2 * time.Second

// Run translates until ctx ends, calling ready when it does. Afterwards nothing of
// it is left on the host but what the handover holds.
func (n *NAT64) Run(ctx context.Context, ready func()) (err error) {
	if err := CheckForwarding(); err != nil {
		return err
	}
	if left, err := tun.RemoveLeftovers(Alias); err != nil {
		return err
	} else if len(left) > 0 {
		n.log.Info("removed what a killed predecessor left", "interfaces", left)
	}
	if err := nat44.CleanUp(); err != nil {
		return err
	}
	file := mapsFile{path: n.config.StateFile, table: n.table, log: n.log}
	file.read()
	former := formerHosts{n.table, n.log}
	former.forgetOthers(file.former)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	failed := make(chan error, 1)
	stop := func() error {
		err := n.stop()
		if err := file.write(time.Now()); err != nil {
			n.log.Warn("cannot write the file of maps", "file", file.path, "reason", err)
		}
		return err
	}
	if err := n.start(h, failed); err != nil {
		return errors.Join(err, stop())
	}
	defer func() { err = errors.Join(err, stop()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan struct{}, 1)
	look := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := watchHost(ctx, subscribeHost, look); err != nil {
		return err
	}
	look() // what has changed since start is in no event
	if n.config.LogSessions {
		go n.logSessions(ctx)
	}
	ready()
	sweep := time.NewTicker(min(max(n.config.Idle/8, time.Second), 10*time.Minute))
	defer sweep.Stop()
	save := time.NewTicker(time.Second)
	defer save.Stop()
	watch := time.NewTicker(time.Second)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("the engine has stopped: %w", err)
		case <-changed:
			if err := n.follow(h); err != nil {
				n.log.Error("cannot follow a change of the network; retrying", "reason", err)
				time.AfterFunc(followRetry, look)
			}
		case <-watch.C:
			n.mu.Lock()
			n.kernel.watch()
			n.mu.Unlock()
		case now := <-sweep.C:
			if removed := n.table.Sweep(now); removed > 0 {
				n.log.Info("reclaimed addresses of idle hosts", "hosts", removed)
			}
			former.reuse()
			file.stale = true // when hosts were last known to send
		case <-save.C:
			save.Reset(file.writeIf())
		}
	}
}

// logSessions logs the connections of clients until ctx ends.
func (n *NAT64) logSessions(ctx context.Context) {
	err := nat44.WatchSessions(ctx, n.config.Pool, func(s nat44.Session) {
		what := "session begins"
		if s.Ended {
			what = "session ends"
		}
		client := netip.Addr{}
		if hi, lo, ok := n.table.To6(number(s.Inside.Addr())); ok {
			client = netip.AddrFrom16(join(hi, lo))
		}
		n.log.Info(what, "protocol", s.Protocol, "client", client, "inside", s.Inside, "outside", s.Outside, "remote", s.Remote)
	}, func() { n.log.Warn("the log lacks sessions: the kernel reports more than can be written") })
	if err != nil {
		n.log.Error("sessions are not logged", "reason", err)
	}
}

// start makes everything, in the order that lets no packet of the pool out
// without NAT44: its rules before the TUN.
func (n *NAT64) start(h *netlink.Handle, failed chan<- error) error {
	o, err := observe(h, n.config)
	if err != nil {
		return err
	}
	conf, err := n.config.nat44(o.outside, n.table)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host = o
	if n.rules, err = nat44.New(conf); err != nil {
		return err
	}
	if !n.rules.Owned() {
		n.log.Warn("the kernel keeps nftables tables of a killed process (Linux before 5.12); the next start removes them")
	}
	n.table.SetRules(n.rules, n.log)
	n.path, err = datapath.Open(datapath.Options{
		TUN: n.config.TUN, Queues: min(runtime.NumCPU(), 4), Engine: n.config.Engine, Netlink: h, Log: n.log,
		ICMPErrorsPerSecond: n.config.ICMPErrorsPerSecond, OnRefused: n.admit,
		OnFailed: func(err error) { failed <- err },
	})
	if err != nil {
		return err
	}
	n.kernel = kernelEngine{path: n.path, table: n.table, tun: n.config.TUN, log: n.log}
	if err := n.kernel.attach(); err != nil {
		return err
	}
	if err := n.path.SetMapping(n.config.translation(n.table, o)); err != nil {
		return err
	}
	if n.see != nil {
		if err := n.path.SetTrace(n.see); err != nil {
			return err
		}
	}
	if err := setUp(h, n.path.Index(), n.config); err != nil {
		return err
	}
	return n.handover.end()
}

// admit gives the host of a refused packet an address.
func (n *NAT64) admit(packet []byte, refused siit.Result) (again bool, better siit.Reason) {
	if refused.Reason != siit.SourceOutsidePREF64 || len(packet) < 40 {
		return false, siit.None
	}
	better = n.table.Admit(netip.AddrFrom16([16]byte(packet[8:24])))
	return better == siit.None, better
}

// follow applies what has changed on the host.
func (n *NAT64) follow(h *netlink.Handle) error {
	o, err := observe(h, n.config)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := setUp(h, n.path.Index(), n.config); err != nil {
		return err
	}
	was := n.host
	if reflect.DeepEqual(o, was) {
		return nil
	}
	if !slices.Equal(o.outside, was.outside) {
		conf, err := n.config.nat44(o.outside, n.table)
		if err != nil {
			return err
		}
		if err := n.rules.Set(conf); err != nil {
			return err
		}
		n.log.Info("the outside interfaces have changed", "outside", o.outside)
	}
	if err := n.path.SetMapping(n.config.translation(n.table, o)); err != nil {
		return err
	}
	n.host = o
	return nil
}

// stop undoes start: the TUN first, so that nothing leaves without NAT44. The
// handover has the connections.
func (n *NAT64) stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	if n.rules != nil {
		if conf, err := n.config.nat44(n.host.outside, n.table); err != nil {
			errs = append(errs, err)
		} else {
			n.handover.begin(conf, n.log)
		}
	}
	if n.path != nil {
		errs = append(errs, n.kernel.detach(), n.path.Close())
		n.path = nil
	}
	if n.rules != nil {
		n.table.SetRules(nil, n.log)
		errs = append(errs, n.rules.Close())
		n.rules = nil
	}
	return errors.Join(errs...)
}

// SetTrace shows every packet to see from now on; nil ends that.
func (n *NAT64) SetTrace(see func(engine.Seen)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.see = see
	if n.path == nil {
		return nil
	}
	return n.path.SetTrace(see)
}

// Status describes a running NAT64.
type Status struct {
	Config  Config
	Outside []string
	MTU6    int
	MTU4    int
	Path    datapath.Status
	Traffic datapath.Stats
	Table   TableStats
	NAT44   map[nat44.Count]uint64
	// Conntrack is nil where the kernel tracks no connections, or does not say.
	Conntrack *nat44.Conntrack
}

// Status returns the present state.
func (n *NAT64) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := Status{Config: n.config, Outside: n.host.outside, MTU6: n.host.mtu6, MTU4: n.host.mtu4, Table: n.table.Stats()}
	if n.path != nil {
		s.Path, s.Traffic = n.path.Status(), n.path.Stats()
	}
	if n.rules != nil {
		s.NAT44, _ = n.rules.Counters() // what cannot be read counts as nothing
	}
	s.Conntrack, _ = nat44.ReadConntrack()
	return s
}

// Maps returns the maps, in no order.
func (n *NAT64) Maps() []Map { return n.table.Maps(time.Now()) }
