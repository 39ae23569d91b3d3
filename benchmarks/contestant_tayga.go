package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"tnat64d/internal/lab"
)

// tayga is Debian's tayga as the laptop's CLAT, set up as its manual page and
// clatd do: IPv6 forwarding on, the CLAT address routed into the TUN and
// answered for by proxy neighbour discovery.
type tayga struct{}

func (tayga) id() string         { return "tayga" }
func (tayga) title() string      { return "tayga" }
func (tayga) packages() []string { return []string{"tayga"} }
func (tayga) cannot(load) string { return "" }
func (tayga) about() string {
	return "Debian's tayga, one process, set up as its manual page and clatd do (forwarding, proxy neighbour discovery, TUN with the uplink's MTU)"
}

func (tayga) version(ctx context.Context) (string, error) { return packageVersion(ctx, "tayga") }

const taygaTUN = "tayga0"

var (
	taygaIPv4 = netip.MustParseAddr("192.0.0.2") // tayga's own, for ICMP
	taygaHost = netip.MustParseAddr("192.0.0.1") // the laptop's
	taygaIPv6 = netip.MustParseAddr("2001:db8:1::7a16:a")
)

func (c tayga) start(ctx context.Context, l *lab.Lab, s setup) (*service, error) {
	path, err := exec.LookPath("tayga")
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(l.Dir, "tayga.conf")
	text := fmt.Sprintf("tun-device %s\nipv4-addr %s\nprefix %s\nmap %s %s\n", taygaTUN, taygaIPv4, l.PREF64(), taygaHost, taygaIPv6)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	// Made before tayga starts: it reads the MTU then, and a TUN of its own
	// making has 1500.
	if err := c.makeTUN(l.Laptop, s.MTU); err != nil {
		return nil, fmt.Errorf("TUN for tayga: %w", err)
	}
	cmd := l.Laptop.Command(context.WithoutCancel(ctx), path, "-d", "-c", conf)
	service, err := runTayga(cmd, func() error { return c.wire(l.Laptop, s.MTU) }, func() error { return c.undo(l.Laptop) })
	if err != nil {
		return nil, err
	}
	service.target = lab.ServerIPv4
	return service, nil
}

// runTayga starts tayga and wires the host for it. undo takes away, when it has
// ended, what was set up on the host, also where it cannot be started.
func runTayga(cmd *lab.Cmd, wire, undo func() error) (*service, error) {
	output := new(tail)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, undo())
	}
	exited := make(chan struct{})
	var waitErr error
	go func() {
		waitErr = cmd.Wait()
		close(exited)
	}()
	stop := func() error {
		killErr := cmd.Process.Kill()
		<-exited
		err := undo()
		if errors.Is(killErr, os.ErrProcessDone) { // it ended by itself
			err = errors.Join(waitErr, err)
		}
		return err
	}
	if err := wire(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, output), stop())
	}
	select {
	case <-exited: // it is not a daemon that says when it is ready
		return nil, errors.Join(fmt.Errorf("tayga ended at once: %s\n%s", cmd.ProcessState, output), stop())
	case <-time.After(100 * time.Millisecond):
	}
	return &service{pid: cmd.Process.Pid, exited: exited, output: output, stop: stop}, nil
}

func (tayga) makeTUN(h *lab.Host, mtu int) error {
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: taygaTUN}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}
	return h.Do(func() error { // by ioctl on /dev/net/tun, so inside
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		l, err := netlink.LinkByName(taygaTUN)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(l, mtu)
	})
}

// wire configures the laptop for tayga.
func (tayga) wire(h *lab.Host, mtu int) error {
	for _, s := range [][2]string{
		{"net.ipv6.conf." + lab.Uplink + ".accept_ra", "2"},
		{"net.ipv6.conf.all.forwarding", "1"},
		{"net.ipv6.conf." + lab.Uplink + ".proxy_ndp", "1"},
	} {
		if err := h.Sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	link, err := h.Netlink.LinkByName(taygaTUN)
	if err != nil {
		return err
	}
	uplink, err := h.Netlink.LinkByName(lab.Uplink)
	if err != nil {
		return err
	}
	if err := h.Netlink.LinkSetUp(link); err != nil {
		return err
	}
	own := &net.IPNet{IP: taygaHost.AsSlice(), Mask: net.CIDRMask(32, 32)}
	if err := h.Netlink.AddrAdd(link, &netlink.Addr{IPNet: own}); err != nil {
		return err
	}
	// The MTU of the route is what a translator in front of the link needs.
	if err := h.Netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, MTU: mtu - 20, Src: taygaHost.AsSlice(),
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}); err != nil {
		return err
	}
	six := &net.IPNet{IP: taygaIPv6.AsSlice(), Mask: net.CIDRMask(128, 128)}
	if err := h.Netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: six}); err != nil {
		return err
	}
	return h.Netlink.NeighAdd(proxyNeighbour(uplink))
}

// undo takes back what start did, as far as it came.
func (tayga) undo(h *lab.Host) error {
	if link, err := h.Netlink.LinkByName(taygaTUN); err == nil {
		if err := h.Netlink.LinkDel(link); err != nil {
			return err
		}
	}
	if uplink, err := h.Netlink.LinkByName(lab.Uplink); err == nil {
		h.Netlink.NeighDel(proxyNeighbour(uplink)) // it may not have been made
	}
	return errors.Join(
		h.Sysctl("net.ipv6.conf."+lab.Uplink+".proxy_ndp", "0"),
		h.Sysctl("net.ipv6.conf.all.forwarding", "0"),
		h.Sysctl("net.ipv6.conf."+lab.Uplink+".accept_ra", "1"))
}

func proxyNeighbour(uplink netlink.Link) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: uplink.Attrs().Index, Family: netlink.FAMILY_V6, Flags: netlink.NTF_PROXY, IP: taygaIPv6.AsSlice()}
}
