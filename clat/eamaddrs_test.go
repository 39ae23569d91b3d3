package clat

import (
	"net/netip"
	"testing"

	"tnat64d/clat/plan"
)

// The addresses come after the CLAT's and go with it; one that another host has
// is given up, and the CLAT stays.
func TestEAMAddrsComeAndGo(t *testing.T) {
	const (
		mapped = "2001:db8:2::e33"
		added  = "ip -6 addr add " + mapped + "/128 dev wlan0 preferred_lft 0 noprefixroute proto 64"
		gone   = "ip -6 addr del " + mapped + "/128 dev wlan0"
	)
	b := newBench(t, wlan+"\nlink 1 lo loopback\naddr lo 192.0.2.33/32\nconfig eam 192.0.2.33/32 "+mapped+"/128\n")
	b.expect(Pending, addFirst)
	b.host.dad(true)
	b.expect(Up, `
		tun open clat0 queues 1
		ip link set clat0 mtu 1500 alias "tnat64d: CLAT on wlan0" up; ip addr add 192.0.0.1/32 dev clat0
		steer wlan0 and clat0 ours [`+first+`/128 `+mapped+`/128]
		engine start on clat0
		`+added+`
		ip route append `+mainRoute)
	b.expect(Up, ``)
	b.host.dad(true)
	b.expect(Up, ``)
	// The host no longer has the IPv4 address.
	b.host.dropAddr(netip.MustParseAddr("192.0.2.33"))
	b.expect(Up, "engine translator\n"+gone)
	// It has it again, and another host has the IPv6 address.
	b.host.o.Addrs = append(b.host.o.Addrs, plan.Addr{Link: 1, Prefix: netip.MustParsePrefix("192.0.2.33/32"), Valid: plan.Forever})
	b.expect(Up, "engine translator\n"+added)
	b.host.dad(false)
	b.expect(Replan, gone)
	b.expect(Up, ``)
}
