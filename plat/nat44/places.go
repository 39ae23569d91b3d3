package nat44

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// places is the name of the map from addresses of the pool to the /64 of their
// host, with room for the number of a group in front.
const places = "networks"

// Host is an address of the pool with the host that has it.
type Host struct{ IPv4, IPv6 netip.Addr }

// Place says which hosts have addresses, so that their connections count for their
// /64. It replaces what was said of the addresses.
func (r *Ruleset) Place(hosts ...Host) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places == nil {
		return nil
	}
	for len(hosts) > 0 {
		n := min(len(hosts), perMessage)
		var all []nftables.SetElement
		for _, h := range hosts[:n] {
			all = append(all, nftables.SetElement{Key: h.IPv4.AsSlice(), Val: network(h.IPv6)})
		}
		if err := r.place(all); err != nil {
			return fmt.Errorf("nftables: set %d hosts: %w", n, err)
		}
		hosts = hosts[n:]
	}
	return nil
}

// place adds elements to the map. Where that fails, an address may have another
// host there.
func (r *Ruleset) place(all []nftables.SetElement) error {
	add := func() error { return errors.Join(r.conn.SetAddElements(r.places, all), r.conn.Flush()) }
	err := add()
	if err == nil || !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := r.displace(all); err != nil {
		return err
	}
	return add()
}

// Displace forgets the hosts of addresses.
func (r *Ruleset) Displace(addresses []netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places == nil {
		return nil
	}
	for len(addresses) > 0 {
		n := min(len(addresses), perMessage)
		if err := r.displace(keys(addresses[:n])); err != nil {
			return fmt.Errorf("nftables: forget %d hosts: %w", n, err)
		}
		addresses = addresses[n:]
	}
	return nil
}

// displace removes elements of the map, one by one if some are not there.
func (r *Ruleset) displace(all []nftables.SetElement) error {
	remove := func(some []nftables.SetElement) error {
		return errors.Join(r.conn.SetDeleteElements(r.places, some), r.conn.Flush())
	}
	err := remove(all)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	for i := range all {
		if err := remove(all[i : i+1]); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// network returns the value of the map of places for a host.
func network(a netip.Addr) []byte {
	b := make([]byte, 4+16)
	copy(b[4:12], a.AsSlice())
	return b
}
