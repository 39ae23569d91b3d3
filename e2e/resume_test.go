package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
	"tnat64d/internal/needs"
)

// TestSleep carries a sleeping laptop to other networks, or changes the network
// meanwhile. systemd-logind tells of the sleep; the daemon does not run then.
func TestSleep(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		needRoot(t)
		bus := startBus(t)
		logind := bus.service(t, "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", nil)
		w := newWorldOn(t, stage{config: config, how: bus.how})
		w.moved = true
		w.feature(t, "sleep-logind", available)
		cafe, err := w.AddNetwork(lab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		home := w.Network
		// asleep does something while the machine sleeps, and returns when it woke up.
		asleep := func(t *testing.T, f func() error) (woken time.Time) {
			t.Helper()
			say := func(sleeps bool) error {
				return logind.Emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForSleep", sleeps)
			}
			err := say(true)
			time.Sleep(50 * time.Millisecond)
			err = errors.Join(err, w.frozen(f))
			woken = time.Now()
			if err = errors.Join(err, say(false)); err != nil {
				t.Fatal(err)
			}
			return woken
		}
		for _, c := range []struct {
			name     string
			survives bool
			change   func() error
		}{
			// Nobody tells: the RA that does is asked for. First, as an earlier one on
			// its way would do for an answer.
			{"another PREF64", false, func() error {
				home.Silence(true)
				defer home.Silence(false)
				if err := home.MovePLAT(netip.MustParsePrefix("3fff:64:9::/96")); err != nil {
					return err
				}
				a := home.Advert()
				a.PREF64 = []lab.PREF64{{Prefix: netip.MustParsePrefix("3fff:64:9::/96"), Lifetime: 10 * time.Minute}}
				return home.SetAdvert(a)
			}},
			{"the same network", true, func() error { return nil }},
			{"another network", false, func() error {
				_, err := w.Roam(t.Context(), cafe)
				return err
			}},
			{"and back", false, func() error {
				_, err := w.Roam(t.Context(), home)
				return err
			}},
			{"carrier lost and back", true, func() error {
				_, err := w.Flap(t.Context(), 100*time.Millisecond)
				return err
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				flow := w.connection(t, "", netip.Addr{})
				woken := asleep(t, c.change)
				if !c.survives {
					wantEnded(t, "what was connected", flow, woken)
				}
				w.measure(t, c.name+", after waking up", woken)
				if c.survives {
					wantAlive(t, "what was connected", flow)
				}
			})
		}
		if w.book.lines("resumed from suspend") == 0 {
			t.Error("the log does not know of a sleep")
		}
	})
}

// TestSleepWithoutLogind does it without anybody who tells. The clocks of this
// machine cannot be made to tell of a sleep; that one is set is no sleep.
func TestSleepWithoutLogind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	cafe, err := w.AddNetwork(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	flow := w.connection(t, "", netip.Addr{})
	for _, d := range []time.Duration{time.Millisecond, -time.Millisecond} {
		if err := setClock(d); err != nil {
			needs.That(t, false, fmt.Sprintf("to set the clock: %v", err))
		}
		time.Sleep(50 * time.Millisecond)
	}
	wantAlive(t, "what was connected", flow)
	if n := w.book.lines("resumed from suspend"); n > 0 {
		t.Error("a clock that is set is taken for a sleep")
	}
	if err := w.frozen(func() error {
		_, err := w.Roam(t.Context(), cafe)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.measure(t, "another network, after waking up", time.Now())
}

// frozen does something while the daemon does not run, as when the machine
// sleeps.
func (w *world) frozen(f func() error) error {
	if err := syscall.Kill(w.daemon.PID(), syscall.SIGSTOP); err != nil {
		return err
	}
	return errors.Join(f(), syscall.Kill(w.daemon.PID(), syscall.SIGCONT))
}

// setClock sets the clock by d.
func setClock(d time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	to := unix.NsecToTimespec(now.Nano() + int64(d))
	return unix.ClockSettime(unix.CLOCK_REALTIME, &to)
}
