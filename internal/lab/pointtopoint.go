package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// PointToPointRouter and PointToPointLaptop are the addresses at the ends of the
// link that [Lab.AddPointToPoint] makes, in its /64.
var (
	PointToPointRouter = netip.MustParseAddr("2001:db8:7::1")
	PointToPointLaptop = netip.MustParseAddr("2001:db8:7::5")
)

// AddPointToPoint connects the laptop with the router of its first network by a
// link without neighbours, as some modems are: a TUN at either end, without
// Ethernet header, ARP and neighbour discovery. Both ends are numbered by hand,
// and the laptop has a default route into it of the given metric. The link lasts
// as long as the lab.
func (l *Lab) AddPointToPoint(ifname string, metric int) (err error) {
	defer wrap(&err, "lab: point-to-point link %s", ifname)
	if err := l.connectRawIP(end{host: l.Laptop, ifname: ifname}, end{host: l.Router, ifname: ifname}); err != nil {
		return err
	}
	hosts := [2]*Host{l.Laptop, l.Router}
	for i, addr := range []netip.Addr{PointToPointLaptop, PointToPointRouter} {
		err = steps(
			func() error { return hosts[i].up(ifname) },
			func() error { return hosts[i].address(ifname, addr, 64) },
		)
		if err != nil {
			return err
		}
	}
	l.Network.mu.Lock()
	l.Network.beyond = append(l.Network.beyond, netip.PrefixFrom(PointToPointRouter, 64).Masked())
	l.Network.mu.Unlock()
	return l.Laptop.change(ifname, "default route into", func(link netlink.Link) error {
		return l.Laptop.Netlink.RouteReplace(&netlink.Route{Dst: ipNet(anyIPv6), LinkIndex: link.Attrs().Index, Priority: metric})
	})
}

// connectRawIP makes a link without link header: a TUN at either end, still down. It
// lasts as long as the lab.
func (l *Lab) connectRawIP(a, b end) error {
	var tun [2]*os.File
	for i, e := range [2]end{a, b} {
		var err error
		if tun[i], err = e.host.openTUN(e.ifname); err != nil {
			return err
		}
		context.AfterFunc(l.life, func() { tun[i].Close() })
	}
	for i := range tun {
		l.running.Go(func() { forwardPackets(tun[i], tun[1-i]) })
	}
	return nil
}

// forwardPackets writes to one TUN what it reads from another, until that is closed.
func forwardPackets(from, to *os.File) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil {
			to.Write(buf[:n]) // what the other end does not take is lost
		}
	}
}

// openTUN makes a TUN of the given name on the host, which stays down. It goes
// when the file is closed.
func (h *Host) openTUN(ifname string) (*os.File, error) {
	var tun *os.File
	err := h.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(ifname)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		tun = os.NewFile(uintptr(fd), ifname)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s:%s: %w", h.Name, ifname, err)
	}
	return tun, nil
}
