package steer

import (
	"errors"

	"github.com/cilium/ebpf"

	"tnat64d/internal/cause"
)

// exchange puts an array with one value into a map of one array, in the place of
// the array that is there. No program sees a value half done. When exchange
// returns, no program sees the old one any more. array describes the new array.
func exchange(of *ebpf.Map, array *ebpf.MapSpec, value any) error {
	const key = uint32(0)
	if err := cause.Descriptors(3); err != nil {
		return err
	}
	array = array.Copy()
	array.Contents = []ebpf.MapKV{{Key: key, Value: value}}
	m, err := ebpf.NewMap(array)
	if err != nil {
		return err
	}
	defer m.Close() // the other map holds it
	// The kernel waits here until no program uses the old array.
	return of.Put(key, m)
}

// withdraw removes the array of a map, if it has one.
func withdraw(of *ebpf.Map) error {
	if err := of.Delete(uint32(0)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
