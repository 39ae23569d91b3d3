package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// timeline records when the laptop's kernel reports changes of addresses and
// routes.
type timeline struct {
	mu sync.Mutex
	at map[string]time.Time // of the latest change of each kind
}

// kinds of changes that a timeline records.
const (
	nativeIPv4Gone  = "the uplink's IPv4 address is removed, and its routes with it"
	clatRouteAdded  = "the CLAT's IPv4 default route is added"
	ownAddressValid = "an address of the host has passed DAD"
)

// followKernel records what the laptop's kernel reports until the test ends.
func (w *world) followKernel(t *testing.T) *timeline {
	t.Helper()
	l := &timeline{at: map[string]time.Time{}}
	routes, addrs, done := make(chan netlink.RouteUpdate, 100), make(chan netlink.AddrUpdate, 100), make(chan struct{})
	err := w.Laptop.Do(func() error {
		return errors.Join(netlink.RouteSubscribe(routes, done), netlink.AddrSubscribe(addrs, done))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	uplink, err := w.Laptop.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for r := range routes {
			if r.Family != netlink.FAMILY_V4 || r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.Table != unix.RT_TABLE_MAIN {
				continue
			}
			if r.Type == unix.RTM_NEWROUTE && r.LinkIndex != uplink.Attrs().Index {
				l.note(clatRouteAdded)
			}
		}
	}()
	go func() {
		for a := range addrs {
			ip, _ := netip.AddrFromSlice(a.LinkAddress.IP)
			ones, _ := a.LinkAddress.Mask.Size()
			switch on := a.LinkIndex == uplink.Attrs().Index; {
			case on && ip.Unmap().Is4() && !a.NewAddr:
				l.note(nativeIPv4Gone)
			case on && ip.Is6() && ip.IsGlobalUnicast() && ones == 64 && a.NewAddr && a.Flags&unix.IFA_F_TENTATIVE == 0:
				l.noteFirst(ownAddressValid)
			}
		}
	}()
	return l
}

func (l *timeline) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at[what] = time.Now()
}

// noteFirst is note for what may be reported again.
func (l *timeline) noteFirst(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.at[what]; !ok {
		l.at[what] = time.Now()
	}
}

// forget forgets what was recorded.
func (l *timeline) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.at)
}

// between waits until both changes are recorded, and returns the time from the
// first to the second.
func (l *timeline) between(t *testing.T, first, second string) time.Duration {
	t.Helper()
	var d time.Duration
	eventually(t, startTimeout, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, what := range []string{first, second} {
			if l.at[what].IsZero() {
				return fmt.Errorf("not yet: %s", what)
			}
		}
		d = l.at[second].Sub(l.at[first])
		return nil
	})
	return d.Round(time.Millisecond)
}

// TestNativeIPv4Gap measures how long the laptop has no IPv4 default route after
// its native IPv4 has gone, by the kernel's notifications.
func TestNativeIPv4Gap(t *testing.T) {
	measures(t)
	eachSteering(t, func(t *testing.T, config string) {
		w := newWorld(t, lab.Options{}, config)
		w.nativeMayLeave(w.Network)
		kernel := w.followKernel(t)
		wantShort(t, "the CLAT's default route after native IPv4", func() time.Duration {
			if err := w.SetNativeIPv4(true); err != nil {
				t.Fatal(err)
			}
			w.wantStandbyAddress(t)
			kernel.forget()
			if err := w.SetNativeIPv4(false); err != nil {
				t.Fatal(err)
			}
			gap := kernel.between(t, nativeIPv4Gone, clatRouteAdded)
			w.wantState(t, lab.Uplink, control.Up)
			w.firstAnswer(t, "", soon)
			return gap
		})
	})
}

// measures skips a test that measures times, which an otherwise busy machine would
// fail.
func measures(t *testing.T) {
	t.Helper()
	if os.Getenv("TNAT64_LONG") == "" {
		t.Skip("measures: TNAT64_LONG=1 runs it")
	}
}

// wantShort measures a gap five times. The shortest must be below 0.3 s.
func wantShort(t *testing.T, what string, measure func() time.Duration) {
	t.Helper()
	shortest := time.Hour
	for range 5 {
		gap := measure()
		t.Logf("%s: %v", what, gap)
		shortest = min(shortest, gap)
	}
	if shortest > 300*time.Millisecond {
		t.Errorf("%s: %v at best", what, shortest)
	}
}

// wantStandbyAddress waits until the uplink has an address for a CLAT in standby
// that is past DAD.
func (w *world) wantStandbyAddress(t *testing.T) netip.Addr {
	t.Helper()
	var a netip.Addr
	eventually(t, startTimeout, func() error {
		u := w.wantState(t, lab.Uplink, control.Standby)
		if u.StandbyIPv6 == nil {
			return errors.New("no address waits for the CLAT")
		}
		if a = *u.StandbyIPv6; w.tentative(t, a) {
			return fmt.Errorf("%s is in DAD", a)
		}
		return nil
	})
	return a
}

// TestRoamGap measures by the kernel's notifications how long after the host's own
// address on another network the CLAT has its default route. The host and the CLAT
// are in DAD at the same time, and the CLAT's address is never the source of native
// IPv6.
func TestRoamGap(t *testing.T) {
	measures(t)
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	cafe, err := w.AddNetwork(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kernel := w.followKernel(t)
	at, next, n := w.Network, cafe, 0
	wantShort(t, "the CLAT's default route after the host's own address", func() time.Duration {
		// Nobody has been in this prefix before.
		n++
		if err := next.Renumber(netip.MustParsePrefix(fmt.Sprintf("2001:db8:77:%d::/64", n))); err != nil {
			t.Fatal(err)
		}
		kernel.forget()
		if _, err := w.Roam(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		sources := w.followSources(t) // until then the link had no carrier
		at, next = next, at
		gap := kernel.between(t, ownAddressValid, clatRouteAdded)
		w.wantState(t, lab.Uplink, control.Up)
		w.firstAnswer(t, "", soon)
		wantNoCLATSource(t, sources())
		return gap
	})
}

// TestStartsChooseNoCLATSource asks for the source of native IPv6 during 20 starts
// in which the host's own address is in DAD.
func TestStartsChooseNoCLATSource(t *testing.T) {
	measures(t)
	w := newWorld(t, lab.Options{}, "")
	w.moved = true
	sources := w.followSources(t)
	for n := range 20 {
		if err := w.daemon.Stop(); err != nil {
			t.Fatal(err)
		}
		w.laptop(t, "sh", "-c", "ip -6 addr flush dev "+lab.Uplink+" scope global")
		advert := w.Advert()
		advert.Prefix = netip.MustParsePrefix(fmt.Sprintf("2001:db8:78:%d::/64", n))
		w.start(built(t, "tnat64d"), false)
		if err := w.SetAdvert(advert); err != nil {
			t.Fatal(err)
		}
		w.wantState(t, lab.Uplink, control.Up)
		if n%5 == 0 {
			w.firstAnswer(t, "", startTimeout)
		}
	}
	wantNoCLATSource(t, sources())
}
