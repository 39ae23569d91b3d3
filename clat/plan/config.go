package plan

import (
	"net/netip"

	"tnat64d/siit"
)

// Enable says when a CLAT should run.
type Enable uint8

const (
	// Auto runs a CLAT on an uplink while that has no native IPv4 default
	// route and no other CLAT.
	Auto Enable = iota
	// Always runs a CLAT beside them as well.
	Always
	// Never runs none.
	Never
)

// Config is what Make follows. Zero values mean "choose".
type Config struct {
	Enable  Enable
	Uplinks []string   // names in order of preference; default: see Make
	IPv6    netip.Addr // fixed CLAT IPv6 address, of the first CLAT
	Shared  bool       // every CLAT shares an address of the host's
	IPv4    netip.Addr // fixed CLAT IPv4 address, of the first CLAT; default: first free of 192.0.0.0/29
	MTU     MTU4       // default: from the uplink
	TUN     string     // interface name of the first; default "clat0"; others have the next numbers
	Queues  int        // of each TUN, at least 1
	Metric  int        // of the first IPv4 default route, unless native ones are worse

	// Secret makes the CLAT address unpredictable and yet the same whenever
	// the host returns to a network (RFC 7217).
	Secret []byte

	// Translation is the template of the translator. Make fills in PREF64,
	// the CLAT pair and the MTUs, and keeps the rest.
	Translation siit.Config
}

// DefaultTUN is the name of the TUN interface.
const DefaultTUN = "clat0"

func (c Config) withDefaults() Config {
	if c.TUN == "" {
		c.TUN = DefaultTUN
	}
	if c.Queues < 1 {
		c.Queues = 1
	}
	if !c.Translation.ICMPSource4.IsValid() {
		c.Translation.ICMPSource4 = defaultICMPSource4
	}
	return c
}

// defaultICMPSource4 is siit's default; the CLAT's own address must differ.
var defaultICMPSource4 = netip.AddrFrom4([4]byte{192, 0, 0, 2})
