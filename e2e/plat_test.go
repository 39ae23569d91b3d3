package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// platSoon is how long the judgement of a PLAT may take: 10 s of silence,
// looked at every 4 s, and 3 s in which nobody answers. A server that
// retransmits to the laptop breaks the silence, less and less often.
// Where it is known to answer, the daemon looks once a minute.
const platSoon = 3 * time.Minute

// busy asks the server something all the time, as programs do that get no
// answer.
func (w *world) busy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			answered(w.Laptop, "", 200*time.Millisecond)
			time.Sleep(100 * time.Millisecond)
		}
	}()
}

// TestPLATSilent has a PLAT that takes packets and never answers. Where the
// network knows another PREF64 that is used instead; where it does not, the
// state is said.
func TestPLATSilent(t *testing.T) {
	t.Parallel()
	t.Run("of two", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lab.Options{
			MorePREF64: []netip.Prefix{anotherPREF64}, DeadPREF64: []netip.Prefix{lab.WellKnownPrefix},
		}, "")
		begun := time.Now()
		if u, err := w.status(lab.Uplink); err != nil || u.PREF64[0].Prefix != lab.WellKnownPrefix {
			t.Fatalf("%+v, %v", u, err)
		}
		w.busy(t)
		var u control.Uplink
		eventually(t, platSoon, func() (err error) {
			if u, err = w.status(lab.Uplink); err == nil && (u.CLAT == nil || u.CLAT.PLAT.State != control.PLATAnswering) {
				err = fmt.Errorf("%+v of %+v", u.CLAT, u.PREF64)
			}
			return err
		})
		t.Logf("the other PLAT answers after %v", time.Since(begun).Round(100*time.Millisecond))
		if first, last := u.PREF64[0], u.PREF64[len(u.PREF64)-1]; first.Prefix != anotherPREF64 || !first.InUse ||
			last.Prefix != lab.WellKnownPrefix || !last.Doubted {
			t.Errorf("known are %+v", u.PREF64)
		}
		wants(t, w.book.String(), "the PLAT does not answer", "trying another")
		w.firstAnswer(t, "", soon)
	})
	t.Run("the only one", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, "")
		flow := w.connection(t, "", netip.Addr{})
		if err := w.PLATDead(true); err != nil {
			t.Fatal(err)
		}
		w.busy(t)
		begun := time.Now()
		judged := func(want control.PLATState) control.PLAT {
			var u control.Uplink
			eventually(t, platSoon, func() (err error) {
				if u, err = w.status(lab.Uplink); err == nil && (u.CLAT == nil || u.CLAT.PLAT.State != want) {
					err = fmt.Errorf("not %s: %s %+v", want, u.State, u.CLAT)
				}
				return err
			})
			return u.CLAT.PLAT
		}
		p := judged(control.PLATSilent)
		t.Logf("silent after %v: %s", time.Since(begun).Round(100*time.Millisecond), p.Why)
		if p.Why == "" {
			t.Error("no reason is given")
		}
		eventually(t, soon, func() error {
			if log := w.book.String(); !strings.Contains(log, "the PLAT does not answer") || !strings.Contains(log, "no other PREF64 is known") {
				return fmt.Errorf("the log says nothing of it:\n%s", log)
			}
			return nil
		})
		if u, err := w.status(lab.Uplink); err != nil || u.State != control.Up {
			t.Errorf("%s is %s, %v", u.Name, u.State, err)
		}
		if err := w.PLATDead(false); err != nil {
			t.Fatal(err)
		}
		begun = time.Now()
		w.firstAnswer(t, "", soon)
		judged(control.PLATAnswering)
		t.Logf("answers again after %v", time.Since(begun).Round(100*time.Millisecond))
		wantAlive(t, "across the silence", flow)
	})
}
