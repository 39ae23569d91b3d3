package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tnat64d/internal/lab"
	"tnat64d/internal/needs"
)

// The end-to-end tests run the real tnat64d on the laptop of a lab, and real
// programs beside it. Whatever a test is about, every one of them also holds
// the daemon to its promises: see world.

const (
	// How long each may take at most. The tests wait for events and are over as
	// soon as these come: a machine under load must not fail them.
	buildTimeout = 5 * time.Minute // of the lab
	startTimeout = 3 * time.Minute // of tnat64d, and what it does at the start
	stepTimeout  = 6 * time.Minute // of each program on the laptop
)

// url is a page of the lab's IPv4-only server.
func url(path string) string { return "http://" + lab.ServerIPv4.String() + path }

// maxRSS is what tnat64d may use of memory under load.
const maxRSS = 40 << 20

// binaries are built once, into a directory that TestMain removes.
var binaries struct {
	dir  string
	once sync.Once
	err  error
}

// goProgram is the go command.
var goProgram = "go"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == actCommand {
		os.Exit(play(os.Args[2:], os.Stdout))
	}
	// Many labs at once, unless -parallel says how many: each waits most of its
	// time and needs little of the processor.
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		flag.Set("test.parallel", "12")
	}
	// Debian's programs, which the tests are written for, come before others of
	// the same name: the shell script by which a version manager chooses its
	// python3 costs ten times what starting Debian's does.
	if goCommand, err := exec.LookPath("go"); err == nil {
		goProgram = goCommand
	}
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH"))
	dir, err := os.MkdirTemp("", "tnat64-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // other users run these programs, too
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries.dir = dir
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// built returns the path of one of our commands.
func built(t *testing.T, name string) string {
	t.Helper()
	binaries.once.Do(func() {
		build := exec.Command(goProgram, "build", "-o", binaries.dir+"/", "tnat64d/cmd/tnat64d", "tnat64d/cmd/tnat64ctl", "tnat64d/cmd/tnat64-lab", "tnat64d/cmd/tnat64", "tnat64d/cmd/tnat64-gateway")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			binaries.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return filepath.Join(binaries.dir, name)
}

func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "makes network namespaces")
}

func needProgram(t *testing.T, name string) {
	t.Helper()
	_, err := exec.LookPath(name)
	needs.That(t, err == nil, fmt.Sprintf("the program %q", name))
}

// world is a lab with tnat64d on the laptop. When the test ends it checks what
// holds for every test: nothing but the laptop's own IPv6 has left it, no
// sysctl was changed meanwhile or after, tnat64d stayed small, stopped with
// status 0, and left interfaces, addresses, routes and programs as they were.
type world struct {
	*lab.Lab
	t      *testing.T
	config string
	how    lab.DaemonOptions // besides config and log
	daemon *lab.Daemon
	clat   lab.CLAT
	log    lab.Tail
	book   logBook // all of it

	before  lab.Snapshot
	sysctls lab.Snapshot
	watches []*lab.Watch // of every uplink

	mu  sync.Mutex
	own map[netip.Addr]bool // sources that may leave the laptop

	moved bool // the laptop has been on other networks: see asBefore
}

// stage is what a world begins with.
type stage struct {
	network lab.Options
	config  string
	prepare func(l *lab.Lab) error // the laptop, before it is looked at and the daemon starts
	nobody  bool                   // there is to be no CLAT at first
	path    string                 // of a program in the place of tnat64d

	// how the daemon is started, besides config. With a Log of its own the
	// world has none.
	how func(l *lab.Lab) lab.DaemonOptions
}

// eachEngine runs a test with either engine of tnat64d.
func eachEngine(t *testing.T, test func(t *testing.T, config string)) {
	for _, engine := range []string{"kernel", "user"} {
		t.Run(engine, func(t *testing.T) { test(t, fmt.Sprintf("[clat]\nengine = %q\n", engine)) })
	}
}

// refuseBPF begins a configuration with which tnat64d is started without the
// right to load BPF programs, so that nftables steers.
const refuseBPF = "[clat] # BPF is refused\n"

// eachSteering runs a test with either engine, and with the user engine that
// nftables steers packets to.
func eachSteering(t *testing.T, test func(t *testing.T, config string)) {
	eachEngine(t, test)
	t.Run("nftables", func(t *testing.T) { needProgram(t, "setpriv"); test(t, refuseBPF) })
}

// newWorld builds the lab and starts tnat64d with the given configuration.
func newWorld(t *testing.T, o lab.Options, config string) *world {
	t.Helper()
	return newWorldOn(t, stage{network: o, config: config})
}

// newWorldOn builds the lab and starts tnat64d.
func newWorldOn(t *testing.T, s stage) *world {
	t.Helper()
	needRoot(t)
	if s.path == "" {
		s.path = built(t, "tnat64d")
	}
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	l, err := lab.New(ctx, s.network)
	if errors.Is(err, errors.ErrUnsupported) && s.network.Kind != lab.SLAAC {
		t.Skip(err) // the kernel has no such links
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	if s.prepare != nil {
		if err := s.prepare(l); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{Lab: l, t: t, config: s.config, own: map[netip.Addr]bool{netip.IPv6Unspecified(): true}}
	if s.how != nil {
		w.how = s.how(l)
	}
	w.before = must(t)(l.Laptop.Snapshot())
	w.sysctls = must(t)(l.Laptop.Sysctls())
	for _, name := range w.uplinks() {
		watch, err := l.Laptop.Watch(name)
		if err != nil {
			t.Fatal(err)
		}
		w.watches = append(w.watches, watch)
	}
	if err := w.followAddresses(); err != nil {
		t.Fatal(err)
	}
	w.start(s.path, !s.nobody)
	t.Cleanup(w.finish)
	return w
}

// uplinks are the laptop's interfaces towards networks.
func (w *world) uplinks() []string {
	if w.Second != nil {
		return []string{lab.Uplink, lab.Uplink2}
	}
	return []string{lab.Uplink}
}

// must fails the test on an error.
func must(t *testing.T) func(s lab.Snapshot, err error) lab.Snapshot {
	return func(s lab.Snapshot, err error) lab.Snapshot {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// start starts tnat64d and, if there is to be one, waits for its CLAT.
func (w *world) start(path string, clat bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), startTimeout)
	defer cancel()
	how := w.how
	how.Config = w.config
	how.WithoutBPF = how.WithoutBPF || strings.HasPrefix(w.config, refuseBPF)
	if how.Log == nil {
		how.Log = io.MultiWriter(&w.log, &w.book)
	}
	daemon, err := w.StartDaemonWith(ctx, path, how)
	if err == nil {
		w.daemon = daemon
	}
	if err == nil && clat {
		w.clat, err = w.WaitCLAT(ctx)
	}
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.log.String())
	}
}

// followAddresses takes all IPv6 addresses that the laptop has, or has once
// had, for its own: they come and go with the networks.
func (w *world) followAddresses() error {
	updates := make(chan netlink.AddrUpdate, 64)
	done := make(chan struct{})
	w.t.Cleanup(func() { close(done) })
	err := w.Laptop.Do(func() error {
		return netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{ListExisting: true})
	})
	if err != nil {
		return fmt.Errorf("addresses of the laptop: %w", err)
	}
	go func() {
		for u := range updates {
			if a, ok := netip.AddrFromSlice(u.LinkAddress.IP); ok && a.Is6() && !a.Is4In6() {
				w.mayLeave(a)
			}
		}
	}()
	return nil
}

// mayLeave says that packets from an address may leave the laptop.
func (w *world) mayLeave(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.own[a] = true
}

// nativeMayLeave says that the laptop has native IPv4 on a network.
func (w *world) nativeMayLeave(n *lab.Network) {
	w.mayLeave(netip.Addr{}) // ARP has no IP source
	w.mayLeave(n.NativeLaptop())
}

// finish makes the checks of every test.
func (w *world) finish() {
	t := w.t
	during := must(t)(w.Laptop.Sysctls())
	if diff := w.known(w.sysctls).Diff(w.known(during)); len(diff) > 0 {
		t.Errorf("sysctls changed while tnat64d runs:\n%s", strings.Join(diff, "\n"))
	}
	if rss, err := w.daemon.PeakRSS(); err != nil {
		t.Error(err)
	} else if t.Logf("tnat64d used %.1f MiB of memory at most", float64(rss)/(1<<20)); rss > maxRSS {
		t.Errorf("tnat64d used %d bytes of memory, more than %d", rss, maxRSS)
	}
	if err := w.daemon.Stop(); err != nil {
		t.Errorf("tnat64d did not stop cleanly: %v", err)
	}
	w.asBefore()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, watch := range w.watches {
		sent, err := watch.Close()
		if err != nil {
			t.Error(err)
		}
		for _, s := range sent {
			if !w.own[s.Source] {
				t.Errorf("%s left the laptop (ethertype %#04x); its own are %v", s, s.EtherType, w.own)
			}
		}
	}
	if t.Failed() {
		t.Logf("tnat64d's log:\n%s", w.log.String())
	}
}

// known leaves out of sysctls those of interfaces that were not there at
// first, and what counts.
func (w *world) known(sysctls lab.Snapshot) lab.Snapshot {
	there := func(name string) bool {
		return name == "all" || name == "default" ||
			slices.ContainsFunc(w.before, func(line string) bool { return strings.HasPrefix(line, "link "+name+" ") })
	}
	return slices.DeleteFunc(slices.Clone(sysctls), func(line string) bool {
		of := ofInterface.FindStringSubmatch(line)
		return of != nil && !there(of[1]) || strings.Contains(line, "_count = ")
	})
}

// ofInterface matches sysctls of an interface.
var ofInterface = regexp.MustCompile(`^net/[^/]+/(?:conf|neigh)/([^/]+)/`)

// asBefore checks that the laptop is as it was before tnat64d started. What
// its kernel has learned from another network is not tnat64d's affair.
func (w *world) asBefore() {
	w.t.Helper()
	diff := w.before.Diff(must(w.t)(w.Laptop.Snapshot()))
	if w.moved {
		diff = slices.DeleteFunc(diff, learned.MatchString)
	}
	if len(diff) > 0 {
		w.t.Errorf("tnat64d left the laptop changed:\n%s", strings.Join(diff, "\n"))
	}
	if diff := w.known(w.sysctls).Diff(w.known(must(w.t)(w.Laptop.Sysctls()))); len(diff) > 0 {
		w.t.Errorf("tnat64d left sysctls changed:\n%s", strings.Join(diff, "\n"))
	}
}

// learned are the facts of a snapshot that are of the kernel's own making (2)
// or from router advertisements (9).
var learned = regexp.MustCompile(`^. (group |route .* protocol (2|9) |address \S+ \S+/64 )`)

// laptop runs a program on the laptop and returns what it printed; it fails the
// test if the program fails.
func (w *world) laptop(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := w.try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// try is laptop for programs that may fail.
func (w *world) try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	needProgram(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	defer cancel()
	cmd := w.Laptop.Command(ctx, name, args...)
	cmd.Env = lab.WithoutProxies(os.Environ())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// pings sends n echo requests, each after the answer to the one before.
func (w *world) pings(t *testing.T, n int, args ...string) {
	t.Helper()
	for range n {
		wants(t, w.laptop(t, "ping", onePing(args...)...), "1 received")
	}
}

// onePing returns the arguments of ping for one echo request to the server. Of
// several, ping gives up the last one after two round trips, which a busy
// machine can exceed.
func onePing(args ...string) []string {
	return append(append([]string{"-n", "-c", "1", "-W", "30"}, args...), server)
}

// eventually tries until f succeeds, for a bounded time.
func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// wants checks that output has the words.
func wants(t *testing.T, output string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(output, w) {
			t.Errorf("%q is missing in:\n%s", w, output)
		}
	}
}

// pattern is n bytes that differ from their neighbours.
func pattern(n int) []byte {
	return bytes.Repeat([]byte{0, 7, 14, 3, 250, 81, 99}, n/7+1)[:n]
}
