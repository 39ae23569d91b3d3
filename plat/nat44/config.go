package nat44

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Mode says what becomes of the pool's addresses on the way out.
type Mode uint8

const (
	Masquerade Mode = iota // the address of the interface
	Pool                   // Config.Addresses
	None                   // nothing: the pool is routed
)

// Config is what the rules do.
type Config struct {
	TUN             string
	Inside, Outside []string     // interfaces
	Pool            netip.Prefix // IPv4
	Mode            Mode

	Addresses      []Range // of Pool
	PortsPerClient int     // of Pool: a fixed range for each address of the pool (RFC 7422); 0: shared

	ConnectionsPerClient int // 0: no limit
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

// firstPort is the first that clients get: those below 1024 are the gateway's.
const firstPort = 1024

// Clients returns how many addresses of the pool can be used at once, counted
// from the third, the first that is given; 0: all.
func (c Config) Clients() int {
	if c.Mode != Pool || c.PortsPerClient == 0 {
		return 0
	}
	return c.perAddress() * len(c.addresses())
}

// perAddress returns how many clients share an address.
func (c Config) perAddress() int { return (65536 - firstPort) / c.PortsPerClient }

// addresses lists the outside addresses of Pool.
func (c Config) addresses() (all []netip.Addr) {
	for _, r := range c.Addresses {
		for a := r.First; a.IsValid() && a.Compare(r.Last) <= 0; a = a.Next() {
			all = append(all, a)
		}
	}
	return all
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
	return c.addresses()[i/c.perAddress()], uint16(port), uint16(port + c.PortsPerClient - 1), true
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
	if c.Mode == Pool && len(c.addresses()) == 0 {
		return fmt.Errorf("there are no outside addresses")
	}
	if c.Mode == Pool && (c.PortsPerClient < 0 || c.PortsPerClient > 65536-firstPort) {
		return fmt.Errorf("%d ports for each client are not between 0 and %d", c.PortsPerClient, 65536-firstPort)
	}
	return nil
}
