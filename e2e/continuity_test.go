package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestRestartServesDuringDAD restarts tnat64d, after a stop and after a kill, on
// a laptop whose kernel takes minutes for DAD. The CLAT has the address of before,
// which the router still knows, and serves while the kernel calls it tentative;
// connections go on.
func TestRestartServesDuringDAD(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		for _, c := range []struct {
			name string
			end  func(w *world) error
		}{
			{"stop", func(w *world) error { return w.daemon.Stop() }},
			{"kill", func(w *world) error { w.daemon.Kill(); return nil }},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, lab.Options{}, config)
				w.moved = true
				was := w.clat
				flow := w.connection(t, "", netip.Addr{})
				w.page(t)
				// However slow this machine is, the router does not forget.
				w.routerKnows(t, was.IPv6)
				w.dadTransmits(t, 600)
				if err := c.end(w); err != nil {
					t.Fatal(err)
				}
				w.start(built(t, "tnat64d"), true)
				if w.clat.IPv6 != was.IPv6 {
					t.Errorf("CLAT is %+v after the restart, was %+v", w.clat, was)
				}
				wantAlive(t, "the connection of before", flow)
				w.page(t)
				if !w.tentative(t, was.IPv6) {
					t.Error("the address is not in DAD")
				}
				w.dadTransmits(t, 1)
			})
		}
	})
}

// TestPREF64ChangeCutsOnce changes the PREF64 and back on a laptop whose kernel
// takes minutes for DAD: the address stays, and what is connected ends once, when
// the prefix changes.
func TestPREF64ChangeCutsOnce(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		w.moved = true
		w.dadTransmits(t, 600)
		was, home := w.clat, w.PREF64()
		for _, p := range []netip.Prefix{anotherPREF64, home} {
			before := w.connection(t, "", netip.Addr{})
			changed := time.Now()
			if err := w.SetPREF64(p); err != nil {
				t.Fatal(err)
			}
			wantEnded(t, "what was connected", before, changed)
			w.wantPREF64(t, p)
			after := w.connection(t, "", netip.Addr{})
			w.wantState(t, lab.Uplink, control.Up)
			w.page(t)
			wantAlive(t, "what was connected after the change", after)
			if now, err := w.FindCLAT(); err != nil || now.IPv6 != was.IPv6 || w.tentative(t, was.IPv6) {
				t.Errorf("CLAT is %+v, %v, was %+v", now, err, was)
			}
		}
		w.dadTransmits(t, 1)
	})
}

// dadTransmits says of how many probes, one a second, the laptop's DAD consists.
func (w *world) dadTransmits(t *testing.T, probes int) {
	t.Helper()
	if err := w.Laptop.Sysctl("net.ipv6.conf."+lab.Uplink+".dad_transmits", strconv.Itoa(probes)); err != nil {
		t.Fatal(err)
	}
}

// routerKnows makes the router's neighbour entry of a permanent.
func (w *world) routerKnows(t *testing.T, a netip.Addr) {
	t.Helper()
	var link []struct{ Address string }
	if err := json.Unmarshal([]byte(w.laptop(t, "ip", "-j", "link", "show", "dev", lab.Uplink)), &link); err != nil || len(link) != 1 {
		t.Fatalf("address of %s: %v", lab.Uplink, err)
	}
	script := fmt.Sprintf("dev=$(ip -6 -o route get %s | sed 's/.* dev \\([^ ]*\\).*/\\1/'); exec ip neigh replace %s lladdr %s nud permanent dev $dev", a, a, link[0].Address)
	if out, err := w.Router.Command(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("neighbour of the router: %v\n%s", err, out)
	}
}

// tentative reports whether the address is in DAD.
func (w *world) tentative(t *testing.T, a netip.Addr) bool {
	t.Helper()
	return w.laptop(t, "ip", "-6", "-o", "addr", "show", "dev", lab.Uplink, "to", a.String(), "tentative") != ""
}

// TestOptimisticDAD has a kernel that takes minutes for DAD and uses its own
// addresses meanwhile (RFC 4429, net.ipv6.conf.LINK.optimistic_dad). The CLAT does
// the same with its address, at the start and on another network: the host's own
// address, in DAD as well, is the yardstick.
func TestOptimisticDAD(t *testing.T) {
	t.Parallel()
	const conf = "net.ipv6.conf." + lab.Uplink
	w := newWorldOn(t, stage{prepare: func(l *lab.Lab) error {
		return errors.Join(l.Laptop.Sysctl(conf+".optimistic_dad", "1"), l.Laptop.Sysctl(conf+".dad_transmits", "600"))
	}})
	w.moved = true
	cafe, err := w.AddNetwork(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	optimistic := func() {
		t.Helper()
		c := w.wantCLATs(t, 1)[0]
		w.firstAnswer(t, c.TUN, soon)
		if !w.tentative(t, c.IPv6) {
			t.Errorf("%s, the address of the CLAT, is not in DAD", c.IPv6)
		}
	}
	optimistic()
	if _, err := w.Roam(t.Context(), cafe); err != nil {
		t.Fatal(err)
	}
	w.wantState(t, lab.Uplink, control.Up)
	addrs, err := w.Laptop.Addresses(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, p := range addrs {
		if a := p.Addr(); a.IsGlobalUnicast() && p.Bits() == 64 {
			own++
			if !w.tentative(t, a) {
				t.Errorf("%s, an address of the host, is not in DAD", a)
			}
		}
	}
	if own == 0 {
		t.Error("the host has no address of its own")
	}
	optimistic()
}
