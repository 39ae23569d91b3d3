package pref64

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// dialOver returns a dialFunc whose sockets are bound to the interface with
// the given index, so that nothing is asked by another way, whatever the
// routing table says (RFC 8880 section 7.1). It needs no privilege, but Linux
// 5.7. A link-local server is on this link, and IPv4 servers are not asked.
// With ifindex 0 the routing table decides, for servers of both families.
func dialOver(ifindex int) dialFunc {
	if ifindex == 0 {
		d := net.Dialer{KeepAlive: -1}
		return func(ctx context.Context, network string, server netip.Addr) (net.Conn, error) {
			return d.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
		}
	}
	d := net.Dialer{
		KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			cerr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex)
			})
			return errors.Join(cerr, err)
		},
	}
	return func(ctx context.Context, network string, server netip.Addr) (net.Conn, error) {
		if server.IsLinkLocalUnicast() {
			server = server.WithZone(strconv.Itoa(ifindex))
		}
		return d.DialContext(ctx, network+"6", netip.AddrPortFrom(server, 53).String())
	}
}
