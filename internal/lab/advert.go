package lab

import (
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/ndp"
)

// Advert is what the router's Router Advertisements say (RFC 4861 section
// 4.2). Lifetimes of 0 withdraw.
type Advert struct {
	RouterLifetime time.Duration
	Managed        bool         // addresses by DHCPv6 (M)
	Prefix         netip.Prefix // on-link and autonomous, with these lifetimes
	NotAutonomous  bool         // Prefix has A=0
	Valid          time.Duration
	Preferred      time.Duration
	MorePrefixes   []AdvertPrefix
	PREF64         []PREF64
	MTU            int          // 0: no MTU option
	RDNSS          []netip.Addr // lifetime: RouterLifetime, or 30 minutes if that is 0

	// Source is the source link-layer address option; by default that of the
	// lab's first router.
	Source net.HardwareAddr
}

// AdvertPrefix is one more Prefix Information option, on-link and autonomous.
type AdvertPrefix struct {
	Prefix           netip.Prefix
	Valid, Preferred time.Duration
}

// PREF64 is a PREF64 option (RFC 8781 section 4). The lifetime is sent in
// units of 8 seconds, at most 65528 s.
type PREF64 struct {
	Prefix   netip.Prefix
	Lifetime time.Duration
}

// Encode returns the Router Advertisement as an ICMPv6 message whose checksum
// is left to the kernel; options of any kind may be appended for SendRA.
func (a Advert) Encode() ([]byte, error) {
	ra := &ndp.RouterAdvertisement{CurrentHopLimit: 64, ManagedConfiguration: a.Managed, RouterLifetime: a.RouterLifetime}
	source := a.Source
	if source == nil {
		source = hardwareAddr(0x01)
	}
	ra.Options = append(ra.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: source})
	if a.Prefix.IsValid() {
		ra.Options = append(ra.Options, &ndp.PrefixInformation{
			PrefixLength: uint8(a.Prefix.Bits()), Prefix: a.Prefix.Addr(),
			OnLink: true, AutonomousAddressConfiguration: !a.NotAutonomous,
			ValidLifetime: a.Valid, PreferredLifetime: a.Preferred,
		})
	}
	for _, p := range a.MorePrefixes {
		ra.Options = append(ra.Options, &ndp.PrefixInformation{
			PrefixLength: uint8(p.Prefix.Bits()), Prefix: p.Prefix.Addr(),
			OnLink: true, AutonomousAddressConfiguration: true,
			ValidLifetime: p.Valid, PreferredLifetime: p.Preferred,
		})
	}
	if a.MTU != 0 {
		ra.Options = append(ra.Options, ndp.NewMTU(uint32(a.MTU)))
	}
	if len(a.RDNSS) > 0 {
		lifetime := a.RouterLifetime
		if lifetime == 0 {
			lifetime = 30 * time.Minute
		}
		ra.Options = append(ra.Options, &ndp.RecursiveDNSServer{Lifetime: lifetime, Servers: a.RDNSS})
	}
	for _, p := range a.PREF64 {
		ra.Options = append(ra.Options, &ndp.PREF64{Prefix: p.Prefix, Lifetime: p.Lifetime})
	}
	return ndp.MarshalMessage(ra)
}
