// Package control is the protocol between tnat64ctl and a running tnat64d or
// tnat64-gateway: JSON over HTTP over a Unix socket.
//
//	GET /v1/status   one Status
//	GET /v1/watch    a Status now and after every change, one JSON object per line
//	GET /v1/trace    a Record per packet, one JSON object per line; see Filter
//	POST /v1/nudge   a Nudge: somebody knows that the network has changed
//
// Whoever may open the socket may read the state with status and watch. Only
// root may trace, which shows the packets of all users, and nudge, which may
// name DNS servers; others get status 403.
//
// What is no success has a body {"error":"..."}. Streams have an empty line now
// and then. A request needs a connection of its own; a client that sends no
// request for 5 s, or takes nothing of a stream for a minute, is disconnected.
//
// New fields may appear at any time; readers ignore those they do not know.
package control

import (
	"net/netip"
	"time"
)

// Status is what the daemon knows about itself and its uplinks.
type Status struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Config  string    `json:"config,omitempty"` // file in force; empty: none, all defaults
	Enable  string    `json:"enable"`           // auto, always, never

	// Reason and Why say in a word and in a sentence why there is no uplink; empty
	// if there are some.
	Reason  string   `json:"reason,omitempty"`
	Why     string   `json:"why,omitempty"`
	Uplinks []Uplink `json:"uplinks"` // in order of preference; never null
	// Missing are the configured uplinks (clat.uplinks) that do not exist. The
	// daemon waits for them.
	Missing []string `json:"missing,omitempty"`

	// Gateway is set by tnat64-gateway, which has no uplinks.
	Gateway *Gateway `json:"gateway,omitempty"`

	// Features are what the daemon can do with help of others (D-Bus, BPF, a
	// journal), and why not where it cannot.
	Features []Feature `json:"features,omitempty"`
}

// State says how far the CLAT of an uplink has come.
type State string

const (
	Up       State = "up"       // translating
	Moving   State = "moving"   // translating, while a new address is in DAD
	Starting State = "starting" // in DAD
	Held     State = "held"     // interface and IPv4 address are kept, the network is not there at the moment
	Waiting  State = "waiting"  // something is missing: see Why
	Standby  State = "standby"  // not needed: native IPv4, or another CLAT
	Failed   State = "failed"   // a step failed; tried again
)

// Uplink is one uplink and its CLAT.
type Uplink struct {
	Name     string    `json:"name"`
	Index    int       `json:"index"`
	State    State     `json:"state"`
	Since    time.Time `json:"since"`
	Reason   string    `json:"reason"` // of the state, in a word: see plan.Reason
	Why      string    `json:"why"`    // and in a sentence
	Warnings []string  `json:"warnings,omitempty"`
	// WarningReasons has one word for each of Warnings: see plan.WarningKind.
	WarningReasons []string `json:"warning_reasons,omitempty"`

	// What is known about the network, also without a CLAT.
	PREF64    []PREF64     `json:"pref64,omitempty"` // the one in use first
	Resolvers []netip.Addr `json:"resolvers,omitempty"`
	Discovery string       `json:"discovery,omitempty"` // how PREF64 is looked for at present, in words
	Ignored   []Ignored    `json:"ignored,omitempty"`   // what was heard and not used

	CLAT *CLAT `json:"clat,omitempty"` // while up, moving or held
	// StandbyIPv6 is the address that the uplink has, unused, for the CLAT that
	// will be needed when native IPv4, or the other CLAT, goes; while in standby.
	StandbyIPv6 *netip.Addr `json:"standby_ipv6,omitempty"`

	History []Change `json:"history,omitempty"` // latest last
}

// PREF64 is a NAT64 prefix known for an uplink.
type PREF64 struct {
	Prefix  netip.Prefix `json:"prefix"`
	Source  string       `json:"source"`            // static, ra, dns
	From    *netip.Addr  `json:"from,omitempty"`    // router or resolver
	Expires *time.Time   `json:"expires,omitempty"` // absent: never
	InUse   bool         `json:"in_use"`
	Doubted bool         `json:"doubted,omitempty"` // its PLAT does not answer
	// Remembered says that it was in use before the restart of the daemon, and
	// has not been found again yet.
	Remembered bool `json:"remembered,omitempty"`
}

// Ignored is something that was heard while looking for PREF64 and not used.
type Ignored struct {
	Reason      string        `json:"reason"`
	Explanation string        `json:"explanation"`
	Prefix      *netip.Prefix `json:"prefix,omitempty"`
	From        *netip.Addr   `json:"from,omitempty"`
	Count       uint64        `json:"count"`
	Last        time.Time     `json:"last"`
}

// CLAT is a translator with its addresses and counters.
type CLAT struct {
	TUN  string     `json:"tun"`
	IPv4 netip.Addr `json:"ipv4"`
	IPv6 netip.Addr `json:"ipv6"`
	// Shared says that IPv6 is an address of the host's, which its own connections
	// use as well.
	Shared bool `json:"shared,omitempty"`
	// NextIPv6 is the address that new flows have while the prefix of IPv6 is
	// deprecated.
	NextIPv6 *netip.Addr `json:"next_ipv6,omitempty"`
	// Flows are those on a shared address.
	Flows  *Flows `json:"flows,omitempty"`
	MTU4   int    `json:"mtu4"` // largest IPv4 packet, bytes
	MTU6   int    `json:"mtu6"`
	Metric int    `json:"metric"` // of the IPv4 default route

	Engine    string `json:"engine"`               // kernel (with user space behind it) or user
	EngineWhy string `json:"engine_why,omitempty"` // why not kernel
	Steering  string `json:"steering"`             // tcx, clsact and why, or nftables
	Queues    int    `json:"queues"`
	Offloads  string `json:"offloads"`

	PLAT PLAT `json:"plat"`

	Routes []Route `json:"routes,omitempty"` // of the host inside the PREF64, most specific first; at most 32
	// RoutesFollowed is the number of all of them.
	RoutesFollowed int `json:"routes_followed,omitempty"`

	// Networks are the IPv4 networks with a prefix of their own (clat.route).
	Networks []Network `json:"networks,omitempty"`

	Traffic []Traffic  `json:"traffic"`            // one per direction, engine and protocol that has occurred
	Drops   []Dropped  `json:"drops,omitempty"`    // most frequent first
	Errors  ICMPErrors `json:"errors"`             // ICMP errors in the translator's own name
	IO      IOErrors   `json:"io_errors"`          // packets that the kernel did not take or hand out
	Decline []Dropped  `json:"declined,omitempty"` // left by the kernel engine to user space; not lost
}

// Route is a route of the host to a part of the PREF64, which packets follow
// instead of going to the router of the rest.
type Route struct {
	Prefix  netip.Prefix `json:"prefix"`
	Action  string       `json:"action"`            // gateway, on-link, multipath, unreachable, prohibit, blackhole
	Gateway *netip.Addr  `json:"gateway,omitempty"` // of action gateway
	Link    string       `json:"link,omitempty"`    // absent if no packet leaves by it
	MTU     int          `json:"mtu,omitempty"`     // bytes, of IPv6; absent if no packet leaves by it
}

// Network is an IPv4 network that is not behind the uplink's PREF64.
type Network struct {
	Network netip.Prefix `json:"network"`
	PREF64  string       `json:"pref64"` // or "none": unreachable
}

// PLAT says whether the NAT64 beyond answers, judged by packets that come back.
type PLAT struct {
	State  PLATState `json:"state"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"` // in a word
	Why    string    `json:"why,omitempty"`    // in a sentence
}

// PLATState is what is known about the PLAT.
type PLATState string

const (
	PLATUnknown   PLATState = "unknown" // nothing has been sent yet
	PLATAnswering PLATState = "answering"
	PLATSilent    PLATState = "silent" // packets are sent and no answers arrive
)

// Traffic counts what was translated. A super-packet counts as one; bytes are
// those before translation, with the IP header.
type Traffic struct {
	Direction string `json:"direction"` // 4to6, 6to4
	Engine    string `json:"engine"`    // kernel, user
	Protocol  string `json:"protocol"`  // tcp, udp, icmp, other
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
}

// Flows counts the flows on an address that the CLAT shares with the host.
type Flows struct {
	Tables []FlowTable `json:"tables"`
	// Recovered counts flows that were in no table when an answer came, and belong
	// to an IPv4 socket of this host.
	Recovered uint64 `json:"recovered"`
}

// FlowTable counts the flows of one table.
type FlowTable struct {
	Table string `json:"table"` // established, new (not answered, or closing), host (the host's own)
	Flows int    `json:"flows"`
	// OtherPort counts those whose port on the wire is not that of their socket.
	OtherPort int `json:"other_port"`
	// Evicted counts, since the CLAT began, flows that the full table gave up for newer ones.
	Evicted uint64 `json:"evicted"`
}

// Dropped counts packets with one reason.
type Dropped struct {
	Reason      string `json:"reason"`
	Explanation string `json:"explanation"`
	Packets     uint64 `json:"packets"`
}

// ICMPErrors counts the translator's own: all, those to local programs and
// hosts on the IPv4 side, and those to the IPv6 side.
type ICMPErrors struct {
	Sent    uint64       `json:"sent"`
	Limited uint64       `json:"limited"`
	IPv4    ICMPErrorsTo `json:"ipv4"`
	IPv6    ICMPErrorsTo `json:"ipv6"`
}

// ICMPErrorsTo counts the ICMP errors to one side.
type ICMPErrorsTo struct {
	Sent    uint64 `json:"sent"`
	Limited uint64 `json:"limited"` // not sent: translation.icmp-errors-per-second
}

// IOErrors counts failed reads and writes of the TUN.
type IOErrors struct {
	Read  uint64 `json:"read"`
	Write uint64 `json:"write"`
}

// Feature is something optional.
type Feature struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Why       string `json:"why,omitempty"`
}

// Change is an entry of an uplink's history.
type Change struct {
	Time   time.Time `json:"time"`
	State  State     `json:"state"`
	Reason string    `json:"reason"`
	Why    string    `json:"why"`
}

// Nudge tells the daemon about a change that it cannot see, or not so soon. A
// network manager's hook sends it.
type Nudge struct {
	Interface string `json:"interface,omitempty"` // empty: all
	// Resolvers, if not null, are the interface's own DNS servers until the
	// next nudge for it.
	Resolvers []netip.Addr `json:"resolvers"`
}
