package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"tnat64d/internal/lab"
)

// dhcpv6Only is a network that gives each host one address.
var dhcpv6Only = lab.Options{DHCPv6: true}

// newSharedWorld begins a world whose CLAT shares the address of the laptop.
func newSharedWorld(t *testing.T, config string, prepare func(l *lab.Lab) error) *world {
	t.Helper()
	w := newWorldOn(t, stage{network: dhcpv6Only, config: config, prepare: prepare})
	own, err := w.LaptopAddress()
	if err != nil {
		t.Fatal(err)
	}
	u, err := w.status(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	if !u.CLAT.Shared || u.CLAT.IPv6 != own {
		t.Fatalf("the CLAT has %s (shared: %v), the laptop %s", u.CLAT.IPv6, u.CLAT.Shared, own)
	}
	wants(t, w.ctl(t, "status"), fmt.Sprintf("shares %s with this host", own))
	return w
}

// TestSharedAddress is on a network that gives each host one address, which the
// CLAT shares with the host.
func TestSharedAddress(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		t.Run("page", w.page)
		t.Run("download", func(t *testing.T) { w.download(t, size(64<<20)) })
		t.Run("upload", func(t *testing.T) { w.upload(t, size(32<<20)) })
		t.Run("ping", func(t *testing.T) { w.pings(t, 2) })
		t.Run("ping fragmented", func(t *testing.T) { w.pings(t, 2, "-s", "4000") })
		t.Run("traceroute UDP", func(t *testing.T) { w.traceroute(t) })
		t.Run("traceroute ICMP", func(t *testing.T) { w.traceroute(t, "-I") })
		t.Run("DNS", w.dig)
		t.Run("UDP", w.datagrams)
		t.Run("ESP", w.esp)
		t.Run("port unreachable", w.refused)
	})
}

// native is the IPv6 address behind PREF64 of the server, and a port of it.
func native(port uint16) string {
	return netip.AddrPortFrom(lab.Synthesize(lab.WellKnownPrefix, lab.ServerIPv4), port).String()
}

// dialFrom connects the laptop to an address from a port; 0: any.
func (w *world) dialFrom(network string, port int, to string) (c net.Conn, err error) {
	d := net.Dialer{Timeout: patience}
	if port != 0 {
		d.LocalAddr = &net.TCPAddr{Port: port}
		if network == "udp4" || network == "udp6" {
			d.LocalAddr = &net.UDPAddr{Port: port}
		}
	}
	err = w.Laptop.Do(func() error {
		c, err = d.Dial(network, to)
		return err
	})
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// eachPort runs a test with TCP and with UDP, and with each family first, each time with
// another local port.
func eachPort(t *testing.T, run func(t *testing.T, transport string, order [2]string, port int)) {
	t.Helper()
	port := 20000
	for _, transport := range []string{"tcp", "udp"} {
		for _, order := range [][2]string{{"4", "6"}, {"6", "4"}} {
			port++
			t.Run(transport+" "+order[0]+" before "+order[1], func(t *testing.T) { run(t, transport, order, port) })
		}
	}
}

// dialFamily connects to the echo service of the server from a local port, by its IPv4
// address or by the one behind PREF64, until the test ends.
func (w *world) dialFamily(t *testing.T, transport, family string, port int) net.Conn {
	t.Helper()
	to := service(lab.PortEcho)
	if family == "6" {
		to = native(lab.PortEcho)
	}
	c, err := w.dialFrom(transport+family, port, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSharedSilence has connections of both families with one port, which are silent for
// ten minutes: the one that has another port on the wire keeps that.
func TestSharedSilence(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		for i, order := range [][2]string{{"4", "6"}, {"6", "4"}} {
			var conns [2]net.Conn
			for j, family := range order {
				conns[j] = w.dialFamily(t, "tcp", family, 20001+i)
				for range 2 {
					if err := roundTrip(conns[j], []byte("first")); err != nil {
						t.Fatalf("IPv%s: %v", family, err)
					}
				}
			}
			w.age(t, 10*time.Minute)
			for j, c := range conns {
				if err := roundTrip(c, []byte("after a silence")); err != nil {
					t.Errorf("IPv%s of %v: %v", order[j], order, err)
				}
			}
		}
	})
}

// TestSharedEvictedInPart has an IPv4 flow with another port on the wire of which one of
// two entries is evicted: it gets a new port once, not with each packet.
func TestSharedEvictedInPart(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		const own = 20011
		say := func(c net.Conn) {
			t.Helper()
			if err := roundTrip(c, []byte("again")); err != nil {
				t.Fatal(err)
			}
		}
		say(w.dialFamily(t, "udp", "6", own)) // before the other is connected: it has the port on the wire
		moving := w.dialFamily(t, "udp", "4", own)
		for range 3 {
			say(moving)
		}
		onWire := func(table string) (keys [][3]uint64) {
			var key, value [3]uint64
			for all := w.daemonMap(t, table).Iterate(); all.Next(&key, &value); {
				if key[2]>>8&0xff == 0 && value[1] == own { // enum port_kind of bpf/flow.h
					keys = append(keys, key)
				}
			}
			return keys
		}
		moved := onWire("established_flo")
		if len(moved) != 1 || moved[0][2]>>32 == own {
			t.Fatalf("%#x: not one flow with another port", moved)
		}
		if err := w.daemonMap(t, "established_flo").Delete(moved[0]); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			say(moving)
		}
		if now := append(onWire("established_flo"), onWire("new_flows")...); len(now) != 1 {
			t.Errorf("it has %d ports on the wire: %#x", len(now), now)
		}
	})
}

// age makes all flows on the shared address older.
func (w *world) age(t *testing.T, by time.Duration) {
	t.Helper()
	for _, name := range []string{"established_flo", "new_flows", "host_flows", "moved_flows"} {
		m := w.daemonMap(t, name)
		flows := map[[3]uint64][3]uint64{}
		var key, value [3]uint64
		for all := m.Iterate(); all.Next(&key, &value); {
			value[0] -= uint64(by) // seen
			flows[key] = value
		}
		for key, value := range flows {
			if err := m.Update(key, value, ebpf.UpdateExist); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Fatal(err)
			}
		}
	}
}

// TestSharedPorts has programs use one port for IPv4 and for IPv6 towards the same
// port of the same server: whoever comes second, neither is disturbed.
func TestSharedPorts(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		eachPort(t, func(t *testing.T, transport string, order [2]string, port int) {
			var conns []net.Conn
			for _, family := range order {
				c := w.dialFamily(t, transport, family, port)
				conns = append(conns, c)
				if err := roundTrip(c, []byte("first")); err != nil {
					t.Fatalf("IPv%s: %v", family, err)
				}
			}
			for i := range 3 {
				for j, c := range conns {
					size := []int{20, 1200, 1400}[i]
					if transport == "udp" && i == 2 {
						size = 8192 // in fragments
					}
					if err := roundTrip(c, pattern(size)); err != nil {
						t.Fatalf("IPv%s, round %d: %v", order[j], i, err)
					}
				}
			}
		})
		t.Run("echo", func(t *testing.T) {
			v6 := lab.Synthesize(lab.WellKnownPrefix, lab.ServerIPv4).String()
			for _, to := range []string{server, v6, server, v6} {
				wants(t, w.laptop(t, "ping", "-e", "4711", "-c", "1", "-W", "20", to), "1 received")
			}
		})
		flows, _ := w.flows(t)
		if clat, host := flows["established"].OtherPort+flows["new"].OtherPort, flows["host"].OtherPort; clat < 2 || host < 2 {
			t.Errorf("%d flows of the CLAT and %d of the host have another port on the wire, want 2 or more of each", clat, host)
		}
	})
}

// TestSharedConnections holds 2,000 connections of IPv4 beside 2,000 of IPv6 to the
// same server and port, and uses each of them.
func TestSharedConnections(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		newSharedWorld(t, config, fewPorts).connectionsOfBoth(t)
	})
}

// manyConnections is how many connections of each family are held at once.
const manyConnections = 2000

// fewPorts leaves few ports to the laptop, so that many coincide.
func fewPorts(l *lab.Lab) error {
	return l.Laptop.Sysctl("net.ipv4.ip_local_port_range", fmt.Sprintf("30000\t%d", 30000+2*manyConnections+200))
}

// connectionsOfBoth holds connections of IPv4 beside as many of IPv6 to the same
// server and port, and uses each of them. Ports must be few.
func (w *world) connectionsOfBoth(t *testing.T) {
	const number, dialers = manyConnections, 8
	conns := make([]net.Conn, 2*number)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		errs  []error
	)
	failed := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	for d := range dialers {
		group.Go(func() {
			for i := d; i < len(conns); i += dialers {
				network, to := "tcp4", service(lab.PortEcho)
				if i%2 == 1 {
					network, to = "tcp6", native(lab.PortEcho)
				}
				c, err := w.dialFrom(network, 0, to)
				if err != nil {
					failed(fmt.Errorf("connection %d by %s: %w", i, network, err))
					return
				}
				conns[i] = c
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	both := map[string]int{}
	for i, c := range conns {
		both[strconv.Itoa(c.LocalAddr().(*net.TCPAddr).Port)]++
		group.Go(func() {
			c.SetDeadline(time.Now().Add(patience))
			if err := roundTrip(c, fmt.Appendf(nil, "this is connection %d", i)); err != nil {
				failed(fmt.Errorf("connection %d: %w", i, err))
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	same := 0
	for _, n := range both {
		if n > 1 {
			same++
		}
	}
	t.Logf("%d ports were in use by both", same)
	if same == 0 {
		t.Error("no ports coincided: the test shows nothing")
	}
}

// TestSharedRestart stops or kills tnat64d while connections of both families are
// open, and starts it again. Afterwards their ports are used by the other family
// first: neither is disturbed.
func TestSharedRestart(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		for i, end := range []func() error{
			func() error { return w.daemon.Stop() },
			func() error { w.daemon.Kill(); return nil },
		} {
			port := 21000 + 10*i
			dial := func(network string, port int) net.Conn {
				t.Helper()
				to := service(lab.PortEcho)
				if network == "tcp6" || network == "udp6" {
					to = native(lab.PortEcho)
				}
				c, err := w.dialFrom(network, port, to)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				if err := roundTrip(c, []byte("first")); err != nil {
					t.Fatalf("%s from port %d: %v", network, port, err)
				}
				return c
			}
			networks := []string{"tcp4", "tcp6", "udp4", "udp6"}
			others := []string{"tcp6", "tcp4", "udp6", "udp4"}
			var before []net.Conn
			for j, network := range networks {
				before = append(before, dial(network, port+j))
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			w.start(built(t, "tnat64d"), true)
			for j, network := range others {
				dial(network, port+j)
			}
			for j, c := range before {
				if err := roundTrip(c, []byte("after the restart")); err != nil {
					t.Errorf("%s: %v", networks[j], err)
				}
			}
		}
	})
}
