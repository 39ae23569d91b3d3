package doctor

import (
	"net/netip"
	"slices"
	"time"

	"tnat64d/internal/control"
)

// Findings is what the probes have seen.
type Findings struct {
	Host      Host      `json:"host"`
	Uplink    Uplink    `json:"uplink"`
	Router    Probe     `json:"router_answers"` // an ICMPv6 echo to Uplink.Router
	Addresses Addresses `json:"addresses"`
	RA        RA        `json:"ra"`
	DNS       DNS       `json:"dns"`
	System    []Server  `json:"system_resolvers"` // those that programs ask
	IPv4      IPv4      `json:"ipv4"`
	DHCP      DHCP      `json:"dhcp"`
	Others    []Other   `json:"other_clats"`
	Daemon    Daemon    `json:"tnat64d"`

	// What a target is needed for.
	Target   *Target `json:"target,omitempty"`
	NoTarget string  `json:"no_target,omitempty"` // why there is none, if there was to be one
	Paths    []Path  `json:"paths,omitempty"`     // one per PREF64, in the order of PREF64, and plain IPv4
	Size     Size    `json:"packet_size"`

	Fresh Fresh `json:"fresh_address"`
}

// Host is what the engine needs of the kernel.
type Host struct {
	Kernel string `json:"kernel"` // release, as uname -r says it
	Old    bool   `json:"old"`    // older than the oldest that is supported
	TCX    bool   `json:"tcx"`
	TUN    string `json:"tun,omitempty"` // why /dev/net/tun cannot be used; empty: it can
	// BPF says why programs cannot be loaded; empty: they can, or it is not
	// known because that takes root.
	BPF      string   `json:"bpf,omitempty"`
	BPFKnown bool     `json:"bpf_known"`
	Missing  []string `json:"missing_capabilities,omitempty"` // that no process here can have
}

// Uplink is the link towards the network. Without a Name there is none.
type Uplink struct {
	Name    string     `json:"name"`
	Index   int        `json:"index"`
	Up      bool       `json:"up"` // switched on, and with a carrier
	MTU     int        `json:"mtu"`
	Default bool       `json:"ipv6_default_route"`
	Router  netip.Addr `json:"router,omitzero"` // next hop of that route; invalid on point-to-point links
	IPv6Off bool       `json:"ipv6_off"`
	// Ignores says that nothing on this host takes routes from router
	// advertisements: the kernel is told not to.
	Ignores bool     `json:"ignores_ra"`
	Tunnels []string `json:"tunnels,omitempty"` // names of tunnels with an IPv6 default route
}

// Addresses are the uplink's own global IPv6 addresses, without the CLAT's.
type Addresses struct {
	Usable    []netip.Prefix `json:"usable"`
	Formable  []netip.Prefix `json:"formable"` // /64s that they are in: see Findings.formable
	Tentative []netip.Addr   `json:"tentative,omitempty"`
	Duplicate []netip.Addr   `json:"duplicate,omitempty"` // DAD has failed
}

// RA is what routers advertise on the uplink.
type RA struct {
	// Solicited says that routers were asked and whole messages are seen, which
	// takes root. Otherwise only what the kernel passes on while we listen.
	Solicited bool          `json:"solicited"`
	Error     string        `json:"error,omitempty"` // why there was no listening at all
	Listened  time.Duration `json:"listened_ns"`
	Routers   []Router      `json:"routers"`
	Refused   []Refused     `json:"refused,omitempty"`
}

// Router is one that advertises.
type Router struct {
	Address   netip.Addr     `json:"address"`
	Default   bool           `json:"default"` // router lifetime above 0; false also if not seen
	PREF64    []netip.Prefix `json:"pref64,omitempty"`
	SLAAC     []netip.Prefix `json:"slaac,omitempty"` // prefixes with the autonomous flag
	Resolvers []netip.Addr   `json:"resolvers,omitempty"`
}

// Refused is a PREF64, or what was to be one, that cannot be used.
type Refused struct {
	Prefix netip.Prefix `json:"prefix,omitzero"`
	Why    string       `json:"why"`
}

// DNS is what the link's own resolvers say of ipv4only.arpa.
type DNS struct {
	Servers []Server `json:"servers"`
}

// Server is a DNS resolver and its answer.
type Server struct {
	Address netip.Addr `json:"address"`
	From    string     `json:"from"`             // who told about it, in words
	Via     string     `json:"via,omitempty"`    // interface that the kernel would take towards it
	Tunnel  bool       `json:"tunnel,omitempty"` // Via is one
	Answer  Answer     `json:"answer"`
}

// Answer is a resolver's to the question for the AAAA of ipv4only.arpa.
type Answer struct {
	Kind     AnswerKind     `json:"kind"`
	PREF64   []netip.Prefix `json:"pref64,omitempty"`
	Address  []netip.Addr   `json:"addresses,omitempty"` // if Kind is Elsewhere
	Problems string         `json:"problems,omitempty"`  // if Kind is Silent
}

// AnswerKind says what an Answer means.
type AnswerKind string

const (
	DNS64     AnswerKind = "dns64"     // synthesises
	Negative  AnswerKind = "negative"  // there is no such record: no DNS64
	Elsewhere AnswerKind = "elsewhere" // addresses that contain no well-known one (RFC 7050 section 3)
	Silent    AnswerKind = "silent"    // no answer, or an error
)

// IPv4 is what the host has of it without a translator.
type IPv4 struct {
	Native string `json:"native,omitempty"` // link with an IPv4 default route that is no tunnel and no CLAT
	Tunnel string `json:"tunnel,omitempty"` // tunnel with an IPv4 default route
}

// DHCP is what the host's DHCPv4 client has been told about IPv4 (RFC 8925).
type DHCP struct {
	Option bool   `json:"option_108"` // the network has sent it
	Maybe  bool   `json:"maybe"`      // nobody can tell
	Why    string `json:"why"`        // who says so, or why nobody can tell
}

// Other is a CLAT that is not tnat64d's.
type Other struct {
	Name     string `json:"name"`     // "NetworkManager", "tayga", "another program"
	Evidence string `json:"evidence"` // in words
	Alive    bool   `json:"alive"`    // it has address, route and translator
}

// Daemon is what tnat64d says of itself.
type Daemon struct {
	Running bool            `json:"running"`
	Error   string          `json:"error,omitempty"` // it runs, or seems to, but could not be asked
	Status  *control.Status `json:"status,omitempty"`
	// Interfaces are the TUNs that it has on this host, by uplink. They die with
	// it, and can be seen by those who may not ask it.
	Interfaces map[string]string `json:"interfaces,omitempty"`
}

// Target is an IPv4 host that the user wants to reach.
type Target struct {
	Name    string     `json:"name"` // as the user wrote it
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port,omitempty"` // TCP; 0: only an echo
}

// Probe is one attempt to get an answer.
type Probe struct {
	Tested bool          `json:"tested"`
	OK     bool          `json:"ok"`
	Time   time.Duration `json:"time_ns,omitempty"`
	Why    string        `json:"why,omitempty"` // there was none, or it was not tested
}

func (p Probe) failed() bool { return p.Tested && !p.OK }

// Path is one way to the target.
type Path struct {
	PREF64 netip.Prefix `json:"pref64,omitzero"` // invalid: plain IPv4, as programs use it
	Echo   Probe        `json:"echo"`
	TCP    Probe        `json:"tcp"`
}

func (p Path) tested() bool  { return p.Echo.Tested || p.TCP.Tested }
func (p Path) answers() bool { return p.Echo.OK || p.TCP.OK }
func (p Path) plain() bool   { return !p.PREF64.IsValid() }

// Size is how large IPv6 packets to the target may be. All are bytes of whole
// packets.
type Size struct {
	Tested   bool       `json:"tested"`
	Why      string     `json:"why,omitempty"`
	Link     int        `json:"link"`              // what the uplink can send
	Largest  int        `json:"largest"`           // that was answered; 0: none of the sizes tried
	Told     int        `json:"told,omitempty"`    // the most that a Packet Too Big allowed; 0: there was none
	Reporter netip.Addr `json:"reporter,omitzero"` // whose it was
}

// blackHole: larger packets vanish although nobody says that they are too big.
func (s Size) blackHole() bool {
	if s.Told > 0 {
		return s.Tested && s.Largest < s.Told
	}
	return s.Tested && s.Largest < s.Link
}

// Fresh is how the network treats an address that it has never seen.
type Fresh struct {
	Tested    bool       `json:"tested"`
	Why       string     `json:"why,omitempty"`
	Address   netip.Addr `json:"address,omitzero"`
	Duplicate bool       `json:"duplicate"` // DAD was answered
	// Echoes from the host's own address and from the fresh one.
	OwnRouter, FreshRouter Probe
	OwnTarget, FreshTarget Probe
}

// filtered: what answers to the host's own address does not to the fresh one.
func (f Fresh) filtered() bool {
	return f.Tested && !f.Duplicate &&
		(f.OwnRouter.OK && f.FreshRouter.failed() || f.OwnTarget.OK && f.FreshTarget.failed())
}

// pref64 lists PREF64s in the order advertised, each once.
func (r RA) pref64() []netip.Prefix {
	var ps []netip.Prefix
	for _, router := range r.Routers {
		ps = union(ps, router.PREF64)
	}
	return ps
}

func (r RA) slaac() []netip.Prefix {
	var ps []netip.Prefix
	for _, router := range r.Routers {
		ps = union(ps, router.SLAAC)
	}
	return ps
}

// pref64 lists what the resolvers gave, in order, each once.
func (d DNS) pref64() []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range d.Servers {
		ps = union(ps, s.Answer.PREF64)
	}
	return ps
}

// answered reports whether a resolver gave an answer of that kind.
func (d DNS) answered(kind AnswerKind) (Server, bool) {
	i := slices.IndexFunc(d.Servers, func(s Server) bool { return s.Answer.Kind == kind })
	if i < 0 {
		return Server{}, false
	}
	return d.Servers[i], true
}

// uplink is what tnat64d says of the uplink.
func (d Daemon) uplink(name string) (control.Uplink, bool) {
	if d.Status == nil {
		return control.Uplink{}, false
	}
	i := slices.IndexFunc(d.Status.Uplinks, func(u control.Uplink) bool { return u.Name == name })
	if i < 0 {
		return control.Uplink{}, false
	}
	return d.Status.Uplinks[i], true
}

// translates reports whether tnat64d has a CLAT on the uplink.
func (d Daemon) translates(name string) bool {
	if d.Status == nil {
		return d.Interfaces[name] != ""
	}
	u, ok := d.uplink(name)
	return ok && (u.State == control.Up || u.State == control.Moving)
}

// pref64 lists the prefixes that a CLAT could use, best first.
func (f Findings) pref64() []netip.Prefix {
	return prefixes(f.Uplink.Name, f.Daemon, f.RA, f.DNS)
}

// prefixes lists those that are configured or advertised, and only if there are
// none of these, those from DNS.
func prefixes(uplink string, d Daemon, ra RA, dns DNS) []netip.Prefix {
	var ps []netip.Prefix
	if u, ok := d.uplink(uplink); ok {
		for _, p := range u.PREF64 {
			if p.Source == "static" {
				ps = union(ps, []netip.Prefix{p.Prefix})
			}
		}
	}
	ps = union(ps, ra.pref64())
	if len(ps) == 0 {
		ps = dns.pref64()
	}
	return ps
}

// refuses reports whether p was advertised and must not be used.
func (r RA) refuses(p netip.Prefix) bool {
	return slices.ContainsFunc(r.Refused, func(r Refused) bool { return r.Prefix == p })
}

// formable lists the prefixes in which tnat64d would form an address: what
// routers advertise for it, where all that they say has been heard.
func (f Findings) formable() []netip.Prefix {
	if !f.RA.Solicited || len(f.RA.Routers) == 0 {
		return f.Addresses.Formable
	}
	return slices.DeleteFunc(slices.Clone(f.Addresses.Formable), func(p netip.Prefix) bool { return !slices.Contains(f.RA.slaac(), p) })
}

// through returns the paths that lead through a PREF64 and were tested.
func (f Findings) through() []Path {
	return slices.DeleteFunc(slices.Clone(f.Paths), func(p Path) bool { return p.plain() || !p.tested() })
}

// plain returns the path of ordinary IPv4 programs.
func (f Findings) plain() (Path, bool) {
	for _, p := range f.Paths {
		if p.plain() && p.tested() {
			return p, true
		}
	}
	return Path{}, false
}

func union(a, b []netip.Prefix) []netip.Prefix {
	for _, p := range b {
		if !slices.Contains(a, p) {
			a = append(a, p)
		}
	}
	return a
}
