package host

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// Flows that have begun are TCP connections, UDP sockets of both families whether
// connected or not, and what is masqueraded; not those from another address.
func TestKernelBegan(t *testing.T) {
	k := enterNetns(t)
	lo := byName(t, k, "lo")
	must(t, k.kernel.handle.LinkSetUp(lo))
	for _, a := range []string{"192.0.0.1/32", "192.0.0.3/32", "203.0.113.1/32"} {
		addAddr(t, k, lo, a, 0)
	}
	clat, other := netip.MustParseAddr("192.0.0.1"), "192.0.0.3:0"
	server, err := net.Listen("tcp4", "203.0.113.1:0")
	must(t, err)
	defer server.Close()
	remote := server.Addr().(*net.TCPAddr).AddrPort()
	port := func(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }
	dial := func(network, local, remote string) uint16 {
		return port(dialFrom(t, network, local, remote).LocalAddr())
	}
	listen := func(network, local string) uint16 {
		c, err := net.ListenPacket(network, local)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return port(c.LocalAddr())
	}
	dns := netip.MustParseAddrPort("203.0.113.1:53")
	want := []plan.Connection{
		{Protocol: unix.IPPROTO_TCP, Port: dial("tcp4", "192.0.0.1:0", remote.String()), Remote: remote},
		{Protocol: unix.IPPROTO_UDP, Port: dial("udp4", "192.0.0.1:0", dns.String()), Remote: dns},
		{Protocol: unix.IPPROTO_UDP, Port: listen("udp4", "192.0.0.1:0")},
		{Protocol: unix.IPPROTO_UDP, Port: listen("udp4", "0.0.0.0:0")},
		{Protocol: unix.IPPROTO_UDP, Port: listen("udp", "[::]:0")},
	}
	dial("tcp4", other, remote.String())
	dial("udp4", other, dns.String())
	listen("udp4", other)
	if _, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_count"); err == nil {
		container, far := net.ParseIP("10.0.3.7").To4(), net.ParseIP("198.51.100.7").To4()
		for _, to := range []string{"192.0.0.1", "192.0.0.3"} {
			err := k.kernel.handle.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
				FamilyType: unix.AF_INET, TimeOut: 100,
				Forward: netlink.IPTuple{SrcIP: container, DstIP: far, SrcPort: 1000, DstPort: 443, Protocol: unix.IPPROTO_UDP},
				Reverse: netlink.IPTuple{SrcIP: far, DstIP: net.ParseIP(to).To4(), SrcPort: 443, DstPort: 2000, Protocol: unix.IPPROTO_UDP},
			})
			if err != nil {
				t.Logf("no connection tracking: %v", err)
				break
			}
			if to == clat.String() {
				want = append(want, plan.Connection{Protocol: unix.IPPROTO_UDP, Port: 2000, Remote: netip.MustParseAddrPort("198.51.100.7:443")})
			}
			container[3]++
		}
	}
	got := k.Began(clat, 100)
	for _, c := range want {
		if !slices.Contains(got, c) {
			t.Errorf("missing: %+v", c)
		}
	}
	if len(got) != len(want) {
		t.Errorf("began %+v, want %+v", got, want)
	}
	if n := len(k.Began(clat, 3)); n != 4 {
		t.Errorf("%d instead of three and one more", n)
	}
}
