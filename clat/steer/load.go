package steer

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/rlimit"
)

// load loads programs and maps into the kernel. Nothing is pinned: they are
// gone with the process unless a filter holds them.
func load(uplink int, linkHeader bool, tun int) (*bpfObjects, error) {
	// Does something only before kernel 5.11, and needs CAP_SYS_RESOURCE there.
	// Without that right the maps may still fit; if not, loading says so.
	_ = rlimit.RemoveMemlock()

	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	var specs bpfSpecs
	if err := spec.Assign(&specs); err != nil {
		return nil, err
	}
	header := uint32(0)
	if linkHeader {
		header = 1
	}
	for _, err := range []error{
		specs.TunIfindex.Set(uint32(tun)),
		specs.UplinkIfindex.Set(uint32(uplink)),
		specs.UplinkLinkHeader.Set(header),
	} {
		if err != nil {
			return nil, err
		}
	}
	objects := new(bpfObjects)
	if err := spec.LoadAndAssign(objects, nil); err != nil {
		return nil, err
	}
	return objects, nil
}

// prefixKey is p as the key of the map "ours".
func prefixKey(p netip.Prefix) bpfPrefix {
	return bpfPrefix{Len: uint32(p.Bits()), Addr: p.Addr().As16()}
}

// checkPrefix refuses what would take the host's own packets from it.
func checkPrefix(p netip.Prefix) error {
	if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
		return fmt.Errorf("%q is not an IPv6 prefix", p)
	}
	for _, never := range []netip.Prefix{
		netip.MustParsePrefix("fe80::/10"),
		netip.MustParsePrefix("ff00::/8"),
		netip.MustParsePrefix("::1/128"),
	} {
		if p.Overlaps(never) {
			return fmt.Errorf("%q overlaps %s, which never leaves the link", p, never)
		}
	}
	return nil
}
