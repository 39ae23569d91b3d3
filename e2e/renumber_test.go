package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestRenumbering has the router deprecate the prefix of the CLAT address for another
// one. What is connected keeps the address as long as that is valid, and what begins
// has one in the new prefix, where the steering can tell them apart. When the old
// prefix ends, only what has the old address is cut. The lab's PLAT translates each
// IPv6 address to an IPv4 address of its own, which the server sees.
func TestRenumbering(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		both := config != refuseBPF
		w := newWorld(t, lab.Options{}, config)
		w.moved = true
		was, seen := w.clat, w.whoami(t)
		old := w.connection(t, "", netip.Addr{})
		to := netip.MustParsePrefix("2001:db8:101:1::/64")
		if err := w.Renumber(to); err != nil {
			t.Fatal(err)
		}
		if !both {
			host := w.formedAddress(t, to)
			w.wantState(t, lab.Uplink, control.Up)
			if now := w.whoami(t); now != seen {
				t.Errorf("new connections have another address, %s instead of %s, beside the host's %s", now, seen, host)
			}
			wantAlive(t, "what was connected", old)
			return
		}
		next := w.nextAddress(t)
		if !to.Contains(next) {
			t.Errorf("the next address is %s", next)
		}
		if u := w.wantState(t, lab.Uplink, control.Up); u.CLAT.IPv6 != was.IPv6 {
			t.Errorf("the address is %s, and was %s", u.CLAT.IPv6, was.IPv6)
		}
		wantAlive(t, "what was connected", old)
		fresh := w.connection(t, "", netip.Addr{})
		if now := w.whoami(t); now == seen {
			t.Errorf("new connections still have the address %s", seen)
		}
		w.page(t)
		w.pingFragmented(t)
		w.datagrams(t)
		wantAlive(t, "what was connected", old)

		began := time.Now()
		w.endPrefix(t, to)
		wantEnded(t, "what was connected with the old address", old, began)
		eventually(t, startTimeout, func() error {
			u, err := w.status(lab.Uplink)
			if err == nil && (u.CLAT == nil || u.CLAT.IPv6 != next || u.CLAT.NextIPv6 != nil) {
				err = fmt.Errorf("CLAT %+v", u.CLAT)
			}
			return err
		})
		wantAlive(t, "what was connected with the new address", fresh)
		w.page(t)
		if cs := w.wantCLATs(t, 1); cs[0].IPv6 != next {
			t.Errorf("CLAT %+v", cs[0])
		}
	})
}

// nextAddress waits until new connections have another address.
func (w *world) nextAddress(t *testing.T) (next netip.Addr) {
	t.Helper()
	eventually(t, startTimeout, func() error {
		u, err := w.status(lab.Uplink)
		switch {
		case err != nil:
			return err
		case u.CLAT == nil || u.CLAT.NextIPv6 == nil:
			return fmt.Errorf("no next address: %+v", u.CLAT)
		}
		next = *u.CLAT.NextIPv6
		return nil
	})
	return next
}

// formedAddress waits for the laptop's own address in a prefix.
func (w *world) formedAddress(t *testing.T, in netip.Prefix) (a netip.Addr) {
	t.Helper()
	w.formed(t, in)
	addrs, err := w.Laptop.Addresses(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range addrs {
		if in.Contains(p.Addr()) {
			a = p.Addr()
		}
	}
	return a
}

// endPrefix shortens the life of the laptop's addresses in other prefixes than one, so
// that the CLAT has to move.
func (w *world) endPrefix(t *testing.T, stays netip.Prefix) {
	t.Helper()
	uplink, err := w.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := w.Laptop.Addresses(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range addrs {
		if a := p.Addr(); a.Is6() && a.IsGlobalUnicast() && p.Bits() == 64 && !stays.Contains(a) {
			err = errors.Join(err, w.Laptop.Netlink.AddrReplace(uplink, &netlink.Addr{
				IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(64, 128)}, ValidLft: 25, Flags: unix.IFA_F_NODAD,
			}))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
