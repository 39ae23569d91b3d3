package steer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"tnat64d/siit"
)

// MaxEAM is how many explicit address mappings the kernel engine of a CLAT has
// room for.
const MaxEAM = 1 << 14

// addr6 returns a as the programs want it.
func addr6(a [16]byte) bpfAddr6 {
	return bpfAddr6{Hi: binary.BigEndian.Uint64(a[:]), Lo: binary.BigEndian.Uint64(a[8:])}
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// explicitMappings are the explicit mappings that the kernel engine's maps may hold.
type explicitMappings []siit.EAM

// replace replaces the explicit mappings, while no translation is in force. After
// an error there are some of both.
func (have *explicitMappings) replace(o *objects, list []siit.EAM) error {
	for _, m := range *have {
		if err := eachColumn(o, m, (*ebpf.Map).Delete); err != nil {
			return &Error{fmt.Sprintf("remove the explicit mapping of %s", m.IPv4), err}
		}
	}
	*have = slices.Clone(list)
	for _, m := range list {
		if err := putEAM(o, m); err != nil {
			return &Error{fmt.Sprintf("set the explicit mapping of %s", m.IPv4), err}
		}
	}
	return nil
}

// eachColumn calls f with the entry of m in both columns. An entry that is not
// there is no error.
func eachColumn(o *objects, m siit.EAM, f func(*ebpf.Map, any) error) error {
	var first error
	call := func(in *ebpf.Map, key any) {
		if err := f(in, key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && first == nil {
			first = err
		}
	}
	if m.IPv4.IsSingleIP() {
		call(o.Hosts4, number4(m.IPv4.Addr()))
	} else {
		call(o.Eam4, networkKey(m.IPv4.Masked()))
	}
	if m.IPv6.IsSingleIP() {
		call(o.Hosts6, addr6(m.IPv6.Addr().As16()))
	} else {
		call(o.Eam6, prefixKey(m.IPv6.Masked()))
	}
	return first
}

// putEAM enters m in both columns: in a hash map what is a single address, in a
// trie what is a prefix.
func putEAM(o *objects, m siit.EAM) error {
	ipv4, ipv6 := number4(m.IPv4.Masked().Addr()), addr6(m.IPv6.Masked().Addr().As16())
	both := bpfEam{Hi: ipv6.Hi, Lo: ipv6.Lo, Ipv4: ipv4, Bits4: uint32(m.IPv4.Bits()), Bits6: uint32(m.IPv6.Bits())}
	return eachColumn(o, m, func(in *ebpf.Map, key any) error {
		switch in {
		case o.Hosts4:
			return in.Put(key, ipv6)
		case o.Hosts6:
			return in.Put(key, bpfHost{Ipv4: ipv4})
		}
		return in.Put(key, both)
	})
}
