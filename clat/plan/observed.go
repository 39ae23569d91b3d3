package plan

import (
	"net/netip"
	"slices"
	"time"
)

// Observed is the state of the host at one moment, as far as Make and the
// Reconciler need it. Package pref64 adds PREF64 and Advertised, the Reconciler
// adds Memory.
type Observed struct {
	Links []Link
	Addrs []Addr
	// Routes holds the default routes of every table except local, those of IPv4
	// also in parts. An IPv6 default route that is split into several prefixes, or
	// that only a rule reaches, is listed as a route of the main table.
	Routes []Route

	// Rules holds those of our own rules whose tables are complete.
	Rules []SourceRule

	// Egress4 holds the kernel's route lookups for global IPv4 destinations.
	Egress4 []Egress
	// DefaultTables4 holds the tables in which the kernel finds an IPv4 default route
	// or a part of one, for packets that no rule selects by source, mark, user or port,
	// and those in which it would if main had no default route of ours.
	DefaultTables4 []DefaultTable
	// OnLink4 holds the IPv4 networks that routes reach without a router, the largest
	// 256 of all tables and what overlaps 192.0.0.0/29.
	OnLink4 []OnLink
	// Routed4 holds the private IPv4 networks (see [IsPrivate4]) that routes of the
	// main table reach by a router, at most 256. A multipath route is one entry for
	// each next hop.
	Routed4 []OnLink

	// PREF64 holds the known prefixes of each link, the best first.
	PREF64 []PREF64
	// Advertised holds the links that have received a router advertisement since
	// their carrier came up.
	Advertised []Advertised

	Memory Memory
}

// Advertised is what router advertisements say about the addresses of a link.
type Advertised struct {
	Link    int     // interface index
	Default bool    // a default router has advertised itself
	SLAAC   []SLAAC // may be empty
}

// SLAAC is a prefix that one router advertises with the autonomous flag (RFC 4861
// section 4.6.2): hosts may form addresses in it.
type SLAAC struct {
	Prefix    netip.Prefix
	Router    netip.Addr // the sender, without zone
	Default   bool       // the sender is a default router
	Preferred bool       // not deprecated: new addresses are formed in it
}

// Memory is what the Reconciler remembers from one observation to the next.
type Memory struct {
	// CLATs holds the CLATs that run or are held, in the order of their start.
	CLATs []Remembered
	// Own holds the CLAT IPv6 addresses that we have added to uplinks.
	Own []netip.Addr
	// Left holds the addresses that were in use until less than a minute ago, the
	// latest first.
	Left []Left
	// Refused holds the addresses for which DAD found another owner.
	Refused []Refusal
	// Failed holds the failed bring-ups whose next attempt is not due yet.
	Failed []Failure
}

// Failure is a failed bring-up.
type Failure struct {
	Uplink  Uplink
	Attempt Attempt
	Why     Why
}

// Attempt identifies a bring-up. After a failure a different attempt is made at once,
// the same one after backoff.
type Attempt struct {
	TUN        string
	IPv4, IPv6 netip.Addr
	PREF64     netip.Prefix
}

// Attempt returns the identity of c's bring-up.
func (c CLAT) Attempt() Attempt { return Attempt{c.TUN, c.IPv4, c.IPv6, c.PREF64.Prefix} }

// backOff removes the CLAT from d if the same attempt has failed and is in backoff.
// Without it the events that an attempt causes would start the next one at once.
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
	IPv4     netip.Addr // kept while no other link has it
	IPv6     netip.Addr // in use; invalid: none

	// OneAddress says that its packet path cannot use a next address beside IPv6.
	OneAddress bool
}

// Left is a CLAT address that was in use on a link.
type Left struct {
	Link string // name
	Addr netip.Addr
}

// served lists the addresses that a CLAT on l may keep using: the one in use, then
// those of Left.
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

// CLAT returns the CLAT on the uplink with that interface index, or the zero value
// if it has none.
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
	// CarrierChanges counts the changes of Carrier: it may have gone and come back
	// between two observations.
	CarrierChanges int
	Loopback       bool
	BridgePort     bool
	MTU            int  // of the device
	MTU6           MTU6 // net.ipv6.conf.LINK.mtu, which follows the RA's MTU option; 0 if unknown
	// SuperPacket is the length of the longest super-packet that may arrive, in
	// bytes: the larger one of gso_max_size and gro_max_size; 0 if unknown.
	SuperPacket int
	// Programs holds the names of BPF programs attached to an uplink that look
	// like another program's CLAT. ProgramsHidden says that there may be more,
	// whose names the kernel does not reveal.
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
	Tentative  bool          // in DAD, and not usable yet
	Optimistic bool          // in DAD, and already usable (RFC 4429)
	DADFailed  bool          // DAD found another owner
	NoRoute    bool          // IFA_F_NOPREFIXROUTE
	Valid      time.Duration // remaining, or Forever
	Preferred  time.Duration
	Protocol   uint8 // IFA_PROTO, 0 where the kernel has none

	// NotLocal reports that the local routing table has no route for the address:
	// the kernel neither accepts packets to it nor accepts it as a route's source.
	// It is set only for IPv4 addresses of our own interfaces.
	NotLocal bool
}

// Route is a default route or a part of one. A multipath route is one Route per
// next hop.
type Route struct {
	Link     int // interface index
	IPv6     bool
	Part     netip.Prefix // IPv4: see [IsPart]; invalid: it is a whole default route
	Gateway  netip.Addr   // invalid: none, as on point-to-point links
	Source   netip.Addr   // preferred source; invalid: none
	Metric   int
	MTU      int // bytes; 0: none given
	Table    int
	Protocol int
	LinkDown bool // IPv4: its link has no carrier, but the kernel still uses it
}

// DefaultTable is a routing table in which the kernel finds an IPv4 default route.
type DefaultTable struct {
	Table int
	Rule  int // priority of the first rule that leads there
	// BehindMain says that this rule comes after the one that leads to main.
	BehindMain bool
}

// isDefaultTable reports whether ordinary packets may take a default route of a
// table: main, or one of DefaultTables4.
func (o Observed) isDefaultTable(table int) bool {
	return table == TableMain || slices.ContainsFunc(o.DefaultTables4, func(t DefaultTable) bool { return t.Table == table })
}

// OnLink is a network that is reached over a link, without a gateway but in
// [Observed.Routed4].
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
	Source string // its origin, for people: "static", "router fe80::1 on wlan0"

	// Routers holds the routers that advertise it, without zone, the one that is
	// followed first; empty if it does not come from router advertisements.
	Routers []netip.Addr

	// Excused holds prefixes of the host on the link that overlap Prefix but do not
	// rule it out, because routers outside of Routers advertised all of them.
	Excused []netip.Prefix
}

// LinkByName returns the link with that name.
func (o Observed) LinkByName(name string) (Link, bool) {
	for _, l := range o.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

// LinkByIndex returns the link with that interface index.
func (o Observed) LinkByIndex(index int) (Link, bool) {
	for _, l := range o.Links {
		if l.Index == index {
			return l, true
		}
	}
	return Link{}, false
}

// LinkName returns the name of the link with that interface index, or "".
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

// LooksLikeCLAT reports whether a has the attributes of a CLAT address: nobody else
// adds a permanent, deprecated /128 without prefix route. It confirms an entry of the
// journal before the address is removed.
func (a Addr) LooksLikeCLAT() bool {
	return a.Prefix.Addr().Is6() && a.Prefix.Bits() == 128 && a.Deprecated && a.NoRoute && a.Valid == Forever
}
