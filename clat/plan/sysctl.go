package plan

import (
	"slices"
	"strings"
)

// Sysctl names net.ipv6.conf.LINK.KEY. LINK may be "all" or "default".
type Sysctl struct {
	Link, Key string
}

// formerKeys are the sysctls that former versions changed.
var formerKeys = []string{"accept_ra", "disable_ipv6", "force_forwarding", "forwarding", "proxy_ndp"}

// String returns the name as sysctl(8) takes it: with slashes for the dots of
// a link's name.
func (s Sysctl) String() string {
	return "net.ipv6.conf." + strings.ReplaceAll(s.Link, ".", "/") + "." + s.Key
}

// Valid rejects names from a journal that lead outside net.ipv6.conf.
func (s Sysctl) Valid() bool {
	return s.Link != "" && s.Link != "." && s.Link != ".." && !strings.Contains(s.Link, "/") && slices.Contains(formerKeys, s.Key)
}

// SysctlChange is a sysctl that a former version changed.
type SysctlChange struct {
	Sysctl
	Was, Is int
}
