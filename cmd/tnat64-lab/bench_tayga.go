package main

import (
	"bytes"
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

	"tnat64d/cmd/tnat64-lab/lab"
)

// taygaContestant is Debian's tayga as the laptop's CLAT, set up as its manual
// page and clatd do: IPv6 forwarding on, the CLAT address routed into the TUN
// and answered for by proxy neighbour discovery.
type taygaContestant struct{}

func (taygaContestant) name() string { return "tayga" }

const taygaTUN = "tayga0"

var (
	taygaIPv4 = netip.MustParseAddr("192.0.0.2") // tayga's own, for ICMP
	taygaHost = netip.MustParseAddr("192.0.0.1") // the laptop's
	taygaIPv6 = netip.MustParseAddr("2001:db8:1::7a16:a")
)

func (c taygaContestant) start(ctx context.Context, l *lab.Lab) (netip.Addr, func() error, error) {
	path, err := exec.LookPath("tayga")
	if err != nil {
		return netip.Addr{}, nil, err
	}
	conf := filepath.Join(l.Dir, "tayga.conf")
	text := fmt.Sprintf("tun-device %s\nipv4-addr %s\nprefix %s\nmap %s %s\n", taygaTUN, taygaIPv4, l.PREF64(), taygaHost, taygaIPv6)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return netip.Addr{}, nil, err
	}
	cmd := l.Laptop.Command(context.WithoutCancel(ctx), path, "-d", "-c", conf)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return netip.Addr{}, nil, err
	}
	stop := func() error {
		// The interface goes with the process, and its routes with it.
		killErr := cmd.Process.Kill()
		cmd.Wait()
		return errors.Join(killErr, c.undo(l))
	}
	if err := c.wire(l); err != nil {
		return netip.Addr{}, nil, errors.Join(fmt.Errorf("tayga: %w\n%s", err, output.Bytes()), stop())
	}
	return lab.ServerIPv4, stop, nil
}

// wire configures the laptop for tayga.
func (c taygaContestant) wire(l *lab.Lab) error {
	h := l.Laptop
	for _, s := range [][2]string{
		{"net.ipv6.conf." + lab.Uplink + ".accept_ra", "2"},
		{"net.ipv6.conf.all.forwarding", "1"},
		{"net.ipv6.conf." + lab.Uplink + ".proxy_ndp", "1"},
	} {
		if err := h.Sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	var link netlink.Link
	var err error
	for range 50 { // tayga makes the interface
		if link, err = h.Netlink.LinkByName(taygaTUN); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
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
	// The MTU of the route is what a translator in front of a 1500-byte link needs.
	if err := h.Netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, MTU: uplink.Attrs().MTU - 20, Src: taygaHost.AsSlice(),
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}); err != nil {
		return err
	}
	six := &net.IPNet{IP: taygaIPv6.AsSlice(), Mask: net.CIDRMask(128, 128)}
	if err := h.Netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: six}); err != nil {
		return err
	}
	return h.Netlink.NeighAdd(proxyNeighbour(uplink))
}

// undo takes back what does not go with tayga's interface.
func (c taygaContestant) undo(l *lab.Lab) error {
	h := l.Laptop
	uplink, err := h.Netlink.LinkByName(lab.Uplink)
	if err == nil {
		err = h.Netlink.NeighDel(proxyNeighbour(uplink))
	}
	return errors.Join(err,
		h.Sysctl("net.ipv6.conf."+lab.Uplink+".proxy_ndp", "0"),
		h.Sysctl("net.ipv6.conf.all.forwarding", "0"),
		h.Sysctl("net.ipv6.conf."+lab.Uplink+".accept_ra", "1"))
}

func proxyNeighbour(uplink netlink.Link) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: uplink.Attrs().Index, Family: netlink.FAMILY_V6, Flags: netlink.NTF_PROXY, IP: taygaIPv6.AsSlice()}
}
