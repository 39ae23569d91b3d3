package e2e

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// otherCLAT is another program's CLAT on the laptop: address, default route and
// translator, as NetworkManager 1.58 has them on the uplink (BPF programs) and
// clatd beside it (a TUN, whose carrier is a process that holds it).
type otherCLAT struct {
	up, down string // shell scripts, which leave the translator alone
	start    func(t *testing.T, h *lab.Host) (stop func())
	name     string // in status
	leftover string // of a CLAT whose translator has gone
}

var otherCLATs = map[string]otherCLAT{
	"NetworkManager": {
		up: "ip addr add 192.0.0.5/32 dev " + lab.Uplink + " noprefixroute && " +
			"ip -4 route add default src 192.0.0.5 via inet6 fe80::1 dev " + lab.Uplink + " proto static metric 100 mtu 1472",
		down:  "ip route del default proto static; ip addr del 192.0.0.5/32 dev " + lab.Uplink,
		start: func(t *testing.T, h *lab.Host) func() { return attachNoop(t, h, "nm_clat_egress_eth") },
		name:  "NetworkManager's CLAT is active", leftover: "no BPF program translates",
	},
	"clatd": {
		up: "ip tuntap add dev clat mode tun && ip link set clat addrgenmode none && ip addr add 192.0.0.1 dev clat && ip link set clat up && " +
			"ip route add default dev clat metric 1024 mtu 1260",
		down:  "ip link del clat",
		start: func(t *testing.T, h *lab.Host) func() { return holdTUN(t, h, "clat") },
		name:  "another CLAT is active", leftover: "no process holds it",
	},
}

// attachNoop attaches a BPF program that does nothing to the uplink's egress, and
// returns what detaches it.
func attachNoop(t *testing.T, h *lab.Host, name string) func() {
	t.Helper()
	l, err := h.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name[:15], Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close() // the filter holds it
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(math.MaxUint16, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := h.Netlink.QdiscReplace(qdisc); err != nil {
		t.Fatal(err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Priority: 77, Protocol: unix.ETH_P_ALL},
		Fd:          p.FD(), Name: name, DirectAction: true,
	}
	if err := h.Netlink.FilterReplace(filter); err != nil {
		t.Fatal(err)
	}
	return func() { _ = h.Netlink.FilterDel(filter) } // it is gone when the laptop is
}

// holdTUN attaches this process to a TUN, as its translator, and returns what
// ends that.
func holdTUN(t *testing.T, h *lab.Host, name string) func() {
	t.Helper()
	fd := -1
	err := h.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_TUN)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func() error { // the kernel reports the carrier up to a second later
		l, err := h.Netlink.LinkByName(name)
		if err == nil && l.Attrs().Flags&net.FlagUp != 0 && l.Attrs().Flags&net.FlagRunning == 0 {
			err = fmt.Errorf("%s has no carrier", name)
		}
		return err
	})
	return sync.OnceFunc(func() { unix.Close(fd) })
}

// TestOtherCLAT has another CLAT on the laptop. tnat64d stands aside while that
// works, unless it is told not to, and takes over when its translator dies, even
// where its route and address stay.
func TestOtherCLAT(t *testing.T) {
	t.Parallel()
	for name, other := range otherCLATs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sh := func(w *world, script string) { t.Helper(); w.laptop(t, "sh", "-c", script) }
			stop := func() {}
			t.Cleanup(func() { stop() }) // after the laptop was looked at
			w := newWorldOn(t, stage{nobody: true, prepare: func(l *lab.Lab) error {
				out, err := l.Laptop.Command(t.Context(), "sh", "-c", other.up).CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				stop = other.start(t, l.Laptop)
				return nil
			}})
			w.moved = true
			u := w.wantState(t, lab.Uplink, control.Standby, other.name)
			t.Logf("%s: %s", u.State, u.Why)
			// Its translator dies, and the rest stays.
			stop()
			u = w.wantState(t, lab.Uplink, control.Up)
			if !slices.ContainsFunc(u.Warnings, func(s string) bool { return strings.Contains(s, other.leftover) }) {
				t.Errorf("nothing is said of what is left: %q", u.Warnings)
			}
			w.page(t)
			sh(w, other.down)
			flow := w.connection(t, "", netip.Addr{})
			// It comes again.
			came := time.Now()
			if strings.Contains(other.up, "tuntap") {
				sh(w, other.up)
				stop = other.start(t, w.Laptop)
			} else {
				stop = other.start(t, w.Laptop)
				sh(w, other.up)
			}
			w.wantState(t, lab.Uplink, control.Standby, other.name)
			eventually(t, startTimeout, func() error {
				all, err := w.FindCLATs()
				if i := slices.IndexFunc(all, func(c lab.CLAT) bool { return c.TUN != "clat" }); i >= 0 {
					return fmt.Errorf("%s is still there", all[i].TUN)
				}
				return err
			})
			wantEnded(t, "by the CLAT that stands aside", flow, came)

			w.config = "[clat]\nenable = \"always\"\n"
			if err := w.daemon.Stop(); err != nil {
				t.Fatal(err)
			}
			w.start(built(t, "tnat64d"), true)
			u = w.wantState(t, lab.Uplink, control.Up)
			if len(u.Warnings) == 0 || u.CLAT.IPv4 == netip.MustParseAddr("192.0.0.5") {
				t.Errorf("CLAT %+v, warnings %q", u.CLAT, u.Warnings)
			}
			w.page(t)
		})
	}
}
