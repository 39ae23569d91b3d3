package steer

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Values of the map "ours", see bpf/next.h.
const (
	markOurs       = uint8(1)
	markBesideNext = uint8(2)
	markNext       = uint8(3)
)

// steeredPrefixes are the IPv6 prefixes of the map "ours".
type steeredPrefixes struct {
	table *ebpf.Map
	has   map[netip.Prefix]bool // what the map holds
}

func newSteeredPrefixes(table *ebpf.Map) steeredPrefixes {
	return steeredPrefixes{table: table, has: make(map[netip.Prefix]bool)}
}

// add steers the packets to p, if it does not yet.
func (o *steeredPrefixes) add(p netip.Prefix) error {
	if o.has[p] {
		return nil
	}
	if err := o.mark(p, markOurs); err != nil {
		return &Error{fmt.Sprintf("steer %s", p), err}
	}
	o.has[p] = true
	return nil
}

// remove ends what add does.
func (o *steeredPrefixes) remove(p netip.Prefix) error {
	if err := o.table.Delete(prefixKey(p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return &Error{fmt.Sprintf("stop steering %s", p), err}
	}
	delete(o.has, p)
	return nil
}

// replace makes the prefixes equal to want. New ones are added before old ones are
// removed. After an error it continues where it stopped.
func (o *steeredPrefixes) replace(want map[netip.Prefix]bool) error {
	for p := range want {
		if err := o.add(p); err != nil {
			return err
		}
	}
	for p := range o.has {
		if want[p] {
			continue
		}
		if err := o.remove(p); err != nil {
			return err
		}
	}
	return nil
}

// mark sets the value of a prefix.
func (o *steeredPrefixes) mark(p netip.Prefix, value uint8) error {
	return o.table.Put(prefixKey(p), value)
}
