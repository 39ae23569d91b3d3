package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestMissingUplink names an uplink that is plugged in after the start, renamed
// and pulled out.
func TestMissingUplink(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, stage{
		network: lab.Options{Second: &lab.Options{}},
		config:  fmt.Sprintf("[clat]\nuplinks = [%q, \"nosuch0\"]\n", lab.Uplink2),
	})
	w.moved = true
	if err := errors.Join(w.daemon.Stop(), unplug(w.Lab, lab.Uplink2)); err != nil {
		t.Fatal(err)
	}
	w.start(built(t, "tnat64d"), false)
	w.wantMissing(t, lab.Uplink2, "nosuch0")
	w.wantUnreachable(t)
	wants(t, w.book.String(), "waiting for a configured uplink", lab.Uplink2)

	if _, err := w.Second.Replug(); err != nil {
		t.Fatal(err)
	}
	w.wantState(t, lab.Uplink2, control.Up)
	w.wantMissing(t, "nosuch0")
	w.firstAnswer(t, "", soon)

	// Another name is another interface, and the old name again is this one.
	flow := w.connection(t, "", netip.Addr{})
	renamed := time.Now()
	w.laptop(t, "sh", "-c", fmt.Sprintf("ip link set %[1]s down && ip link set %[1]s name other7 && ip link set other7 up", lab.Uplink2))
	w.wantMissing(t, lab.Uplink2, "nosuch0")
	wantEnded(t, "on an uplink that has another name", flow, renamed)
	w.laptop(t, "sh", "-c", fmt.Sprintf("ip link set other7 down && ip link set other7 name %[1]s && ip link set %[1]s up", lab.Uplink2))
	w.wantState(t, lab.Uplink2, control.Up)

	if err := unplug(w.Lab, lab.Uplink2); err != nil {
		t.Fatal(err)
	}
	w.wantMissing(t, lab.Uplink2, "nosuch0")
	if _, err := w.Second.Replug(); err != nil {
		t.Fatal(err)
	}
	w.wantState(t, lab.Uplink2, control.Up)
	w.firstAnswer(t, "", soon)
}

func unplug(l *lab.Lab, name string) error {
	link, err := l.Laptop.Netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return l.Laptop.Netlink.LinkDel(link)
}

// wantMissing waits until the daemon says which configured uplinks do not exist.
func (w *world) wantMissing(t *testing.T, names ...string) {
	t.Helper()
	eventually(t, startTimeout, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), stepTimeout)
		defer cancel()
		s, err := w.daemon.Status(ctx)
		if err != nil {
			return err
		}
		if !slices.Equal(s.Missing, names) {
			return fmt.Errorf("missing are %q instead of %q\n%s", s.Missing, names, w.log.String())
		}
		if len(s.Uplinks) == 0 && !strings.Contains(s.Why, names[0]+" does not exist") {
			return fmt.Errorf("there is no CLAT because %q", s.Why)
		}
		return nil
	})
}
