package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/host"
	"tnat64d/clat/plan"
	"tnat64d/datapath/steer"
	"tnat64d/datapath/steernft"
	"tnat64d/internal/bus"
	"tnat64d/internal/cause"
	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/daemon"
	"tnat64d/internal/fdstore"
	"tnat64d/internal/metrics"
	"tnat64d/internal/resume"
	"tnat64d/tun"
)

// serve runs the daemon until ctx ends. Whatever it returns, nothing of ours is
// left on the host, unless systemd restarts the daemon: then what carries packets
// goes on, and the next process finds it among the descriptors passed to it.
func serve(ctx context.Context, file string, c config.Config, passed []fdstore.Descriptor, start *daemon.Startup, log *slog.Logger) (err error) {
	kept := openStore(log)
	if kept != nil {
		defer kept.Close()
	}
	former, handedOver := inherit(passed, kept, log), false
	defer func() {
		if !handedOver {
			former.remove("")
		}
	}()
	if err := checkProcess(c); err != nil {
		return err
	}
	journal, err := openJournal(log)
	if err != nil {
		return err
	}
	if journal != nil {
		defer journal.Close()
	}
	programs := steer.NewPrograms()
	kernel, err := host.New(programs.Foreign)
	if err != nil {
		return err
	}
	defer kernel.Close()
	if err := former.links().FindFilters(kernel.Handle()); err != nil {
		log.Warn("cannot look for what a previous process left", "reason", err)
	}
	goesOn := former.usable()
	removeLeftoverTUNs(log)
	freed := endWithin
	if kept != nil && !goesOn {
		freed = dropWithin // the service manager may have the last descriptors of a TUN
	} else if _, err := observeFreed(ctx, kernel, c, former, freed); err != nil {
		return err // before anything of a daemon that runs is removed
	}
	removed := removeFormer(kernel, programs, journal, former, log)
	o, err := observeFreed(ctx, kernel, c, former, freed)
	if err != nil {
		return err
	}
	secret, err := clat.LoadSecret(filepath.Join(stateDir(), "secret"))
	if secret == nil {
		return err
	}
	if err != nil {
		log.Warn("the CLAT IPv6 address will change on restart", "reason", err)
	}

	// What runs beside the loop ends with it, also when the loop fails.
	ctx, cancel := context.WithCancel(ctx)
	d := newDaemon(ctx, kernel, programs, c, start, log)
	d.file, d.inForce, d.secret = file, configFile(file), secret
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	defer d.found.bus.Close()
	d.opener.useStore(kept, former)
	d.rec = clat.NewReconciler(kernel, d.opener, journal, log)
	if goesOn {
		d.rec.Inherit(o, former.list(), former.remove)
	}
	leftFile := filepath.Join(stateDir(), "left")
	d.rec.Left().Load(leftFile)
	d.rec.Left().Resume(removed)
	if journal == nil {
		d.features = append(d.features, control.Feature{Name: "journal", Why: "a crash may leave the CLAT address on the uplink"})
	}
	if every, err := systemd.SdWatchdogEnabled(false); err == nil {
		d.alive = every / 2
	}
	if err := answer(&beside, d); err != nil {
		return err
	}
	if err := watch(&beside, d); err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	go listen(d.inbox, d.found.bus, hup)

	err = d.loop()
	if err == nil && d.mayLeave() {
		handedOver = true
		return d.leave()
	}
	daemon.Notify(log, systemd.SdNotifyStopping)
	err = errors.Join(err, d.stop())
	if saveErr := d.rec.Left().Save(leftFile); saveErr != nil {
		log.Debug("the next start waits for duplicate address detection", "reason", saveErr)
	}
	return err
}

// answer starts to answer questions: on the control socket, and of metrics.
func answer(beside *sync.WaitGroup, d *tnat64d) error {
	if addr := d.conf.Control.Metrics; addr != "" {
		if err := metrics.Serve(d.ctx, addr, collector{d}, d.log); err != nil {
			return err
		}
	}
	return serveControl(beside, d.conf.Control.Socket, d)
}

// watch starts to report changes of the host to the loop.
func watch(beside *sync.WaitGroup, d *tnat64d) error {
	if err := host.Watch(d.ctx, func() { d.post(hostChanged{}) }); err != nil {
		return err
	}
	if err := d.host.WatchSysctls(d.ctx, func() { d.post(hostChanged{}) }); err != nil {
		d.log.Warn("cannot watch sysctls; changes to them take effect at the next network change", "reason", err)
	}
	beside.Go(func() {
		if err := resume.Watch(d.ctx, d.slept); err != nil {
			d.log.Warn("cannot detect resume from suspend", "reason", err)
		}
	})
	// D-Bus reports nothing before somebody connects.
	beside.Go(func() { meetBus(d.ctx, d.found.bus, d.log) })
	return nil
}

// How long a TUN of a former process may stay: one that has just ended, and one whose
// descriptors the service manager drops.
const (
	endWithin  = time.Second
	dropWithin = 10 * time.Second
)

// observeFreed observes the host and checks it. While another process has a TUN it
// tries again, for so long.
func observeFreed(ctx context.Context, k *host.Host, c config.Config, former *inheritance, within time.Duration) (plan.Observed, error) {
	for end := time.Now().Add(within); ; {
		o, err := k.Observe()
		if err == nil {
			err = checkHost(c, o, former.list())
		}
		if !errors.Is(err, clat.ErrRunning) || time.Now().After(end) {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// newDaemon returns a daemon that has done nothing yet. Its loop ends with ctx.
func newDaemon(ctx context.Context, h *host.Host, programs *steer.Programs, c config.Config, start *daemon.Startup, log *slog.Logger) *tnat64d {
	in := &inbox{ctx: ctx, events: make(chan event)}
	paths := &datapaths{log: log, handle: h.Handle()}
	opener := &opener{
		made: paths, log: log, start: start, errorsPerSecond: c.Translation.ICMPErrorsPerSecond, engine: c.CLAT.Engine, token: steer.NewToken(), programs: programs,
		failed: func(p *path, err error) { go in.post(engineEnded{p, err}) },
	}
	report := &reporter{log: log, start: start, paths: paths}
	found := &discoveries{
		inbox: in, log: log, bus: bus.New(bus.Options{}),
		memory: openMemory(h.LinkLayer, log),
		links:  map[int]*discovery{}, nudged: &nudges{resolvers: map[string][]netip.Addr{}},
	}
	judge := &platJudge{
		inbox: in, log: log, found: found, paths: paths, changed: report.changed, target: c.Discovery.PLATProbe,
		probe:       func(ctx context.Context, w probeWay, ts []target) bool { return w.probe(ctx, ts) },
		unreachable: h.Unreachable,
		peers: func(a netip.Addr) []host.Peer {
			peers, err := h.Peers(a)
			if err != nil {
				log.Debug("cannot list the hosts that answered", "reason", err)
			}
			return peers
		},
	}
	return &tnat64d{
		inbox: in, log: log, conf: c, started: time.Now(),
		host: h, found: found, path: paths, opener: opener, judge: judge, report: report,
	}
}

// meetBus connects to D-Bus, and says so if there is nobody.
func meetBus(ctx context.Context, b *bus.Bus, log *slog.Logger) {
	all := b.Features(ctx)
	for _, f := range all {
		if f.Available {
			return
		}
	}
	if ctx.Err() == nil && len(all) > 0 {
		log.Info("running without D-Bus: DNS servers of links come from router advertisements, hooks and resolv.conf, and suspend is detected by comparing clocks", "reason", all[0].Why)
	}
}

// serveControl answers on the control socket until the daemon ends. A daemon
// that cannot is dumb and not useless; an error is a lack of descriptors.
func serveControl(beside *sync.WaitGroup, path string, d *tnat64d) error {
	s, err := control.NewServer(control.CLATDaemon, path, backend{d}, d.log)
	if cause.Of(err) == cause.Resource {
		return fmt.Errorf("control socket: %w", err)
	}
	if err != nil {
		d.log.Error("no control socket: tnat64ctl cannot reach this daemon", "reason", err)
		return nil
	}
	d.report.server = s
	beside.Go(func() {
		if err := s.Run(d.ctx); err != nil {
			d.log.Error("the control socket is closed: tnat64ctl cannot reach this daemon", "reason", err)
		}
	})
	return nil
}

// openJournal returns nil if there is no place for one.
func openJournal(log *slog.Logger) (*clat.Journal, error) {
	path, err := clat.JournalPath(runtimeDir())
	if err != nil {
		return nil, err
	}
	j, err := clat.OpenJournal(path)
	switch {
	case errors.Is(err, clat.ErrRunning):
		return nil, alreadyRunning()
	case cause.Of(err) == cause.Resource:
		return nil, err
	case err != nil:
		log.Warn("no journal; after a crash the CLAT address may stay on the uplink", "reason", err)
		return nil, nil
	}
	return j, nil
}

// removeFormer removes what former processes have left that the next one cannot
// take over, and returns the addresses. journal is locked: nobody else is at work.
func removeFormer(k *host.Host, programs *steer.Programs, journal *clat.Journal, former *inheritance, log *slog.Logger) (removed []clat.Leftover) {
	if !former.usable() {
		removed = removeLeft(k, journal, log)
		former.remove("")
	}
	cleanUp(k, former, log)
	former.links().Programs(programs)
	return removed
}

// removeLeft removes what a killed predecessor left and the kernel keeps, and
// returns its addresses.
func removeLeft(k *host.Host, j *clat.Journal, log *slog.Logger) []clat.Leftover {
	removed, restored, err := clat.CleanUp(k, j)
	for _, c := range restored {
		log.Info("restored what a killed predecessor had changed", "sysctl", c.Sysctl, "value", c.Was)
	}
	for _, l := range removed {
		log.Info("removed what a killed predecessor left", "iface", l.Link, "address", l.Addr)
	}
	if err != nil {
		log.Warn("cannot remove what a previous process left", "reason", err)
	}
	return removed
}

// removeLeftoverTUNs removes TUNs of ours that no daemon has.
func removeLeftoverTUNs(log *slog.Logger) {
	leftovers, err := tun.RemoveLeftovers(plan.AliasPrefix)
	for _, name := range leftovers {
		log.Warn("removed a leftover TUN interface", "iface", name, "reason", "another program made it persistent or attached to it")
	}
	if err != nil {
		log.Warn("cannot remove what a previous process left", "reason", err)
	}
}

// cleanUp removes what could be left of a predecessor beside that, and is not to be
// taken over.
func cleanUp(k *host.Host, former *inheritance, log *slog.Logger) {
	err := steernft.CleanUp()
	if !former.links().HasFilters() {
		err = errors.Join(err, steer.CleanUp(k.Handle()))
	}
	if err != nil {
		log.Warn("cannot remove what a previous process left", "reason", err)
	}
}
