package steer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"tnat64d/siit"
)

// MaxNetworks is how many networks with prefixes of their own the kernel engine of a
// CLAT has room for.
const MaxNetworks = 256

// networks are the networks with prefixes of their own that the kernel engine's maps
// may hold.
type networks []siit.Network

// replace replaces the networks, while no translation is in force. After an error
// there are some of both.
func (have *networks) replace(o *objects, list []siit.Network) error {
	for _, n := range *have {
		if err := eachNetwork(o, n, func(in *ebpf.Map, key, _ any) error { return in.Delete(key) }); err != nil {
			return &Error{fmt.Sprintf("remove the prefix of %s", n.IPv4), err}
		}
	}
	*have = slices.Clone(list)
	for _, n := range list {
		if err := eachNetwork(o, n, func(in *ebpf.Map, key, value any) error { return in.Put(key, value) }); err != nil {
			return &Error{fmt.Sprintf("set the prefix of %s", n.IPv4), err}
		}
	}
	return nil
}

// eachNetwork calls f with the entries of n. An entry that is not there is no
// error.
func eachNetwork(o *objects, n siit.Network, f func(in *ebpf.Map, key, value any) error) error {
	value := bpfPref64{}
	if n.PREF64.IsValid() {
		p := n.PREF64.Masked()
		a := addr6(p.Addr().As16())
		value = bpfPref64{Hi: a.Hi, Lo: a.Lo, Bits: uint32(p.Bits()), WellKnown: flag(p == siit.WellKnownPrefix())}
		if err := f(o.Networks6, prefixKey(p), value); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	if err := f(o.Networks4, networkKey(n.IPv4.Masked()), value); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
