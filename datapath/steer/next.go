package steer

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Next is a second CLAT address, while a network is renumbered: flows that exist
// keep Main, and those that begin now have Addr. Both stand for the same IPv4
// address and are checksum-neutral towards the same PREF64: the programs put one in
// the place of the other and correct no checksum. The zero Next is none.
type Next struct {
	Main, Addr netip.Addr
	Router     netip.Addr // of packets from Addr, see [Steering.SetRouter]
}

// MaxBegan is how many flows may have begun before there is a next address.
const MaxBegan = 1 << 13

const (
	beganFlows    = "began_flows" // the name in [keptMaps] of their table
	nextFragments = 1 << 10       // datagrams
)

// Indexes of the map "began_tables".
const (
	tableBegan     = uint32(0) // BEGAN_FLOWS of bpf/next.h
	tableFragments = uint32(1) // NEXT_FRAGMENTS
)

// Values of the map "ours", see bpf/next.h.
const (
	markOurs       = uint8(1)
	markBesideNext = uint8(2)
	markNext       = uint8(3)
)

// ErrTooManyFlows is the error of [Steering.SetNext] where more flows have begun
// than can be told from those that begin now.
var ErrTooManyFlows = errors.New("too many flows")

// nextAddress is the state of [Steering.SetNext].
type nextAddress struct {
	Next
	began *ebpf.Map // flows that keep the main address; nil: none
}

// SetNext gives flows that begin from now on the address n.Addr. begun lists the
// flows that began before, by IPv6 addresses; a UDP socket that is not connected has
// the zero Remote. It is called while the programs take every flow that sends for
// one of those, so that none falls between. Without next address, or with another
// one, it ends the present one first.
//
// Both addresses must be among those of [Steering.SetOurs]. On a shared address
// there can be no next one. Packets of other protocols than TCP and UDP, but for
// echo requests, keep the main address.
func (s *Steering) SetNext(n Next, begun func() []Flow) error {
	if n == s.next.Next {
		return nil
	}
	if n.Main == s.next.Main && n.Addr == s.next.Addr {
		if err := s.putNext(n, false); err != nil {
			return err
		}
		s.next.Next = n
		return nil
	}
	if s.next.Next != (Next{}) || n == (Next{}) {
		if err := s.endNext(); err != nil || n == (Next{}) {
			return err
		}
	}
	if err := s.beginNext(n, begun); err != nil {
		return errors.Join(err, s.endNext())
	}
	return nil
}

func (s *Steering) beginNext(n Next, begun func() []Flow) error {
	main, next := netip.PrefixFrom(n.Main, 128), netip.PrefixFrom(n.Addr, 128)
	if s.sharing || !s.ours[main] || !s.ours[next] {
		return &Error{"use the next address", fmt.Errorf("%s and %s are not both steered by themselves", n.Main, n.Addr)}
	}
	s.next.Next = n
	inherited := s.next.began != nil
	if !inherited {
		m, err := s.makeTable(beganFlows, 2*MaxBegan) // the kernel evicts entries before it is quite full
		if err != nil {
			return err
		}
		s.next.began = m
	}
	fragments, err := s.makeTable("next_fragments", nextFragments)
	if err != nil {
		return err
	}
	defer fragments.Close() // the programs' map holds it
	if err := errors.Join(s.objects.BeganTables.Put(tableBegan, s.next.began), s.objects.BeganTables.Put(tableFragments, fragments)); err != nil {
		return &Error{"make the table of flows", err}
	}
	if err := s.putNext(n, !inherited); err != nil {
		return err
	}
	if err := errors.Join(s.objects.Ours.Put(prefixKey(next), markNext), s.objects.Ours.Put(prefixKey(main), markBesideNext)); err != nil {
		return &Error{fmt.Sprintf("steer %s", n.Addr), err}
	}
	x := s.exits
	x.next = true
	if err := s.setExits(x); err != nil {
		return err
	}
	if inherited {
		return nil
	}
	if err := s.rememberBegun(begun()); err != nil {
		return err
	}
	s.kept.add(beganFlows, s.next.began)
	return s.putNext(n, false)
}

// rememberBegun notes flows that keep the main address.
func (s *Steering) rememberBegun(flows []Flow) error {
	if len(flows) > MaxBegan {
		return &Error{"use the next address", fmt.Errorf("%w: %d have begun", ErrTooManyFlows, len(flows))}
	}
	for _, f := range flows {
		if err := s.next.began.Put(began(f), uint64(1)); err != nil {
			return &Error{"remember a flow", err}
		}
	}
	return nil
}

// began returns the key of a flow in the table of those that have begun.
func began(f Flow) bpfFlowKey {
	key := bpfFlowKey{Ports: uint64(f.Port)<<32 | uint64(f.Protocol)} // flow_ports
	if f.Remote.IsValid() {
		key.Remote = halves(f.Remote.Addr().As16())
		key.Ports |= uint64(f.Remote.Port()) << 16
	}
	return key
}

// Next returns what SetNext was given.
func (s *Steering) Next() Next { return s.next.Next }

// KeepsMain reports whether a flow keeps the main address while there is a next one.
func (s *Steering) KeepsMain(f Flow) bool {
	if s.next.Next == (Next{}) || s.next.began == nil {
		return true
	}
	var one uint64
	if s.next.began.Lookup(began(f), &one) == nil {
		return true
	}
	return f.Protocol == unix.IPPROTO_UDP && s.next.began.Lookup(began(Flow{Protocol: f.Protocol, Port: f.Port}), &one) == nil
}

// makeTable makes a map for "began_tables".
func (s *Steering) makeTable(name string, entries uint32) (*ebpf.Map, error) {
	spec := s.objects.began.Copy()
	spec.Name, spec.MaxEntries = name, entries
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, &Error{"make the table of flows", err}
	}
	return m, nil
}

func (s *Steering) putNext(n Next, learning bool) error {
	value := bpfNextAddress{Main: halves(n.Main.As16()), Next: halves(n.Addr.As16()), Learning: flag(learning)}
	if n.Router.IsValid() {
		value.Router = bpfNextHop{Family: unix.AF_INET6, Addr: n.Router.As16()}
	}
	if err := s.objects.NextAddresses.Put(uint32(0), value); err != nil {
		return &Error{fmt.Sprintf("use the next address %s", n.Addr), err}
	}
	return nil
}

// endNext lets all flows have the main address, those of the next one too. It goes on
// after an error.
func (s *Steering) endNext() error {
	var errs []error
	x := s.exits
	x.next = false
	errs = append(errs, s.setExits(x))
	for _, a := range []netip.Addr{s.next.Main, s.next.Addr} {
		if p := netip.PrefixFrom(a, 128); a.IsValid() && s.ours[p] {
			errs = append(errs, s.objects.Ours.Put(prefixKey(p), markOurs))
		}
	}
	deletions := []error{s.objects.NextAddresses.Delete(uint32(0)), s.objects.BeganTables.Delete(tableBegan), s.objects.BeganTables.Delete(tableFragments)}
	for _, err := range deletions {
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	s.next.Next = Next{}
	s.closeBegan()
	if err := errors.Join(errs...); err != nil {
		return &Error{"end the use of the next address", err}
	}
	return nil
}

// closeBegan gives up the table of flows that keep the main address.
func (s *Steering) closeBegan() {
	if s.next.began != nil {
		s.next.began.Close()
		s.kept.remove(beganFlows)
	}
	s.next.began = nil
}
