package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

var errSilent = errors.New("no datagram has been answered")

// pref64 is the prefix of all networks. With 64:ff9b::/96 tayga refuses the lab's
// server, which has an address for documentation.
var pref64 = netip.MustParsePrefix("2001:db8:64::/96")

// bin is the directory for our programs, which built fills.
var bin string

var built = sync.OnceValue(func() error {
	build := exec.Command("go", "build", "-o", bin+"/", "tnat64d/cmd/tnat64d", "tnat64d/cmd/tnat64ctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	status := 1
	var err error
	if bin, err = os.MkdirTemp("", "tnat64-others-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = m.Run()
	}
	os.RemoveAll(bin)
	os.Exit(status)
}

// stage is a lab whose laptop has another CLAT, tnat64d, or both.
type stage struct {
	*lab.Lab
	*pulse         // by IPv4
	native  *pulse // by the laptop's own IPv6, to the PLAT
	t       *testing.T
	root    string   // root file system of the machine
	machine *machine // of the other CLAT
	daemon  *lab.Daemon
	log     *book
}

// needRoot skips a test where there is no root file system with other CLATs.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getenv(rootVariable) == "" {
		t.Skipf("%s names no root file system with other CLATs: run make test-others", rootVariable)
	}
}

// newStage builds a lab.
func newStage(t *testing.T, o lab.Options) *stage {
	t.Helper()
	needRoot(t)
	return newStageOn(t, o, os.Getenv(rootVariable))
}

// newStageOn is newStage with a root file system.
func newStageOn(t *testing.T, o lab.Options, root string) *stage {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	if !o.PREF64.IsValid() {
		o.PREF64 = pref64
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	l, err := lab.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return &stage{Lab: l, t: t, root: root, pulse: startPulse(t, l, lab.ServerIPv4), native: startPulse(t, l, lab.Synthesize(o.PREF64, lab.ServerIPv4)), log: &book{}}
}

// online waits for the laptop's IPv6, for a limited time.
func (s *stage) online(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	return s.WaitOnline(ctx)
}

// start starts tnat64d.
func (s *stage) start(config string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	o := lab.DaemonOptions{Config: config, Log: s.log}
	if s.machine != nil {
		o.Env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + s.machine.Bus}
	}
	d, err := s.StartDaemonWith(ctx, filepath.Join(bin, "tnat64d"), o)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.log)
	}
	s.daemon = d
	s.t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			s.t.Error(err)
		}
		if s.t.Failed() {
			s.t.Logf("log of tnat64d:\n%s", s.log)
		}
	})
}

// wants waits until tnat64d has a state on the laptop's uplink for a reason that
// contains words.
func (s *stage) wants(state control.State, words ...string) control.Uplink {
	s.t.Helper()
	var u control.Uplink
	eventually(s.t, func() error {
		status, err := s.daemon.Status(s.t.Context())
		if err != nil {
			return err
		}
		i := slices.IndexFunc(status.Uplinks, func(u control.Uplink) bool { return u.Name == lab.Uplink })
		if i < 0 {
			return fmt.Errorf("%s is no uplink: %s", lab.Uplink, status.Why)
		}
		u = status.Uplinks[i]
		missing := slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(u.Why, w) })
		if u.State != state || missing {
			return fmt.Errorf("%s is %s because %q instead of %s because %q", lab.Uplink, u.State, u.Why, state, words)
		}
		return nil
	})
	return u
}

// ready waits until tnat64d stands aside for another CLAT, named by words, and its
// own IPv6 address is past duplicate address detection.
func (s *stage) ready(words ...string) control.Uplink {
	s.t.Helper()
	var u control.Uplink
	eventually(s.t, func() error {
		if u = s.wants(control.Standby, words...); u.StandbyIPv6 == nil {
			return errors.New("no address waits for the CLAT")
		}
		link, err := s.Laptop.Netlink.LinkByName(lab.Uplink)
		if err != nil {
			return err
		}
		addrs, err := s.Laptop.Netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
			return a.IP.Equal(u.StandbyIPv6.AsSlice()) && a.Flags&unix.IFA_F_TENTATIVE == 0
		}) {
			return fmt.Errorf("%s is in duplicate address detection", u.StandbyIPv6)
		}
		return nil
	})
	return u
}

// ctl runs tnat64ctl on the laptop. Its status is of no interest: doctor's tells
// whether all is well.
func (s *stage) ctl(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := s.Laptop.Command(ctx, filepath.Join(bin, "tnat64ctl"), append([]string{"-socket", s.daemon.Socket}, args...)...)
	cmd.Env = lab.WithoutProxies(os.Environ())
	if s.machine != nil {
		cmd.Env = append(cmd.Env, "DBUS_SYSTEM_BUS_ADDRESS="+s.machine.Bus)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("tnat64ctl %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// says checks that a text has the words.
func (s *stage) says(text string, words ...string) {
	s.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			s.t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}

// laptopIPv4 returns the IPv4 addresses of the laptop's uplink.
func (s *stage) laptopIPv4(ifname string) []netip.Addr {
	s.t.Helper()
	all, err := s.Laptop.Addresses(ifname)
	if err != nil {
		s.t.Fatal(err)
	}
	var found []netip.Addr
	for _, a := range all {
		if a.Addr().Is4() {
			found = append(found, a.Addr())
		}
	}
	return found
}

// result prints what has become of IPv4 since a moment, and of the laptop's own IPv6:
// without that no CLAT works.
func (s *stage) result(since time.Time) gap {
	s.t.Helper()
	time.Sleep(2 * time.Second) // so that what follows is seen as well
	g := s.since(since)
	own := s.native.since(since)
	s.t.Logf("result: IPv4 was gone for %v at most (%d of %d datagrams lost), the laptop's own IPv6 for %v", g.longest.Round(beat), g.lost, g.sent, own.longest.Round(beat))
	return g
}

// stays wants IPv4 to have worked all the time since a moment. A busy machine may
// lose a datagram.
func (s *stage) stays(since time.Time) {
	s.t.Helper()
	if g := s.result(since); g.longest > time.Second {
		s.t.Errorf("IPv4 was gone for %v", g.longest)
	}
}
