package advertise

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/ndp"
)

// Parameters are what advertisements on one link say.
type Parameters struct {
	// Prefixes are announced for address configuration. Empty: the /64s of the
	// link's own addresses.
	Prefixes []netip.Prefix
	// PREF64 are translation prefixes.
	PREF64 []netip.Prefix
	// RDNSS are resolvers. A link-local one has the link as its zone, others
	// none; the unspecified address stands for the link's own addresses.
	RDNSS []netip.Addr
	// MTU in bytes; 0: the link's.
	MTU int
	// Lifetime is that of the default route, PREF64 and resolvers.
	Lifetime time.Duration
}

// State is what a link is at the moment.
type State struct {
	Name      string
	MTU       int
	Hardware  net.HardwareAddr
	Addresses []netip.Prefix // IPv6, with their prefix lengths
	Ending    []netip.Prefix // those of them that are deprecated and expire, as after a renumbering
}

// Lifetimes of prefixes: ND_PREFERRED_LIMIT and ND_VALID_LIMIT of RFC 9096 section
// 4. A network whose prefix changes without notice recovers in that time.
const (
	preferredLifetime = 45 * time.Minute
	validLifetime     = 90 * time.Minute
)

// Bounds of what fits one message in the smallest MTU.
const (
	maxPrefixes = 8
	maxRDNSS    = 8
	minMTU      = 1280
)

// Message builds the advertisement of p on a link. A final one withdraws what
// depends on this router: its lifetimes are 0 (RFC 4861 section 6.2.5, RFC 8781
// section 4.1, RFC 8106 section 5.1). Stale prefixes were advertised before: hosts
// stop using them (RFC 9096 section 3.5).
func Message(p Parameters, s State, final bool, stale ...netip.Prefix) *ndp.RouterAdvertisement {
	lifetime := p.Lifetime
	if final {
		lifetime = 0
	}
	m := &ndp.RouterAdvertisement{CurrentHopLimit: 64, RouterLifetime: lifetime}
	if len(s.Hardware) == 6 {
		m.Options = append(m.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: s.Hardware})
	}
	mtu := p.MTU
	if mtu == 0 {
		mtu = s.MTU
	}
	if mtu >= minMTU {
		m.Options = append(m.Options, ndp.NewMTU(uint32(mtu)))
	}
	// The prefixes are the link's and outlive this router.
	for _, prefix := range p.announced(s) {
		m.Options = append(m.Options, information(prefix, preferredLifetime, validLifetime))
	}
	for _, prefix := range stale {
		m.Options = append(m.Options, information(prefix, 0, 0))
	}
	for _, prefix := range p.PREF64 {
		m.Options = append(m.Options, &ndp.PREF64{Prefix: prefix, Lifetime: scaled(lifetime)})
	}
	if servers := s.resolvers(p.RDNSS); len(servers) > 0 {
		m.Options = append(m.Options, &ndp.RecursiveDNSServer{Lifetime: lifetime, Servers: servers})
	}
	return m
}

// announced returns the prefixes for address configuration.
func (p Parameters) announced(s State) []netip.Prefix {
	all := p.Prefixes
	if len(all) == 0 {
		all = s.prefixes()
	}
	return all[:min(len(all), maxPrefixes)]
}

func information(p netip.Prefix, preferred, valid time.Duration) *ndp.PrefixInformation {
	return &ndp.PrefixInformation{
		PrefixLength: uint8(p.Bits()), OnLink: true, AutonomousAddressConfiguration: true,
		PreferredLifetime: preferred, ValidLifetime: valid, Prefix: p.Addr(),
	}
}

// scaled rounds a lifetime up to the units of 8 seconds that the PREF64 option
// has (RFC 8781 section 4.1).
func scaled(d time.Duration) time.Duration {
	const unit, most = 8 * time.Second, 8191 * 8 * time.Second
	return min((d+unit-1)/unit*unit, most)
}

// prefixes returns the /64s of the link's addresses, in which hosts can make
// addresses of their own. Those of addresses that end are withdrawn: hosts would go on
// to use what soon leads nowhere (RFC 9096 section 3.5).
func (s State) prefixes() (all []netip.Prefix) {
	seen := map[netip.Prefix]bool{}
	for _, a := range s.Addresses {
		p := a.Masked()
		if !slices.Contains(s.Ending, a) && a.Bits() == 64 && a.Addr().IsGlobalUnicast() && !a.Addr().IsLinkLocalUnicast() && !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

// resolvers returns the addresses of configured ones that are meant on this
// link.
func (s State) resolvers(configured []netip.Addr) (all []netip.Addr) {
	for _, a := range configured {
		switch {
		case len(all) == maxRDNSS:
		case a.Is4(), a.IsLoopback(), a.Zone() != "" && a.Zone() != s.Name:
		case a.IsUnspecified():
			if own, ok := s.own(); ok {
				all = append(all, own)
			}
		default:
			all = append(all, a.WithZone(""))
		}
	}
	return all
}

// own returns the address of the link that others use: a global one, or the
// link-local one.
func (s State) own() (own netip.Addr, ok bool) {
	for _, a := range s.Addresses {
		switch {
		case slices.Contains(s.Ending, a):
		case a.Addr().IsLinkLocalUnicast():
			if !ok {
				own, ok = a.Addr().WithZone(""), true
			}
		case a.Addr().IsGlobalUnicast():
			return a.Addr(), true
		}
	}
	return own, ok
}
