package nat44

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Mode selects how the pool's addresses are translated on the way out.
type Mode uint8

const (
	Masquerade Mode = iota // the address of the interface
	Pool                   // Config.Addresses
	None                   // nothing: the pool is routed
)

// Config is what the rules do.
type Config struct {
	TUN             string
	Inside, Outside []string     // interfaces; without Outside nothing leaves
	Prefix          netip.Prefix // IPv6, of the translator
	Pool            netip.Prefix // IPv4
	Static          []netip.Addr // addresses of the pool that are reached from outside
	Mode            Mode

	Addresses      []Range // of Pool
	PortsPerClient int     // of Pool: a fixed range for each address of the pool (RFC 7422); 0: shared

	ConnectionsPerClient int // 0: no limit
	ConnectionsPer64     int // of all hosts of a /64 together; 0: no limit
	Forwards             []Forward
}

// Range is a range of IPv4 addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// Forward leads a port of an outside address to a host, by its address of the
// pool.
type Forward struct {
	Protocol        uint8 // unix.IPPROTO_TCP or IPPROTO_UDP
	Outside, Inside netip.AddrPort
}

// own returns the gateway's own address of the pool, from which the translator
// sends its ICMP errors.
func (c Config) own() netip.Addr { return c.Pool.Masked().Addr().Next() }

// firstPort is the first that clients get: those below 1024 are the gateway's.
const firstPort = 1024

// maxAddresses bounds the outside addresses: a client has one of them, and the
// kernel keeps a list.
const maxAddresses = 1 << 16

// maxFixed bounds the clients with a range of ports of their own.
const maxFixed = 1 << 17

// Clients returns how many addresses of the pool can be used at once, counted
// from the third, the first that is given; 0: all.
func (c Config) Clients() int {
	if c.Mode != Pool || c.PortsPerClient == 0 {
		return 0
	}
	return min(c.perAddress()*count(c.Addresses), maxFixed)
}

// perAddress returns how many clients share an address.
func (c Config) perAddress() int { return (65536 - firstPort) / c.PortsPerClient }

// count returns how many addresses the ranges have.
func count(ranges []Range) (n int) {
	for _, r := range ranges {
		n += int(number(r.Last)) - int(number(r.First)) + 1
	}
	return n
}

// at returns address i of the ranges, counted from 0. There must be as many.
func at(ranges []Range, i int) netip.Addr {
	for _, r := range ranges {
		n := count([]Range{r})
		if i < n {
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, number(r.First)+uint32(i))))
		}
		i -= n
	}
	return netip.Addr{}
}

// Ports returns the outside address and the ports of an address of the pool with
// PortsPerClient (RFC 7422 section 2.2): they follow from the configuration, so
// that nobody needs a log.
func (c Config) Ports(a netip.Addr) (outside netip.Addr, first, last uint16, ok bool) {
	n := c.Clients()
	if n == 0 || !c.Pool.Contains(a) {
		return netip.Addr{}, 0, 0, false
	}
	i := int(number(a)-number(c.Pool.Masked().Addr())) - 2
	if i < 0 || i >= n {
		return netip.Addr{}, 0, 0, false
	}
	port := firstPort + i%c.perAddress()*c.PortsPerClient
	return at(c.Addresses, i/c.perAddress()), uint16(port), uint16(port + c.PortsPerClient - 1), true
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// check refuses what the rules cannot say.
func (c Config) check() error {
	for _, names := range [][]string{{c.TUN}, c.Inside, c.Outside} {
		for _, n := range names {
			if n == "" || len(n) > 15 {
				return fmt.Errorf("%q is not the name of an interface", n)
			}
		}
	}
	if !c.Pool.IsValid() || !c.Pool.Addr().Is4() {
		return fmt.Errorf("the pool %q is not an IPv4 prefix", c.Pool)
	}
	if c.Prefix.IsValid() && !c.Prefix.Addr().Is6() {
		return fmt.Errorf("the prefix %q is not an IPv6 prefix", c.Prefix)
	}
	for _, r := range c.Addresses {
		if !r.First.Is4() || !r.Last.Is4() || r.Last.Less(r.First) {
			return fmt.Errorf("%s to %s is not a range of IPv4 addresses", r.First, r.Last)
		}
	}
	if n := count(c.Addresses); c.Mode == Pool && (n == 0 || n > maxAddresses) {
		return fmt.Errorf("%d outside addresses are not between 1 and %d", n, maxAddresses)
	}
	if c.Mode == Pool && (c.PortsPerClient < 0 || c.PortsPerClient > 65536-firstPort) {
		return fmt.Errorf("%d ports for each client are not between 0 and %d", c.PortsPerClient, 65536-firstPort)
	}
	for _, a := range c.Static {
		if !c.Pool.Contains(a) {
			return fmt.Errorf("the static address %s is not in the pool %s", a, c.Pool)
		}
		if _, _, _, ok := c.Ports(a); c.Clients() > 0 && !ok {
			return fmt.Errorf("the static address %s is beyond the %d clients that have ports", a, c.Clients())
		}
	}
	return nil
}
