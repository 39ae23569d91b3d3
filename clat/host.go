package clat

import (
	"net/netip"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// Host is what the Reconciler changes on the machine (see package clat/host).
// Removing what is not there is not an error.
type Host interface {
	// AddCLATAddr puts a on a link as an ordinary address /128 without
	// prefix route, deprecated from the start so that no program chooses it
	// as its source. The kernel does DAD unless Detect has.
	AddCLATAddr(link int, a netip.Addr, detected bool) error
	DelCLATAddr(link int, a netip.Addr) error
	// Detect does duplicate address detection of a for a link that does not have it
	// yet, one address at a time. It returns after how long to call it again; 0
	// means that no other host has the address. One that another host has is
	// plan.ErrAddrInUse. EndDetect ends it.
	Detect(link int, name string, a netip.Addr) (wait time.Duration, err error)
	EndDetect(link int)
	// SetTUN gives the TUN its alias, MTU, queue length and IPv4 address,
	// and sets it up.
	SetTUN(t plan.TUNLink) error
	AddRoute(r plan.Route) error
	DelRoute(r plan.Route) error
	// ForeignRoutes lists the routes of other programs through a TUN of ours.
	// They may not be known where finding them is costly and thorough not set.
	ForeignRoutes(link int, thorough bool) (routes []plan.ForeignRoute, known bool)
	// AddForeignRoute adds f through the TUN unless its like is there.
	AddForeignRoute(link int, f plan.ForeignRoute) error
	// AddSourceRule makes r; what is there of it stays, and then removes those for
	// the same packets with another priority.
	AddSourceRule(r plan.SourceRule) error
	// DelSourceRule removes r, whatever its priority.
	DelSourceRule(r plan.SourceRule) error
	// AbortFlows ends those TCP connections and connected UDP sockets of the
	// host's programs with the local address a that which selects, so that they
	// need not wait for what cannot come; nil selects all. The error is
	// errors.ErrUnsupported where the kernel cannot.
	AbortFlows(a netip.Addr, which func(plan.Connection) bool) (flows int, err error)
	// Connected reports whether a program has a TCP connection from the
	// address a. Where the kernel does not tell nobody has.
	Connected(a netip.Addr) bool
	// Connections lists the TCP connections and connected UDP sockets of the
	// host's programs that have the local address a. Where the kernel does not
	// tell there are none.
	Connections(a netip.Addr) []plan.Connection
	// Began lists as well the UDP sockets that are not connected, with the zero
	// Remote, and masqueraded connections: at most limit, and one more if there
	// are more.
	Began(a netip.Addr, limit int) []plan.Connection
	// RouteState returns a generation number that changes whenever the host's
	// routes to dst or a part of it, or what they depend on, may have changed
	// before the last observation.
	RouteState(dst netip.Prefix) uint64
}

// Opener makes the parts of a CLAT that die with the process.
type Opener interface {
	// Open creates a TUN for the CLAT of an uplink. It must not exist yet.
	Open(name string, queues int, uplink plan.Uplink) (Path, error)
	// Prepare makes the next Open for the uplink, and what follows it, fast. It
	// changes nothing on the host. Calling it again with the same arguments does
	// nothing. Unprepare ends that if Open has not been called since.
	Prepare(uplink plan.Uplink, queues int)
	Unprepare(uplink plan.Uplink)
	// Guard keeps packets from leaving by a link from the addresses of CLATs
	// if the translator has not sent them, and IPv4 from coming to them.
	Guard(link int, g Guarded) (Guard, error)
}

// Path is one CLAT's packet path, which begins as a TUN.
type Path interface {
	// Index returns the interface index of the TUN.
	Index() int
	// Steer takes packets for ours away from the uplink to the TUN, and sends
	// what the translator writes to the TUN out of the uplink. It guards the
	// uplink as Guard does. A *SteeringRefused says that this will not succeed
	// later either.
	//
	// With a share it takes the flows of the CLAT from an address of the host as
	// well; begun are those that it must know from the first packet on. Without one
	// SetShared must not be called later.
	Steer(uplink int, ours []netip.Prefix, share Share, begun Begun, g Guarded) (Steering, error)
	// SetMapping translates by c from now on.
	SetMapping(c siit.Config) error
	// Close ends translation and steering and removes the TUN, with its
	// addresses and routes.
	Close() error
}

// Share is an IPv6 address that a CLAT shares with the host. The zero Share is none.
type Share struct {
	Addr   netip.Addr
	PREF64 netip.Prefix // with whom the CLAT talks from there
	IPv4   netip.Addr   // of the CLAT

	Everybody bool // it talks with others too
}

// Next is a second IPv6 address of a CLAT, which flows that begin have, while the
// prefix of the first one is deprecated: see [plan.CLAT]. The zero Next is none.
type Next struct {
	Main, Addr netip.Addr
	Via        netip.Addr // the router for packets from Addr; invalid: the host's routes choose
}

// MaxBegan is how many flows may have begun before there is a next address.
const MaxBegan = 1 << 13

// Begun are the flows on a shared address that began before the steering did, by
// IPv6 addresses: of the CLAT, which may have been restarted, and of the host.
type Begun struct{ CLAT, Host []plan.Connection }

// Guarded are the addresses of the host's CLATs.
type Guarded struct {
	IPv4 []netip.Addr
	IPv6 []netip.Prefix
}

// Guard is in force until Close, unless another program removes it.
type Guard interface {
	// Intact reports whether nobody has.
	Intact() bool
	SetGuarded(Guarded) error
	Close() error
}

// SteeringRefused is the error of a host that refuses steering.
type SteeringRefused struct {
	Why     string // for people
	Err     error
	Sharing bool // of an address, which nothing but BPF can do
}

func (e *SteeringRefused) Error() string { return e.Why }
func (e *SteeringRefused) Unwrap() error { return e.Err }

// Steering is in force until Close, unless another program removes a part of it.
type Steering interface {
	// Intact reports whether nobody has.
	Intact() bool
	SetOurs(ours []netip.Prefix) error
	SetShared(Share) error
	SetGuarded(Guarded) error
	// SetDropUnicastToMany says whether IPv6 unicast in broadcast and multicast
	// frames is dropped, as the host does it on the uplink.
	SetDropUnicastToMany(bool) error
	// Follow keeps packets from src to pref64 on the uplink where the host's
	// routes lead elsewhere (a second link, a VPN), and has them sent to the
	// router via, if that is valid and a default router of the host. Packets to
	// the prefixes of networks go by the host's routes to these, if it has any.
	// It is asked again when those may have changed.
	Follow(src netip.Addr, pref64 netip.Prefix, networks []netip.Prefix, via netip.Addr) error
	// SetNext gives flows that begin from now on the next address. begun lists
	// those that have begun, by IPv6 addresses, and is called while every flow that
	// sends counts as such. Packets from the next address to pref64 go as Follow
	// says. The error is errors.ErrUnsupported where the steering cannot tell flows
	// apart. Called again with the same addresses it follows the
	// routes, and with the zero Next all flows have the main address.
	SetNext(n Next, pref64 netip.Prefix, begun func() []plan.Connection) error
	// KeepsMain reports whether a flow has the main address, by the IPv6 address
	// of its remote.
	KeepsMain(c plan.Connection) bool
	// Suspend ends translation by the kernel engine and drops what the other
	// engine sends, until SetOurs, SetShared and [Path.SetMapping] are called again.
	Suspend() error
	Close() error
}
