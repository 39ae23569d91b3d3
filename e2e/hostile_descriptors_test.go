package e2e

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// notRefused checks that a lack of descriptors was not taken for a refusal of
// BPF or of the kernel engine.
func notRefused(t *testing.T, log string) {
	t.Helper()
	for _, wrong := range []string{"refused", "not supported", "nftables", "engine=\"user"} {
		if strings.Contains(log, wrong) {
			t.Errorf("a lack of descriptors is taken for %q:\n%s", wrong, log)
		}
	}
}

// TestHostileFewDescriptors starts tnat64d with too few file descriptors, step
// by step. It works, or says what is lacking and what to do about it.
func TestHostileFewDescriptors(t *testing.T) {
	t.Parallel()
	needProgram(t, "prlimit")
	for _, n := range []int{20, 24, 28, 32, 36, 40, 41, 44, 48, 52, 56, 60, 64} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, stage{nobody: true, how: func(*lab.Lab) lab.DaemonOptions {
				return lab.DaemonOptions{Limits: []string{fmt.Sprintf("nofile=%d:%[1]d", n)}}
			}})
			log := ""
			eventually(t, stepTimeout, func() error {
				if log = w.book.String(); !strings.Contains(log, "CLAT is up") && !strings.Contains(log, "level=ERROR") {
					return fmt.Errorf("neither up nor complaining:\n%s", log)
				}
				return nil
			})
			notRefused(t, log)
			if strings.Contains(log, "level=ERROR") {
				wants(t, log, fmt.Sprintf("RLIMIT_NOFILE is %d", n), "too many open files", "prlimit --pid")
				return
			}
			wants(t, log, "engine=kernel ", "steering=tcx")
			w.page(t)
		})
	}
}

// TestHostileFewDescriptorsForAWhile takes the descriptors away from a daemon
// that runs, and gives them back.
func TestHostileFewDescriptorsForAWhile(t *testing.T) {
	t.Parallel()
	needProgram(t, "prlimit")
	w := newWorldOn(t, stage{config: "[clat]\nenable = \"never\"\n", nobody: true})
	limit := func(n int) {
		t.Helper()
		// Only the soft limit: not every root may raise the other one.
		if out, err := exec.Command("prlimit", "--pid", fmt.Sprint(w.daemon.PID()), fmt.Sprintf("--nofile=%d:", n)).CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v\n%s", err, out)
		}
	}
	for _, n := range []int{24, 32, 40, 48} {
		limit(n)
		lacks := []string{"level=ERROR", "too many open files", fmt.Sprintf("prlimit --pid %d", w.daemon.PID())}
		before := w.book.lines(lacks...)
		w.reload(t, "")
		eventually(t, stepTimeout, func() error {
			if w.book.lines(lacks...) == before {
				return fmt.Errorf("with %d descriptors nothing is lacking:\n%s", n, w.log.String())
			}
			return nil
		})
		limit(1024)
		eventually(t, stepTimeout, func() error {
			if _, err := w.try(t, "curl", "-sS", "--max-time", "2", url("/")); err != nil {
				return fmt.Errorf("%w\n%s", err, w.log.String())
			}
			return nil
		})
		w.reload(t, "[clat]\nenable = \"never\"\n")
	}
	log := w.book.String()
	notRefused(t, log)
	wants(t, log, "engine=kernel ", "steering=tcx")
}

// TestHostileShortageWhileUp takes the descriptors away from a daemon whose
// CLAT is up and makes it look at the host, whose routes, interfaces and
// configuration change meanwhile. The CLAT and its connections live on.
func TestHostileShortageWhileUp(t *testing.T) {
	t.Parallel()
	needProgram(t, "prlimit")
	eachSteering(t, testHostileShortageWhileUp)
}

func testHostileShortageWhileUp(t *testing.T, config string) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, config)
	flow := w.connection(t, "", netip.Addr{})
	limit := func(n int) {
		t.Helper()
		if out, err := exec.Command("prlimit", "--pid", fmt.Sprint(w.daemon.PID()), fmt.Sprintf("--nofile=%d:", n)).CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v\n%s", err, out)
		}
	}
	for _, change := range []struct {
		name string
		do   func()
	}{
		{"a route comes and goes", func() {
			w.laptop(t, "ip", "-6", "route", "add", "unreachable", "2001:db8:dead::/48")
			w.laptop(t, "ip", "-6", "route", "del", "unreachable", "2001:db8:dead::/48")
		}},
		{"an interface comes and goes", func() {
			w.laptop(t, "ip", "link", "add", "idle0", "type", "veth", "peer", "name", "idle1")
			w.laptop(t, "ip", "link", "set", "idle0", "up")
			w.laptop(t, "ip", "link", "del", "idle0")
		}},
		{"SIGHUP", func() { w.reload(t, config) }},
	} {
		limit(4)
		change.do()
		for range 10 {
			wantAlive(t, change.name+": what was connected", flow)
			time.Sleep(200 * time.Millisecond)
		}
		limit(1024)
		eventually(t, stepTimeout, func() error {
			_, err := w.try(t, "curl", "-sS", "--max-time", "5", url("/"))
			return err
		})
		wantAlive(t, change.name+", descriptors are back: what was connected", flow)
	}
}
