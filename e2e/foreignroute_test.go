package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestForeignRouteOverRestart has a VPN's route to its endpoint through the
// CLAT's interface, and one by a nexthop object. They go with that and are restored by
// the next start, whether the daemon was stopped or killed.
func TestForeignRouteOverRestart(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, stage{prepare: func(l *lab.Lab) error {
		return l.Laptop.Do(func() error { // the kernel tells only the number of a nexthop object
			return os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte("0"), 0)
		})
	}})
	const route, byNexthop = "203.0.113.77", "203.0.113.88"
	part := "0.0.0.0/1 dev " + w.clat.TUN + " table 100"
	w.laptop(t, "ip", "route", "add", route, "dev", w.clat.TUN, "mtu", "1400", "advmss", "1300", "initcwnd", "20", "quickack", "1")
	w.laptop(t, "ip", "route", "add", "0.0.0.0/1", "dev", w.clat.TUN, "table", "100", "metric", "7")
	w.laptop(t, "ip", "nexthop", "add", "id", "7", "dev", w.clat.TUN)
	w.laptop(t, "ip", "route", "add", byNexthop, "nhid", "7", "advmss", "1200")
	routes := func() string {
		return w.laptop(t, "ip", "-4", "route", "show", "table", "all")
	}
	restored := func() {
		t.Helper()
		w.wantState(t, lab.Uplink, control.Up)
		eventually(t, soon, func() error {
			if got := routes(); !strings.Contains(got, "advmss 1300 initcwnd 20 quickack 1") || !strings.Contains(got, "advmss 1200") || !strings.Contains(got, byNexthop+" nhid 7 ") || !strings.Contains(got, part) {
				return fmt.Errorf("not restored:\n%s\n%s", got, w.log.String())
			}
			return nil
		})
	}
	// The journal follows what the kernel tells.
	eventually(t, soon, func() error { return errors.Join(w.journalHas(route), w.journalHas(byNexthop)) })

	if err := w.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	w.asBefore()
	w.start(built(t, "tnat64d"), true)
	restored()
	eventually(t, soon, func() error { return w.journalHas(route) })

	w.daemon.Kill()
	w.start(built(t, "tnat64d"), true)
	restored()

	// Its owner removes one of them: it stays away.
	w.laptop(t, "ip", "route", "del", route, "dev", w.clat.TUN)
	eventually(t, soon, func() error {
		if w.journalHas(route) == nil {
			return errors.New("the journal still has it")
		}
		return nil
	})
	if err := w.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	w.start(built(t, "tnat64d"), true)
	eventually(t, soon, func() error {
		got := routes()
		if strings.Contains(got, route) || !strings.Contains(got, part) {
			return fmt.Errorf("restored are:\n%s", got)
		}
		return nil
	})
	w.page(t)
}

// journalHas reports whether the daemon's journal has a word.
func (w *world) journalHas(word string) error {
	files, err := filepath.Glob(filepath.Join(w.Dir, "journal-*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), word) {
			return nil
		}
	}
	return fmt.Errorf("%s is not in the journal %q", word, files)
}
