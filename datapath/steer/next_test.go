package steer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/siit"
	tundev "tnat64d/tun"
)

// nextLab is a lab with a next address, both engines, and servers on the router that
// note who sends.
type nextLab struct {
	*lab
	s          *Steering
	main, next netip.Addr
	udp        *net.UDPConn // of the router
	tcp        net.Listener
}

func newNextLab(t *testing.T, attach Attach, kernel bool, store Store) *nextLab {
	t.Helper()
	l := &nextLab{lab: newLab(t), main: neutralConfig.Mapping.CLAT.IPv6, next: neutralPair(siit.WellKnownPrefix(), "2001:db8:2::464:0").IPv6}
	l.router.addr(t, "rt0", "2001:db8:2::1/64")
	var d *tundev.Device
	l.laptop.do(t, func() (err error) { d, err = tundev.Open("clat1", 2); return err })
	t.Cleanup(func() { d.Close() })
	l.tun = &tun{name: "clat1", index: d.Index}
	l.laptop.do(t, func() error { return l.laptop.nl.LinkSetIP6AddrGenMode(l.laptop.link(t, "clat1"), 1) })
	l.laptop.up(t, "clat1")
	l.ipv4On(t, "clat1", neutralConfig, 1480)
	l.laptop.clatAddr(t, l.uplink, l.next, unix.IFA_F_NODAD)
	both := []netip.Prefix{netip.PrefixFrom(l.main, 128), netip.PrefixFrom(l.next, 128)}
	l.laptop.do(t, func() (err error) {
		l.s, err = New(Config{
			Uplink: l.laptop.index(t, l.uplink), TUN: d.Index, Ours: both, Attach: attach, Queues: 2, KernelEngine: kernel,
			Token: testToken, Guarded: Guarded{IPv4: []netip.Addr{clat4}, IPv6: both}, Store: store,
		})
		return err
	})
	t.Cleanup(func() { l.s.Close() })
	l.userSpace(t, d, l.s, neutralConfig)
	if kernel {
		if err := l.s.SetTranslation(translationOf(neutralConfig)); err != nil {
			t.Fatal(err)
		}
	}
	l.udp = l.router.socket(t, "udp6", netip.AddrPortFrom(plat6, 0))
	l.router.do(t, func() (err error) {
		l.tcp, err = net.Listen("tcp6", netip.AddrPortFrom(plat6, 0).String())
		return err
	})
	t.Cleanup(func() { l.tcp.Close() })
	return l
}

func port(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }

// dial opens a connection of a program on the laptop to a server behind PREF64.
func (l *nextLab) dial(t *testing.T, network string, port uint16) net.Conn {
	t.Helper()
	var c net.Conn
	l.laptop.do(t, func() (err error) {
		c, err = net.DialTimeout(network, netip.AddrPortFrom(plat4, port).String(), patience)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// connect is dial by TCP, and returns the server's end too.
func (l *nextLab) connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	client = l.dial(t, "tcp4", port(l.tcp.Addr()))
	server, err := l.tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// datagrams sends datagrams of several sizes, of which the large ones travel in
// fragments, and wants each to come from an address, and its answer to arrive.
func (l *nextLab) datagrams(t *testing.T, who string, c *net.UDPConn, to *net.UDPAddr, from netip.Addr) {
	t.Helper()
	b := make([]byte, 5000)
	for _, size := range []int{10, 1300, 4000, 20} {
		c.SetDeadline(time.Now().Add(patience))
		var err error
		if to == nil {
			_, err = c.Write(b[:size])
		} else {
			_, err = c.WriteToUDP(b[:size], to)
		}
		if err != nil {
			t.Fatalf("%s, %d bytes: %v", who, size, err)
		}
		l.udp.SetDeadline(time.Now().Add(patience))
		n, remote, err := l.udp.ReadFromUDPAddrPort(b)
		if err != nil || n != size {
			t.Fatalf("%s, %d bytes: %d arrive, %v", who, size, n, err)
		}
		if remote.Addr() != from {
			t.Errorf("%s, %d bytes: from %s instead of %s", who, size, remote.Addr(), from)
		}
		if _, err := l.udp.WriteToUDPAddrPort(b[:n], remote); err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		if n, _, err := c.ReadFromUDPAddrPort(b); err != nil || n != size {
			t.Fatalf("%s, answer of %d bytes: %d arrive, %v", who, size, n, err)
		}
	}
}

// talks sends data both ways on a connection, more than one packet.
func talks(t *testing.T, who string, client, server net.Conn) {
	t.Helper()
	for _, c := range [][2]net.Conn{{client, server}, {server, client}} {
		b := make([]byte, 100_000)
		sent := make(chan error, 1)
		go func() {
			_, err := c[0].Write(b)
			sent <- err
		}()
		c[1].SetDeadline(time.Now().Add(patience))
		for got := 0; got < len(b); {
			n, err := c[1].Read(b)
			if err != nil {
				t.Fatalf("%s: %v", who, err)
			}
			got += n
		}
		if err := <-sent; err != nil {
			t.Fatalf("%s: %v", who, err)
		}
	}
}

// refused sends a datagram to a port that nobody has, until the ICMP error arrives.
func refused(c net.Conn) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := c.Write([]byte("?")); errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := c.Read(make([]byte, 10)); errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
	}
	return errors.New("no ICMP error")
}

// Flows that exist keep the main address while there is a next one, which those that
// begin have, in both directions, with their fragments and ICMP errors. When the next
// address ends all have the main one.
func TestNextAddress(t *testing.T) {
	for name, attach := range attachments() {
		for _, kernel := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/kernel_engine_%v", name, kernel), func(t *testing.T) {
				l := newNextLab(t, attach, kernel, nil)
				if !strings.HasPrefix(l.s.Attached(), name) {
					t.Errorf("attached by %q", l.s.Attached())
				}
				oldClient, oldServer := l.connect(t)
				talks(t, "before", oldClient, oldServer)
				server := netip.AddrPortFrom(plat6, port(l.udp.LocalAddr()))
				server4 := &net.UDPAddr{IP: plat4.AsSlice(), Port: int(server.Port())}
				connected := l.dial(t, "udp4", server.Port()).(*net.UDPConn)
				unconnected := l.laptop.socket(t, "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
				l.datagrams(t, "before", connected, nil, l.main)

				began := []Flow{
					{unix.IPPROTO_TCP, port(oldClient.LocalAddr()), netip.AddrPortFrom(plat6, port(l.tcp.Addr()))},
					{unix.IPPROTO_UDP, port(connected.LocalAddr()), server},
					{unix.IPPROTO_UDP, port(unconnected.LocalAddr()), netip.AddrPort{}},
				}
				to := Next{Main: l.main, Addr: l.next}
				var between *net.UDPConn // begins before the list is complete
				err := l.s.SetNext(to, func() []Flow {
					between = l.dial(t, "udp4", server.Port()).(*net.UDPConn)
					l.datagrams(t, "between", between, nil, l.main)
					return began
				})
				if err != nil {
					t.Fatal(err)
				}
				talks(t, "old connection", oldClient, oldServer)
				l.datagrams(t, "old connected socket", connected, nil, l.main)
				l.datagrams(t, "old socket", unconnected, server4, l.main)
				l.datagrams(t, "socket that began meanwhile", between, nil, l.main)

				client, far := l.connect(t)
				if from := netip.MustParseAddrPort(far.RemoteAddr().String()).Addr(); from != l.next {
					t.Errorf("new connection from %s", from)
				}
				talks(t, "new connection", client, far)
				fresh := l.dial(t, "udp4", server.Port()).(*net.UDPConn)
				l.datagrams(t, "new socket", fresh, nil, l.next)
				for _, f := range began {
					if !l.s.KeepsMain(f) {
						t.Errorf("%v does not keep the main address", f)
					}
				}
				if l.s.KeepsMain(Flow{unix.IPPROTO_UDP, port(fresh.LocalAddr()), server}) {
					t.Error("a new flow keeps the main address")
				}

				// ICMP errors in, and out.
				const closed = 9
				if err := refused(l.dial(t, "udp4", closed)); err != nil {
					t.Errorf("ICMP error to a new flow: %v", err)
				}
				stray := l.laptop.socket(t, "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
				gone := port(stray.LocalAddr())
				stray.Close()
				var c net.Conn
				l.router.do(t, func() (err error) {
					c, err = net.DialUDP("udp6", &net.UDPAddr{IP: plat6.AsSlice()}, &net.UDPAddr{IP: l.next.AsSlice(), Port: int(gone)})
					return err
				})
				defer c.Close()
				if err := refused(c); err != nil {
					t.Errorf("ICMP error from a port of the laptop: %v", err)
				}
				l.echoes(t, l.next)
				l.fragmentedEcho(t, l.next)

				// With a router of its own that does not exist nothing new gets out.
				to.Router = netip.MustParseAddr("fe80::bad")
				if err := l.s.SetNext(to, nil); err != nil {
					t.Fatal(err)
				}
				fresh.SetDeadline(time.Now().Add(300 * time.Millisecond))
				fresh.Write([]byte("lost"))
				if _, err := fresh.Read(make([]byte, 10)); err == nil {
					t.Error("an answer although the router does not exist")
				}
				l.datagrams(t, "old socket", unconnected, server4, l.main)

				if err := l.s.SetNext(Next{}, nil); err != nil {
					t.Fatal(err)
				}
				l.datagrams(t, "afterwards", fresh, nil, l.main)
				talks(t, "afterwards", oldClient, oldServer)
				if c := counters(t, l.s); c.Dropped != [NumDrops]uint64{} {
					t.Errorf("dropped: %+v", c)
				}
			})
		}
	}
}

// echoes pings the router, which must see the request come from an address, and wants
// the answer.
func (l *nextLab) echoes(t *testing.T, from netip.Addr) {
	t.Helper()
	l.wire = l.router.wire(t, "rt0")
	var c net.PacketConn
	l.laptop.do(t, func() (err error) { c, err = net.ListenPacket("ip4:icmp", clat4.String()); return err })
	defer c.Close()
	m := []byte{8, 0, 0, 0, 0x64, 0x64, 0, 1, 1, 2, 3, 4}
	binary.BigEndian.PutUint16(m[2:], ^foldWords(m))
	if _, err := c.WriteTo(m, &net.IPAddr{IP: plat4.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	f, ok := l.wire.next(t, patience, func(f frame) bool { return isICMPv6(f.ip(), typeEchoRequest) })
	if !ok || source(f.ip()) != from {
		t.Errorf("echo request: seen %v, from %v", ok, f)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := c.ReadFrom(make([]byte, 100)); err != nil {
		t.Errorf("echo reply: %v", err)
	}
}

// fragmentedEcho pings the router with a message that travels in fragments, all of
// which must come from one address.
func (l *nextLab) fragmentedEcho(t *testing.T, from netip.Addr) {
	t.Helper()
	l.wire = l.router.wire(t, "rt0")
	var c net.PacketConn
	l.laptop.do(t, func() (err error) { c, err = net.ListenPacket("ip4:icmp", clat4.String()); return err })
	defer c.Close()
	m := make([]byte, 3000)
	m[0], m[4], m[7] = 8, 0x65, 2
	binary.BigEndian.PutUint16(m[2:], ^foldWords(m))
	if _, err := c.WriteTo(m, &net.IPAddr{IP: plat4.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		f, ok := l.wire.next(t, patience, func(f frame) bool {
			return isIPv6(f.ip()) && f.ip()[6] == protoFragment && destination(f.ip()) == plat6
		})
		if !ok || source(f.ip()) != from {
			t.Errorf("fragment %d: seen %v, from %v", n, ok, f)
		}
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if n, _, err := c.ReadFrom(make([]byte, 4000)); err != nil || n != len(m) {
		t.Errorf("echo reply: %d bytes, %v", n, err)
	}
}

// The table of flows that keep the main address has its limit, beyond which all flows
// keep that address.
func TestNextAddressTooManyFlows(t *testing.T) {
	l := newNextLab(t, Auto, true, nil)
	err := l.s.SetNext(Next{Main: l.main, Addr: l.next}, func() []Flow { return make([]Flow, MaxBegan+1) })
	if !errors.Is(err, ErrTooManyFlows) {
		t.Errorf("error %v", err)
	}
	l.datagrams(t, "new socket", l.dial(t, "udp4", port(l.udp.LocalAddr())).(*net.UDPConn), nil, l.main)
}

// restart returns the Steering of the next process, which inherits what the store has
// and attaches nothing yet.
func (l *nextLab) restart(t *testing.T, store *fakeStore) (s *Steering) {
	t.Helper()
	l.laptop.do(t, func() (err error) {
		s, err = New(Config{
			Uplink: l.laptop.index(t, l.uplink), TUN: l.tun.index, Queues: 2, KernelEngine: true,
			Ours:  []netip.Prefix{netip.PrefixFrom(l.main, 128), netip.PrefixFrom(l.next, 128)},
			Token: testToken, Store: store, Inherited: store.inherited(),
		})
		return err
	})
	t.Cleanup(func() { s.Close() })
	return s
}

// The next process goes on with the table of flows that keep the main address.
func TestNextAddressInherited(t *testing.T) {
	if _, there := attachments()["tcx"]; !there {
		t.Skip("the kernel has no tcx")
	}
	store := &fakeStore{t, map[string]int{}}
	l := newNextLab(t, TCX, true, store)
	fresh := l.dial(t, "udp4", port(l.udp.LocalAddr())).(*net.UDPConn)
	old := Flow{unix.IPPROTO_UDP, 7, netip.AddrPortFrom(plat6, 7)}
	to := Next{Main: l.main, Addr: l.next}
	if err := l.s.SetNext(to, func() []Flow { return []Flow{old} }); err != nil {
		t.Fatal(err)
	}
	second := l.restart(t, store)
	err := second.SetNext(to, func() []Flow {
		t.Error("asked for flows once more")
		return nil
	})
	if err := errors.Join(err, second.SetTranslation(translationOf(neutralConfig)), second.Attach()); err != nil {
		t.Fatal(err)
	}
	l.datagrams(t, "after the restart", fresh, nil, l.next)
	if !second.KeepsMain(old) {
		t.Error("the flow that keeps the main address is forgotten")
	}
	if err := second.SetNext(Next{}, nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range store.names() {
		if strings.Contains(n, beganFlows) {
			t.Errorf("the store keeps %s", n)
		}
	}
}

// The table of flows that keep the main address is of no use to a process that begins
// without next address: its own flows are not in it.
func TestNextAddressInheritedTooLate(t *testing.T) {
	if _, there := attachments()["tcx"]; !there {
		t.Skip("the kernel has no tcx")
	}
	store := &fakeStore{t, map[string]int{}}
	l := newNextLab(t, TCX, true, store)
	to := Next{Main: l.main, Addr: l.next}
	if err := l.s.SetNext(to, func() []Flow { return nil }); err != nil {
		t.Fatal(err)
	}
	second := l.restart(t, store)
	if err := errors.Join(second.SetTranslation(translationOf(neutralConfig)), second.Attach()); err != nil {
		t.Fatal(err)
	}
	for _, n := range store.names() {
		if strings.Contains(n, beganFlows) {
			t.Errorf("the store keeps %s", n)
		}
	}
	c := l.dial(t, "udp4", port(l.udp.LocalAddr())).(*net.UDPConn)
	l.datagrams(t, "before there is a next address", c, nil, l.main)
	asked := false
	err := second.SetNext(to, func() []Flow {
		asked = true
		return []Flow{{unix.IPPROTO_UDP, port(c.LocalAddr()), netip.AddrPortFrom(plat6, port(l.udp.LocalAddr()))}}
	})
	if err != nil || !asked {
		t.Errorf("asked for the flows that have begun: %v, %v", asked, err)
	}
	l.datagrams(t, "once there is one", c, nil, l.main)
}
