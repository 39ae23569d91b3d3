package tun

import (
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"tnat64d/internal/needs"
)

// needRoot skips the test for ordinary users, or fails it where the privileges
// are supposed to be there.
func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "makes network namespaces and TUN interfaces")
}

// enterNetns moves the test into a network namespace of its own: see [needs.Netns].
// IPv6 is off there, so that no interface talks unasked.
func enterNetns(t *testing.T) *netlink.Handle {
	t.Helper()
	needs.Netns(t)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	h, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// openUp opens a device in the namespace of the test, gives it the address
// 192.0.2.1/24 and sets it up.
func openUp(t *testing.T, h *netlink.Handle, queues int) *Device {
	t.Helper()
	d, err := Open("clat0", queues)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	link, err := h.LinkByName(d.Name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(netip.MustParsePrefix("192.0.2.1/24").String())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	return d
}
