package plan

import (
	"net/netip"
	"time"
)

// Observed is what the host looks like at one moment, as far as Make and the
// Reconciler care. Package pref64 and the Reconciler add what the kernel does
// not know.
type Observed struct {
	Links []Link
	Addrs []Addr
	// Routes are default routes only, of every table but local. An IPv6 default
	// route that consists of parts, or that a rule leads to, is here as one of
	// the main table.
	Routes []Route

	// Rules are ours, with what they need in their tables.
	Rules []SourceRule

	// Egress4 has the kernel's answers about global IPv4 destinations.
	Egress4 []Egress
	// DefaultTables4 are the tables in which the kernel finds the default route for
	// packets to global IPv4 destinations that no rule selects by source, mark, user
	// or port.
	DefaultTables4 []int
	// OnLink4 are the IPv4 networks that on-link routes lead to, as far as they
	// contain addresses of 192.0.0.0/29.
	OnLink4 []OnLink

	// PREF64 lists what is known for each link, best first.
	PREF64 []PREF64
	// Advertised has the links on which routers have been heard since they got
	// their carrier.
	Advertised []Advertised

	Memory Memory
}

// Advertised is what routers say of addresses on a link.
type Advertised struct {
	Link    int     // interface index
	Default bool    // a default router has been heard
	SLAAC   []SLAAC // may be none
}

// SLAAC is a prefix in which hosts may form addresses, as one router says
// (RFC 4861 section 4.6.2, autonomous).
type SLAAC struct {
	Prefix    netip.Prefix
	Router    netip.Addr // who says so, without zone
	Default   bool       // who is a default router
	Preferred bool       // new addresses are to be formed in it
}

// Memory is what running CLATs remember from one observation to the next.
type Memory struct {
	// CLATs are those that run or are held, first started first.
	CLATs []Remembered
	// Own are the CLAT IPv6 addresses that we have put on uplinks.
	Own []netip.Addr
	// Left are addresses that served until a moment ago, the last first.
	Left []Left
	// Refused are addresses for which DAD found another owner.
	Refused []Refusal
	// Failed are bring-ups that have failed, while the next attempt waits.
	Failed []Failure
}

// Failure is a bring-up that has failed.
type Failure struct {
	Uplink  Uplink
	Attempt Attempt
	Why     Why
}

// Attempt is what tells bring-ups apart: another one is worth a try at once.
type Attempt struct {
	TUN        string
	IPv4, IPv6 netip.Addr
	PREF64     netip.Prefix
}

// Attempt returns what bringing up c attempts.
func (c CLAT) Attempt() Attempt { return Attempt{c.TUN, c.IPv4, c.IPv6, c.PREF64.Prefix} }

// backOff takes from d what has failed a moment ago. Otherwise the changes that
// every attempt makes would call for the next one at once.
func (m Memory) backOff(d *Desired) {
	for _, f := range m.Failed {
		if d.CLAT != nil && f.Uplink == d.Uplink && f.Attempt == d.CLAT.Attempt() {
			d.CLAT, d.Backoff, d.Why = nil, true, f.Why
		}
	}
}

// Remembered is a CLAT that runs or is held.
type Remembered struct {
	Uplink   Uplink
	TUN      string
	TUNIndex int        // 0: there is none yet
	IPv4     netip.Addr // which it keeps while that is free
	IPv6     netip.Addr // in use; invalid: none
}

// Left is an address that served on a link.
type Left struct {
	Link string // name
	Addr netip.Addr
}

// served lists the addresses that a CLAT on l may go on with: the one that serves,
// and those that served until a moment ago.
func (m Memory) served(l Link) []netip.Addr {
	var as []netip.Addr
	if a := m.CLAT(l.Index).IPv6; a.IsValid() {
		as = append(as, a)
	}
	for _, e := range m.Left {
		if e.Link == l.Name {
			as = append(as, e.Addr)
		}
	}
	return as
}

// Refusal is an address that DAD refused on a link.
type Refusal struct {
	Link int // interface index
	Addr netip.Addr
}

// CLAT returns the CLAT on an uplink; its TUN has no name if there is none.
func (m Memory) CLAT(uplink int) Remembered {
	for _, r := range m.CLATs {
		if r.Uplink.Index == uplink {
			return r
		}
	}
	return Remembered{}
}

// Link is a network interface.
type Link struct {
	Index    int
	Name     string
	AltNames []string // alternative names (IFLA_ALT_IFNAME)
	Kind     string   // rtnetlink kind: "tun", "wireguard", "bridge"; empty for hardware
	Alias    string
	Up       bool // administratively up
	Carrier  bool
	// CarrierChanges counts how often the carrier came or went: it may have
	// done both since the last look.
	CarrierChanges int
	Loopback       bool
	BridgePort     bool
	MTU            int  // of the device
	MTU6           MTU6 // net.ipv6.conf.LINK.mtu, which follows the RA's MTU option; 0 if not known
	// Programs are the names of BPF programs at an uplink's packets that look
	// like another program's CLAT. ProgramsHidden says that there may be more of
	// them, whose names the kernel does not tell.
	Programs       []string
	ProgramsHidden bool
	// DropUnicastToMany is net.ipv6.conf.LINK.drop_unicast_in_l2_multicast, of
	// links with a global IPv6 address or default route.
	DropUnicastToMany bool
	RPFilter          int // effective net.ipv4.conf rp_filter: 0 off, 1 strict, 2 loose
}

// Forever is the lifetime of an address that does not expire.
const Forever time.Duration = 1<<63 - 1

// Addr is an address of a link.
type Addr struct {
	Link       int // interface index
	Prefix     netip.Prefix
	Temporary  bool // RFC 8981 privacy address
	Deprecated bool
	Tentative  bool          // DAD is not over, and the address is not in use yet
	Optimistic bool          // DAD is not over, and the address is in use (RFC 4429)
	DADFailed  bool          // DAD found another owner
	NoRoute    bool          // IFA_F_NOPREFIXROUTE
	Valid      time.Duration // remaining, or Forever
	Preferred  time.Duration
	Protocol   uint8 // IFA_PROTO, 0 where the kernel has none

	// NotLocal: the local routing table has no route for it, so that the kernel
	// neither takes packets for it nor lets a route have it as its source.
	// Known of the IPv4 addresses of our own interfaces only.
	NotLocal bool
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
	LinkDown bool // IPv4: its link has no carrier, and the kernel uses it all the same
}

// OnLink is a network that is reached on a link without a gateway.
type OnLink struct {
	Link   int // interface index
	Prefix netip.Prefix
}

// TableMain is the number of the main routing table.
const TableMain = 254

// PREF64 is one NAT64 prefix known for a link.
type PREF64 struct {
	Link   int // interface index
	Prefix netip.Prefix
	Source string // from whom, for people: "static", "router fe80::1 on wlan0"

	// Routers are those that advertise it, without zone, the one whose word is
	// followed first; none if it is from elsewhere.
	Routers []netip.Addr

	// Excused are prefixes of the host on the link that overlap Prefix and do
	// not count against it, because only others than Routers made the host form
	// addresses in them.
	Excused []netip.Prefix
}

func (o Observed) LinkByName(name string) (Link, bool) {
	for _, l := range o.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

func (o Observed) LinkByIndex(index int) (Link, bool) {
	for _, l := range o.Links {
		if l.Index == index {
			return l, true
		}
	}
	return Link{}, false
}

func (o Observed) LinkName(index int) string {
	l, _ := o.LinkByIndex(index)
	return l.Name
}

// Addr returns the entry of address a on a link.
func (o Observed) Addr(link int, a netip.Addr) (Addr, bool) {
	for _, e := range o.Addrs {
		if e.Link == link && e.Prefix.Addr() == a {
			return e, true
		}
	}
	return Addr{}, false
}

// LooksLikeCLAT is the second look before a journal's word is taken for it:
// nobody else adds a permanent, deprecated /128 without prefix route.
func (a Addr) LooksLikeCLAT() bool {
	return a.Prefix.Addr().Is6() && a.Prefix.Bits() == 128 && a.Deprecated && a.NoRoute && a.Valid == Forever
}
