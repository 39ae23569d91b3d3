package e2e

import (
	"fmt"
	"testing"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestSharedAddressConflict has the address that the CLAT shares fail DAD when the
// interface comes back: another host has taken it meanwhile. The CLAT does not send from
// it, says why, and comes back when the conflict is over.
func TestSharedAddressConflict(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{network: lab.Options{Kind: lab.Cloud}, config: config, prepare: func(l *lab.Lab) error {
			out, err := l.Laptop.Command(t.Context(), "sh", "-ec", fmt.Sprintf(`
				sysctl -qw net.ipv6.conf.%[1]s.keep_addr_on_down=1
				ip -6 addr del 2001:db8:1::dc6/128 dev %[1]s # it came without DAD
				ip -6 addr add 2001:db8:1::dc6/128 dev %[1]s
				for try in $(seq 300); do ip -6 addr show dev %[1]s tentative | grep -q inet6 || break; sleep 0.1; done`, lab.Uplink)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}})
		w.moved = true
		own := w.clat.IPv6
		w.wantState(t, lab.Uplink, control.Up)
		other := w.neighbour(t)
		claim := func(verb string) {
			t.Helper()
			out, err := other.Command(t.Context(), "ip", "-6", "addr", verb, own.String()+"/128", "dev", lab.NeighbourInterface).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		claim("add")
		w.laptop(t, "ip", "link", "set", lab.Uplink, "down")
		w.wantState(t, lab.Uplink, control.Held)
		w.laptop(t, "sh", "-ec", fmt.Sprintf("ip link set %[1]s up; ip -6 route add default via fe80::1 dev %[1]s proto static", lab.Uplink))
		eventually(t, startTimeout, func() error {
			u, err := w.status(lab.Uplink)
			if err == nil && u.Reason != "host-dad-failed" {
				err = fmt.Errorf("%s is %s: %s (%s)", lab.Uplink, u.State, u.Why, u.Reason)
			}
			return err
		})
		wants(t, w.ctl(t, "status"), "another host on "+lab.Uplink+" has this host's address "+own.String())
		if out, err := w.try(t, "curl", "-sS", "--connect-timeout", "5", url("/")); err == nil {
			t.Errorf("IPv4 works from an address of another host: %s", out)
		}
		claim("del")
		w.laptop(t, "sh", "-ec", fmt.Sprintf("ip -6 addr del %[1]s/128 dev %[2]s; ip -6 addr add %[1]s/128 dev %[2]s", own, lab.Uplink))
		u := w.wantState(t, lab.Uplink, control.Up)
		if !u.CLAT.Shared || u.CLAT.IPv6 != own {
			t.Errorf("the CLAT has %s (shared: %v), want %s", u.CLAT.IPv6, u.CLAT.Shared, own)
		}
		w.firstAnswer(t, "", soon)
		w.page(t)
	})
}

// TestSharedAddressMoves moves the address that the CLAT shares to a bridge, whose
// port the uplink becomes, as somebody does who starts to have guests.
func TestSharedAddressMoves(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorldOn(t, stage{network: lab.Options{Kind: lab.Cloud}, config: config})
		w.moved = true
		own := w.clat.IPv6
		w.wantState(t, lab.Uplink, control.Up)
		w.page(t)
		move := func(commands string) {
			t.Helper()
			w.laptop(t, "sh", "-ec", fmt.Sprintf(commands, own, lab.Uplink))
		}
		follows := func(to string) {
			t.Helper()
			u := w.wantState(t, to, control.Up)
			if !u.CLAT.Shared || u.CLAT.IPv6 != own {
				t.Errorf("the CLAT on %s has %s (shared: %v), want %s", to, u.CLAT.IPv6, u.CLAT.Shared, own)
			}
			w.firstAnswer(t, "", soon)
			w.page(t)
			w.datagrams(t)
		}
		move(`ip -6 addr del %[1]s/128 dev %[2]s
			ip link add br7 type bridge mcast_snooping 0
			ip link set %[2]s master br7
			ip link set br7 up
			ip -6 addr add %[1]s/128 dev br7 nodad
			ip -6 route del default dev %[2]s
			ip -6 route add default via fe80::1 dev br7 proto static`)
		follows("br7")
		move(`ip link del br7
			ip -6 addr add %[1]s/128 dev %[2]s nodad
			ip -6 route add default via fe80::1 dev %[2]s proto static`)
		follows(lab.Uplink)
	})
}

// TestSharedAddressNeedsBPF refuses BPF on a network that gives the laptop one
// address: nftables cannot tell the flows of the CLAT from the host's, so that there
// is no CLAT, and status says why.
func TestSharedAddressNeedsBPF(t *testing.T) {
	t.Parallel()
	needProgram(t, "setpriv")
	w := newWorldOn(t, stage{network: dhcpv6Only, config: refuseBPF, nobody: true})
	eventually(t, startTimeout, func() error {
		u, err := w.status(lab.Uplink)
		if err == nil && u.Reason != "sharing-refused" {
			err = fmt.Errorf("%s is %s: %s (%s)", lab.Uplink, u.State, u.Why, u.Reason)
		}
		return err
	})
	const sentence = "sharing the host's IPv6 address needs BPF"
	wants(t, w.ctl(t, "status"), sentence)
	wants(t, w.book.String(), sentence, "hint=")
	if c, err := w.FindCLAT(); err != nil || c.TUN != "" {
		t.Errorf("there is a CLAT: %+v, %v", c, err)
	}
	own, err := w.LaptopAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the laptop keeps %s for itself", own)
}
