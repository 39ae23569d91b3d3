package clat

import (
	"net/netip"
	"time"
)

// Observed is what the host looks like at one moment, as far as Plan and the
// Reconciler care. Package pref64 and the Reconciler add what the kernel does
// not know.
type Observed struct {
	Links  []Link
	Addrs  []Addr
	Routes []Route // default routes only, every table but local

	// PREF64 lists what is known for each link, best first.
	PREF64 []PREF64

	Memory Memory

	// Forwarding is nil as long as Memory.NoSteering is empty.
	Forwarding *ForwardingState
}

// Memory is what a running CLAT remembers from one observation to the next.
type Memory struct {
	// Own are the CLAT IPv6 addresses that we have put on an uplink.
	Own []netip.Addr
	// Refused are addresses for which DAD found another owner.
	Refused []netip.Addr
	// IPv4 is the CLAT IPv4 address in use, which is kept while it is free.
	IPv4 netip.Addr
	// NoSteering says why steering was refused; empty: it was not.
	NoSteering string
	// Changes are the sysctls that we have changed.
	Changes []Change
}

// Link is a network interface.
type Link struct {
	Index      int
	Name       string
	Kind       string // rtnetlink kind: "tun", "wireguard", "bridge"; empty for hardware
	Alias      string
	Up         bool // administratively up
	Loopback   bool
	BridgePort bool
	MTU        int  // of the device
	MTU6       MTU6 // net.ipv6.conf.LINK.mtu, which follows the RA's MTU option; 0 if not known
	RPFilter   int  // effective net.ipv4.conf rp_filter: 0 off, 1 strict, 2 loose
}

// Forever is the lifetime of an address that does not expire.
const Forever time.Duration = 1<<63 - 1

// Addr is an address of a link.
type Addr struct {
	Link       int // interface index
	Prefix     netip.Prefix
	Temporary  bool // RFC 8981 privacy address
	Deprecated bool
	Tentative  bool          // DAD is not over
	DADFailed  bool          // DAD found another owner
	NoRoute    bool          // IFA_F_NOPREFIXROUTE
	Valid      time.Duration // remaining, or Forever
	Preferred  time.Duration
	Protocol   uint8 // IFA_PROTO, 0 where the kernel has none
}

// Route is a default route. A multipath route is one Route per next hop.
type Route struct {
	Link     int // interface index
	IPv6     bool
	Gateway  netip.Addr // may be invalid: point-to-point links need none
	Source   netip.Addr // preferred source, may be invalid
	Metric   int
	MTU      int // 0: none given
	Table    int
	Protocol int
}

// TableMain is the number of the main routing table.
const TableMain = 254

// PREF64 is one NAT64 prefix known for a link.
type PREF64 struct {
	Link   int // interface index
	Prefix netip.Prefix
	Source string // from whom, for people: "static", "router fe80::1 on wlan0"
}

func (o Observed) linkByName(name string) (Link, bool) {
	for _, l := range o.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

func (o Observed) linkByIndex(index int) (Link, bool) {
	for _, l := range o.Links {
		if l.Index == index {
			return l, true
		}
	}
	return Link{}, false
}

func (o Observed) linkName(index int) string {
	l, _ := o.linkByIndex(index)
	return l.Name
}

// addr returns the entry of address a on a link.
func (o Observed) addr(link int, a netip.Addr) (Addr, bool) {
	for _, e := range o.Addrs {
		if e.Link == link && e.Prefix.Addr() == a {
			return e, true
		}
	}
	return Addr{}, false
}

// nativeIPv4 reports whether the link has an IPv4 default route, with or
// without a gateway, in any table (standards.md C-15, C-16).
func (o Observed) nativeIPv4(link int) bool {
	for _, r := range o.Routes {
		if !r.IPv6 && r.Link == link {
			return true
		}
	}
	return false
}
