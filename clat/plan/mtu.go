package plan

// There are two MTUs, 20 bytes apart, and mixing them up loses packets, so
// each has its type.
//
// MTU6 is the largest IPv6 packet that the uplink takes: the link's MTU,
// lowered by the router advertisement's MTU option and by the default route.
// It is also the MTU of the TUN, which carries IPv6 towards the steering, and
// Linux has no IPv6 on a link below 1280 bytes (RFC 8200 section 5).
//
// MTU4 is the largest IPv4 packet whose translation still fits MTU6. It is
// the MTU of the IPv4 default route.
type (
	MTU6 int
	MTU4 int
)

// MinMTU6 is the smallest MTU of IPv6 (RFC 8200 section 5).
const MinMTU6 MTU6 = 1280

// headerGrowth is what an IPv4 header of 20 bytes grows by when it becomes an
// IPv6 header. Packets that need a Fragment Header as well are split by siit.
const headerGrowth = 20

// IPv4 returns the MTU of the IPv4 side of a translator whose IPv6 side is m.
func (m MTU6) IPv4() MTU4 { return MTU4(m) - headerGrowth }

// IPv6 returns the MTU of the IPv6 side of a translator whose IPv4 side is m.
func (m MTU4) IPv6() MTU6 { return MTU6(m) + headerGrowth }
