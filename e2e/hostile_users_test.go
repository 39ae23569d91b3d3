package e2e

import (
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
