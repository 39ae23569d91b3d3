package nexthop

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestParseNexthop reads messages that no kernel sends.
func TestParseNexthop(t *testing.T) {
	for n := range 40 {
		m := make([]byte, n)
		for i := range m {
			m[i] = byte(i * 7)
		}
		parseObject(m)
		parseExtra(m)
		specialHops(m)
		specialMetrics(m)
	}
	group := append(make([]byte, sizeofNHMsg), 8, 0, unix.NHA_ID, 0, 9, 0, 0, 0, 20, 0, unix.NHA_GROUP, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 255, 1, 0, 0)
	id, o, ok := parseObject(group)
	if !ok || id != 9 || !slices.Equal(o.Members, []Member{{1, 3}, {5, 512}}) {
		t.Errorf("%d, %+v, %t", id, o, ok)
	}
	r := netlink.Route{Type: unix.RTN_UNICAST}
	setHops(&r, unix.AF_INET, 9, map[uint32]Object{9: o, 5: {Link: 4, Gateway: netip.MustParseAddr("fe80::1")}})
	if len(r.MultiPath) != 1 || r.MultiPath[0].LinkIndex != 4 || r.MultiPath[0].Hops != 511 || r.MultiPath[0].Via == nil {
		t.Errorf("%+v", r.MultiPath)
	}
}
