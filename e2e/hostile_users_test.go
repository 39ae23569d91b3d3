package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// occupy begins a flow from every unprivileged port to a destination, by sockets that
// it closes at once.
var _ = addAct("occupy", func(args []string) (string, error) {
	to := netip.MustParseAddrPort(args[1])
	family, kind := unix.AF_INET6, unix.SOCK_STREAM
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	if args[0] == "udp" {
		kind = unix.SOCK_DGRAM
	}
	at := func(a netip.AddrPort) unix.Sockaddr {
		if family == unix.AF_INET {
			return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
		}
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	any := netip.IPv6Unspecified()
	if family == unix.AF_INET {
		any = netip.IPv4Unspecified()
	}
	for port := 1024; port < 1<<16; port++ {
		fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		if unix.Bind(fd, at(netip.AddrPortFrom(any, uint16(port)))) == nil {
			unix.Connect(fd, at(to))
			unix.Write(fd, []byte{1})
		}
		unix.Close(fd)
	}
	return "", nil
})

// TestHostileSharedOccupied has a local user begin flows from all ports of a shared
// address to one destination, of one family. Other users reach that destination by the
// other family.
func TestHostileSharedOccupied(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		for _, transport := range []string{"udp", "tcp"} {
			for _, family := range []string{"4", "6"} {
				t.Run(transport+family, func(t *testing.T) {
					t.Parallel()
					w := newSharedWorld(t, config, nil)
					to := map[string]string{"4": service(lab.PortEcho), "6": native(lab.PortEcho)}
					other := map[string]string{"4": "6", "6": "4"}[family]
					if _, err := w.asUser(t, "occupy", transport, to[family]); err != nil {
						t.Fatal(err)
					}
					for range 5 {
						eventually(t, time.Minute, func() error { // flows are remembered for longer
							conn, err := connect(w.Laptop, transport+other, to[other], "", netip.Addr{})
							if err != nil {
								return err
							}
							defer conn.Close()
							conn.SetDeadline(time.Now().Add(resend))
							return roundTrip(conn, []byte("another user's"))
						})
					}
				})
			}
		}
	})
}

// TestHostileSharedOccupiedBoth has him do so by both families, and thereby take all
// ports that flows get instead of their own.
func TestHostileSharedOccupiedBoth(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newSharedWorld(t, config, nil)
		for _, to := range []string{native(lab.PortEcho), service(lab.PortEcho)} {
			if _, err := w.asUser(t, "occupy", "udp", to); err != nil {
				t.Fatal(err)
			}
		}
		const tries = 10
		answered := 0
		for range tries {
			conn, err := connect(w.Laptop, "udp4", service(lab.PortEcho), "", netip.Addr{})
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(resend))
			if roundTrip(conn, []byte("another user's")) == nil {
				answered++
			}
			conn.Close()
		}
		if answered < tries-2 { // a busy machine may lose one
			t.Errorf("%d of %d datagrams of another user were answered", answered, tries)
		}
	})
}

// hog uses up what users share, until it is killed: ICMP errors of the translator
// (TTL 1), buffers for fragments, and flows, at some thousand packets a second.
var _ = addAct("hog", func(args []string) (string, error) {
	to := netip.MustParseAddrPort(args[0])
	open := func(ttl int) (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil && ttl > 0 {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl)
		}
		return fd, err
	}
	near, err := open(1)
	if err != nil {
		return "", err
	}
	large := make([]byte, 8000)
	for n := 0; ; n++ {
		far, err := open(0) // another flow
		if err != nil {
			return "", err
		}
		for i := range 5 {
			unix.Sendto(near, large[:10], 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: 1024 + (n*5+i)%60000})
		}
		unix.Sendto(far, large, 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		unix.Close(far)
		time.Sleep(time.Millisecond)
	}
})

// TestHostileUsers has a local user use up what users share. What another one does
// meanwhile works.
func TestHostileUsers(t *testing.T) {
	t.Parallel()
	for name, network := range map[string]lab.Options{"own address": {}, "shared address": dhcpv6Only} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, config string) {
				t.Parallel()
				w := newWorld(t, network, config)
				hog := w.userCommand(t, "hog", service(lab.PortEcho))
				if err := hog.Start(); err != nil {
					t.Fatal(err)
				}
				defer hog.Wait()
				defer hog.Process.Kill()
				eventually(t, stepTimeout, func() error { // the errors are used up
					e, err := w.icmpErrors()
					if err == nil && e.IPv4.Limited == 0 {
						err = fmt.Errorf("ICMP errors: %+v", e)
					}
					return err
				})
				for range 3 {
					w.page(t)
					for _, args := range [][]string{{}, {"-s", "4000"}} {
						eventually(t, stepTimeout, func() error {
							out, err := w.try(t, "ping", append([]string{"-n", "-c", "1", "-W", "3"}, append(args, server)...)...)
							if err != nil {
								err = fmt.Errorf("ping %v: %w\n%s", args, err, out)
							}
							return err
						})
					}
					wants(t, w.laptop(t, "dig", "+tries=5", "+time=5", "@"+server, lab.NameServer), "ANSWER: 1")
				}
			})
		})
	}
}
