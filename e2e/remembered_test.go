package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// ends are the ways in which a test ends tnat64d before it starts it again, without
// a service manager.
var ends = []struct {
	name string
	end  func(w *world) error
}{
	{"stop", func(w *world) error { return w.daemon.Stop() }},
	{"kill", func(w *world) error { w.daemon.Kill(); return nil }},
}

// TestRestartRemembersPREF64 restarts tnat64d on networks where the source of the
// PREF64 is silent meanwhile. The CLAT is back with the prefix of before, and the
// connections go on; what the source says then counts.
func TestRestartRemembersPREF64(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		source  string
		network lab.Options
		silence func(w *world, on bool)
	}{
		{"ra", lab.Options{}, func(w *world, on bool) { w.Silence(on) }},
		{"dns", lab.Options{NoPREF64: true, DNS: &lab.DNS{}}, func(w *world, on bool) { w.SetDNS(lab.DNS{Silent: on}) }},
	} {
		for _, e := range ends {
			t.Run(c.source+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				w := newWorldOn(t, stage{network: c.network})
				w.moved = true
				w.wantState(t, lab.Uplink, control.Up)
				was := w.clat
				flow := w.connection(t, "", netip.Addr{})
				w.page(t)
				c.silence(w, true)
				if err := e.end(w); err != nil {
					t.Fatal(err)
				}
				w.start(built(t, "tnat64d"), true)
				w.page(t)
				wantAlive(t, "the connection of before", flow)
				u := w.wantState(t, lab.Uplink, control.Up)
				if len(u.PREF64) != 1 || !u.PREF64[0].Remembered || u.PREF64[0].Source != c.source || w.clat.IPv6 != was.IPv6 {
					t.Errorf("CLAT is %+v with %+v, was %+v", w.clat, u.PREF64, was)
				}
				c.silence(w, false)
				w.nudge(t)
				eventually(t, startTimeout, func() error {
					if u, err := w.status(lab.Uplink); err != nil || len(u.PREF64) != 1 || u.PREF64[0].Remembered {
						return fmt.Errorf("%+v (%s), %v", u.PREF64, u.Discovery, err)
					}
					return nil
				})
				wantAlive(t, "the connection of before, when the prefix is confirmed", flow)
			})
		}
	}
}

// TestRestartElsewhere restarts tnat64d on another network, which has no NAT64, and
// with a file that somebody else has written. There is no CLAT by the prefix of
// before.
func TestRestartElsewhere(t *testing.T) {
	t.Parallel()
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{}, "")
			w.moved = true
			cafe, err := w.AddNetwork(lab.Options{NoPREF64: true})
			if err != nil {
				t.Fatal(err)
			}
			w.wantState(t, lab.Uplink, control.Up)
			if err := e.end(w); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Roam(t.Context(), cafe); err != nil {
				t.Fatal(err)
			}
			w.start(built(t, "tnat64d"), false)
			w.wantLines(t, 1, "the PREF64 of the previous process is of another network")
			if u, err := w.status(lab.Uplink); err != nil || u.State == control.Up || len(u.PREF64) != 0 {
				t.Errorf("%+v, %v", u, err)
			}
		})
	}
	t.Run("a file that is not ours", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, "")
		w.moved = true
		w.wantState(t, lab.Uplink, control.Up)
		if err := w.daemon.Stop(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(w.Dir, "pref64-*"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.Chmod(files[0], 0o666); err != nil {
			t.Fatal(err)
		}
		w.Silence(true)
		w.start(built(t, "tnat64d"), false)
		eventually(t, soon, func() error {
			if log := w.log.String(); !strings.Contains(log, "others than this user and root may write to it") {
				return fmt.Errorf("the file was not refused:\n%s", log)
			}
			return nil
		})
		if u, err := w.status(lab.Uplink); err == nil && len(u.PREF64) != 0 {
			t.Errorf("%+v", u)
		}
		w.Silence(false)
		w.nudge(t)
		w.wantState(t, lab.Uplink, control.Up)
	})
}
