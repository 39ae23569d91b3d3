package plan

import "fmt"

// WarningKind is a circumstance that the user may want to change although the
// CLAT runs. Its String is the one word for it in status.
type WarningKind uint8

const (
	RPFilterStrict     WarningKind = iota // About: the link with the better IPv4 default route
	BesideOtherCLAT                       // About: nothing
	DeadOtherCLAT                         // About: the link that has the address
	ICMPSourceReplaced                    // About: the configured source
	ICMPSourceTaken                       // About: the configured source
	DummySourceTaken                      // About: the link that has the address
	EAMAddrRefused                        // About: the IPv6 address
	EAMAddrOfHost                         // About: the IPv6 address
	EAMAddrsTooMany                       // About: nothing
	EAMNetworkOnLink                      // About: the IPv6 network

	// NumWarningKinds is the number of kinds.
	NumWarningKinds
)

// String returns the kebab-case name, for example "rp-filter-strict".
func (k WarningKind) String() string { return warningKinds[k].name }

// Explanation returns one sentence for people. [Warning] has the particulars.
func (k WarningKind) Explanation() string { return warningKinds[k].explanation }

var warningKinds = [NumWarningKinds]struct{ name, explanation string }{
	RPFilterStrict:     {"rp-filter-strict", "The reverse path filter of IPv4 drops replies that arrive through the CLAT."},
	BesideOtherCLAT:    {"beside-other-clat", "Another program runs a CLAT for the same uplink."},
	DeadOtherCLAT:      {"dead-other-clat", "Another program has left a CLAT on this host that translates nothing."},
	ICMPSourceReplaced: {"icmp-source-replaced", "The configured source of ICMPv4 errors is in use on this host; they come from another address."},
	ICMPSourceTaken:    {"icmp-source-taken", "Every possible source of ICMPv4 errors is an address of this host, so the kernel drops these errors."},
	DummySourceTaken:   {"dummy-source-taken", "This host has 192.0.0.8, the source of errors from routers without an IPv4 address."},
	EAMAddrRefused:     {"eam-address-in-use", "Another host on the uplink has the IPv6 address of an explicit mapping."},
	EAMAddrOfHost:      {"eam-address-of-host", "This host has the IPv6 address of an explicit mapping for another purpose."},
	EAMAddrsTooMany:    {"eam-addresses-too-many", "There are more explicit mappings of addresses on the uplink than the host answers neighbour discovery for."},
	EAMNetworkOnLink:   {"eam-network-on-link", "An explicit mapping of hosts behind this one to the uplink's network works only if the neighbours have a route to this host."},
}

// Warning is a WarningKind with its particulars.
type Warning struct {
	Kind  WarningKind
	About string // address, network or interface, see Kind
	Text  string // one sentence without full stop
}

// Same reports whether w and v are about the same circumstance, whatever they say.
func (w Warning) Same(v Warning) bool { return w.Kind == v.Kind && w.About == v.About }

// String returns the sentence.
func (w Warning) String() string { return w.Text }

// warn returns a Warning about something, which may be nil.
func warn(k WarningKind, about any, format string, args ...any) Warning {
	w := Warning{Kind: k, Text: fmt.Sprintf(format, args...)}
	if about != nil {
		w.About = fmt.Sprint(about)
	}
	return w
}
