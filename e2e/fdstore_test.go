package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"tnat64d/internal/lab"
)

const systemdName = "org.freedesktop.systemd1"

// fakeSystemd keeps the descriptors of tnat64d, and tells it on the bus which job
// its unit has.
type fakeSystemd struct {
	*lab.ServiceManager
	bus *messageBus
	job atomic.Value // a string: "restart", "stop" or "" for none
}

func startSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	dir, err := os.MkdirTemp("", "systemd") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	manager, err := lab.NewServiceManager(filepath.Join(dir, "notify"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	s := &fakeSystemd{ServiceManager: manager, bus: startBus(t)}
	s.job.Store("")
	const path, unit, job = "/org/freedesktop/systemd1", "/org/freedesktop/systemd1/unit/tnat64d", "/org/freedesktop/systemd1/job/7"
	conn := s.bus.service(t, systemdName, path, systemdName+".Manager", map[string]any{
		"GetUnitByPID": func(uint32) (dbus.ObjectPath, *dbus.Error) { return unit, nil },
	})
	get := map[string]any{"Get": func(_, name string) (dbus.Variant, *dbus.Error) {
		type jobOf struct {
			ID   uint32
			Path dbus.ObjectPath
		}
		kind := s.job.Load().(string)
		switch {
		case name == "NFileDescriptorStore":
			return dbus.MakeVariant(uint32(len(s.Names()))), nil
		case name == "Job" && kind == "":
			return dbus.MakeVariant(jobOf{0, "/"}), nil
		case name == "Job":
			return dbus.MakeVariant(jobOf{7, job}), nil
		}
		return dbus.MakeVariant(kind), nil
	}}
	for _, object := range []dbus.ObjectPath{unit, job} {
		if err := conn.ExportMethodTable(get, object, "org.freedesktop.DBus.Properties"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// how starts tnat64d as the unit does.
func (s *fakeSystemd) how(l *lab.Lab) lab.DaemonOptions {
	o := s.bus.how(l)
	o.Manager = s.ServiceManager
	return o
}

// stream sends numbered datagrams to the echo server until it is ended, and counts
// the answers.
type stream struct {
	conn   net.Conn
	stop   chan struct{}
	ended  sync.WaitGroup
	sent   int
	seen   []bool
	answer atomic.Int64 // the last number that came back
}

// stream starts a stream.
func (w *world) stream(t *testing.T, every time.Duration) *stream {
	t.Helper()
	conn, err := connect(w.Laptop, "udp4", service(lab.PortEcho), "", netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{conn: conn, stop: make(chan struct{}), seen: make([]bool, 1<<17)}
	s.ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for s.sent < len(s.seen) {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			if _, err := conn.Write(binary.BigEndian.AppendUint32(make([]byte, 0, 4), uint32(s.sent))); err == nil {
				s.sent++
			} else {
				t.Errorf("datagram %d: %v", s.sent, err)
				return
			}
		}
	})
	s.ended.Go(func() {
		b := make([]byte, 16)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			if n == 4 {
				i := binary.BigEndian.Uint32(b)
				s.seen[i] = true
				s.answer.Store(int64(i))
			}
		}
	})
	t.Cleanup(s.end)
	return s
}

func (s *stream) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	s.ended.Wait()
	s.conn.Close()
}

// more waits until the stream has got answers to datagrams that are sent from now on.
func (s *stream) more(t *testing.T) {
	t.Helper()
	from := s.answer.Load() + 20
	eventually(t, soon, func() error {
		if now := s.answer.Load(); now < from {
			return fmt.Errorf("the last answer is to datagram %d, waiting for %d", now, from)
		}
		return nil
	})
}

// wantWhole finds that all datagrams but so many were answered.
func (s *stream) wantWhole(t *testing.T, atMost int) {
	t.Helper()
	s.end()
	var lost []int
	for i, seen := range s.seen[:s.sent] {
		if !seen {
			lost = append(lost, i)
		}
	}
	t.Logf("%d datagrams, %d without answer", s.sent, len(lost))
	if len(lost) > atMost {
		t.Errorf("%d of %d datagrams were lost: %v", len(lost), s.sent, lost[:min(len(lost), 20)])
	}
}

// TestRestartUnderSystemd restarts tnat64d under a service manager that keeps its
// descriptors, by a job and after a kill. The TUN with its foreign routes, the
// addresses and the programs stay, and everything arrives. A stop leaves nothing.
func TestRestartUnderSystemd(t *testing.T) {
	testRestartUnderSystemd(t, stage{}, func(t *testing.T, _ int) string { return built(t, "tnat64d") })
}

// TestLoadExtendsTimeouts checks that systemd hears of the loading of the BPF programs
// before it begins, whether the start is over by then or not.
func TestLoadExtendsTimeouts(t *testing.T) {
	t.Parallel()
	s := startSystemd(t)
	w := newWorldOn(t, stage{how: func(l *lab.Lab) lab.DaemonOptions {
		o := s.how(l)
		o.Env = append(o.Env, "WATCHDOG_USEC=180000000")
		return o
	}})
	w.needBPF(t)
	said := s.Said()
	if !slices.Contains(said, "EXTEND_TIMEOUT_USEC=600000000") && !slices.Contains(said, "WATCHDOG_USEC=600000000") {
		t.Errorf("systemd heard only %q", said)
	}
}

// TestSharedRestartUnderSystemd is the same with an address that the CLAT shares with
// the laptop, which also uses IPv6 from a port that a flow of the CLAT has.
func TestSharedRestartUnderSystemd(t *testing.T) {
	testRestartUnderSystemd(t, stage{network: dhcpv6Only}, func(t *testing.T, _ int) string { return built(t, "tnat64d") })
}

// testRestartUnderSystemd restarts as the program that next names for the first, second
// and third restart.
func testRestartUnderSystemd(t *testing.T, on stage, next func(t *testing.T, restart int) string) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		s := startSystemd(t)
		on := on
		on.config, on.how = config, s.how
		w := newWorldOn(t, on)
		w.needBPF(t)
		index := w.index(t, w.clat.TUN)
		w.laptop(t, "ip", "route", "add", "203.0.113.0/24", "dev", w.clat.TUN)
		flow := w.connection(t, "", netip.Addr{})
		own, err := w.dialFrom("tcp6", flow.LocalAddr().(*net.TCPAddr).Port, native(lab.PortEcho))
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		wantAlive(t, "IPv6 from the same port", own)
		udp := w.stream(t, 2*time.Millisecond)
		download := w.longDownload(t, 30<<20)
		udp.more(t)
		kept := s.Names()
		for n, end := range []struct {
			job string
			end func() error
		}{
			{"restart", func() error { return w.daemon.Stop() }},
			{"", func() error { w.daemon.Kill(); return nil }},
			{"restart", func() error { return w.daemon.Stop() }},
		} {
			s.job.Store(end.job)
			if err := end.end(); err != nil {
				t.Error(err)
			}
			if strings.Contains(config, "kernel") {
				udp.more(t) // nobody is there
				wantAlive(t, "a connection while no process is there", flow)
				wantAlive(t, "IPv6 while no process is there", own)
			}
			w.start(next(t, n), true)
			udp.more(t)
			wantAlive(t, "the connection of before", flow)
			wantAlive(t, "IPv6 after it", own)
			if w.index(t, w.clat.TUN) != index {
				t.Errorf("%s is another interface after the restart", w.clat.TUN)
			}
			if routes := w.laptop(t, "ip", "route", "show", "dev", w.clat.TUN); !strings.Contains(routes, "203.0.113.0/24") {
				t.Errorf("the route of another program is gone:\n%s", routes)
			}
			eventually(t, soon, func() error {
				if now := s.Names(); !slices.Equal(now, kept) {
					return fmt.Errorf("kept are %v, were %v", now, kept)
				}
				return nil
			})
		}
		s.job.Store("stop") // the world's end
		download()
		lost := 0
		if strings.Contains(config, "user") {
			lost = 4 * 64 // with the process that is killed goes what it has read of each queue
		}
		udp.wantWhole(t, lost)
		w.moved = true // as connections and routes of the test have come and gone
		if log := w.log.String(); strings.Contains(log, "does not fit") || strings.Contains(log, "aborted connections") {
			t.Error("something was removed at a restart")
		}
	})
}

// needBPF waits until the CLAT is up, and skips the test where BPF is refused.
func (w *world) needBPF(t *testing.T) {
	t.Helper()
	eventually(t, soon, func() error {
		if !strings.Contains(w.log.String(), "CLAT is up") {
			return fmt.Errorf("no CLAT")
		}
		return nil
	})
	if strings.Contains(w.log.String(), "steering=nftables") {
		t.Skip("this kernel refuses BPF: nothing outlives the daemon")
	}
}

// needTCX is needBPF, and skips the test on kernels before Linux 6.6, which have no
// links to keep.
func (w *world) needTCX(t *testing.T) {
	t.Helper()
	w.needBPF(t)
	if !strings.Contains(w.log.String(), "steering=tcx") {
		t.Skip("this kernel has no tcx")
	}
}

// longDownload starts a download, and returns what waits for its end.
func (w *world) longDownload(t *testing.T, size int) (wait func()) {
	t.Helper()
	needProgram(t, "curl")
	ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
	t.Cleanup(cancel)
	cmd := w.Laptop.Command(ctx, "curl", "-sS", "-o", "/dev/null", "--limit-rate", "10M", "-w", "%{size_download}", url(fmt.Sprintf("/bytes/%d", size)))
	cmd.Env = lab.WithoutProxies(os.Environ())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := cmd.Wait(); err != nil || out.String() != fmt.Sprint(size) {
			t.Errorf("curl: %v, %s", err, &out)
		}
	}
}

// TestStoreThatDoesNotFit kills tnat64d and starts it with a store that it cannot go
// on with. It empties the store and starts afresh.
func TestStoreThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config string // of the second start
		change func(t *testing.T, s *fakeSystemd, tun string)
	}{
		{"another interface name", "[clat]\ntun = \"four0\"\n", nil},
		{"another number of queues", "[clat]\nqueues = 3\n", nil},
		{"a queue is missing", "", func(_ *testing.T, s *fakeSystemd, _ string) { s.Forget(nameWith(s, "tun-")) }},
		{"a queue is missing, and the service manager is busy", "", func(_ *testing.T, s *fakeSystemd, _ string) {
			s.Forget(nameWith(s, "tun-"))
			s.Busy(300 * time.Millisecond)
		}},
		{"no links", "", func(_ *testing.T, s *fakeSystemd, _ string) {
			for _, n := range s.Names() {
				if strings.HasPrefix(n, "link-") {
					s.Forget(n)
				}
			}
		}},
		{"no token", "", func(_ *testing.T, s *fakeSystemd, _ string) { s.Forget("token") }},
		{"names that lie", "", func(_ *testing.T, s *fakeSystemd, _ string) {
			link, queue := nameWith(s, "link-"), nameWith(s, "tun-")
			s.Rename(link, "x")
			s.Rename(queue, link)
			s.Rename("x", queue)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startSystemd(t)
			w := newWorldOn(t, stage{how: s.how})
			w.needTCX(t)
			w.moved = true
			was := w.clat
			w.daemon.Kill()
			w.config = c.config
			if c.change != nil {
				c.change(t, s, was.TUN)
			}
			w.start(built(t, "tnat64d"), true)
			eventually(t, soon, func() error {
				if !strings.Contains(w.log.String(), "CLAT is up") {
					return fmt.Errorf("no CLAT")
				}
				return nil
			})
			w.firstAnswer(t, "", soon)
			if all := w.wantCLATs(t, 1); all[0].IPv6 != was.IPv6 {
				t.Errorf("CLAT is %+v, was %+v", all[0], was)
			}
			// What is kept in the end is what one start keeps.
			queues := min(runtime.NumCPU(), 4)
			if strings.Contains(c.config, "queues = 3") {
				queues = 3
			}
			eventually(t, soon, func() error {
				fresh := map[string]int{}
				for _, n := range s.Names() {
					kind, _, _ := strings.Cut(n, "-")
					fresh[kind]++
				}
				if fresh["token"] != 1 || fresh["link"] != 4 || fresh["tun"] != queues || fresh["map"] != 2 {
					return fmt.Errorf("kept are %v", s.Names())
				}
				return nil
			})
			s.job.Store("stop")
		})
	}
}

// nameWith returns a name with that prefix among those that are kept.
func nameWith(s *fakeSystemd, prefix string) string {
	for _, n := range s.Names() {
		if strings.HasPrefix(n, prefix) {
			return n
		}
	}
	return ""
}

// TestCleanUpAfterTheLast has systemd end the unit after a crash: it closes the
// descriptors, and tnat64d -cleanup removes what the kernel keeps.
func TestCleanUpAfterTheLast(t *testing.T) {
	t.Parallel()
	s := startSystemd(t)
	w := newWorldOn(t, stage{how: s.how})
	w.needTCX(t)
	w.moved = true
	w.daemon.Kill()
	cleanUp := func(job string, env ...string) {
		t.Helper()
		s.job.Store(job)
		cmd := w.Laptop.Command(t.Context(), built(t, "tnat64d"), "-cleanup")
		cmd.Env = append(append(os.Environ(), "RUNTIME_DIRECTORY="+w.Dir, "DBUS_SYSTEM_BUS_ADDRESS="+s.bus.address), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	there := func() bool {
		return strings.Contains(w.laptop(t, "ip", "-6", "addr", "show", "dev", lab.Uplink), w.clat.IPv6.String())
	}
	cleanUp("", "SERVICE_RESULT=signal", "EXIT_CODE=killed", "EXIT_STATUS=KILL")
	cleanUp("restart", "SERVICE_RESULT=success", "EXIT_CODE=exited", "EXIT_STATUS=0")
	if !there() {
		t.Error("the address is gone before a restart")
	}
	cleanUp("", "SERVICE_RESULT=exit-code", "EXIT_CODE=exited", "EXIT_STATUS=2")
	if there() {
		t.Error("the address is there after the end")
	}
	s.Forget("")
	eventually(t, soon, func() error { // a program that is being started may have copies
		now, err := w.Laptop.Snapshot()
		if diff := w.before.Diff(now); len(diff) > 0 {
			return fmt.Errorf("left on the laptop: %v, %v", diff, err)
		}
		return nil
	})
	w.start(built(t, "tnat64d"), true)
	cleanUp("stop") // while it runs
	w.firstAnswer(t, "", soon)
}
