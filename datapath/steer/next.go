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

// ErrTooManyFlows is the error of [Steering.SetNext] where more flows have begun
// than can be told from those that begin now.
var ErrTooManyFlows = errors.New("too many flows")

// SetNext gives flows that begin from now on the address n.Addr. begun lists the
// flows that began before, by IPv6 addresses; a UDP socket that is not connected has
// the zero Remote. It is called while the programs take every flow that sends for
// one of those, so that none falls between. Without next address, or with another
// one, it ends the present one first.
//
// Both addresses must be among those of [Steering.SetOurs]. On a shared address
// there can be no next one. Packets of other protocols than TCP and UDP, but for
// echo requests, keep the main address.
func (s *Steering) SetNext(n Next, begun func() []Flow) error { return s.next.set(n, begun) }

// Next returns what SetNext was given.
func (s *Steering) Next() Next { return s.next.Next }

// KeepsMain reports whether a flow keeps the main address while there is a next one.
func (s *Steering) KeepsMain(f Flow) bool { return s.next.keepsMain(f) }

// nextAddress is what [Steering.SetNext] has set. It is empty after New, but for the
// table of a former process.
type nextAddress struct {
	engine  *Engine
	ours    *steeredPrefixes
	kept    *kept
	sharing bool

	Next
	began *ebpf.Map // flows that keep the main address; nil: none
}

func (a *nextAddress) set(n Next, begun func() []Flow) error {
	if n == a.Next {
		return nil
	}
	if n.Main == a.Main && n.Addr == a.Addr {
		if err := a.put(n, false); err != nil {
			return err
		}
		a.Next = n
		return nil
	}
	if a.Next != (Next{}) || n == (Next{}) {
		if err := a.end(); err != nil || n == (Next{}) {
			return err
		}
	}
	if err := a.begin(n, begun); err != nil {
		return errors.Join(err, a.end())
	}
	return nil
}

func (a *nextAddress) begin(n Next, begun func() []Flow) error {
	main, next := netip.PrefixFrom(n.Main, 128), netip.PrefixFrom(n.Addr, 128)
	if a.sharing || !a.ours.has[main] || !a.ours.has[next] {
		return &Error{"use the next address", fmt.Errorf("%s and %s are not both steered by themselves", n.Main, n.Addr)}
	}
	a.Next = n
	inherited := a.began != nil
	if !inherited {
		m, err := a.makeTable(beganFlows, 2*MaxBegan) // the kernel evicts entries before it is quite full
		if err != nil {
			return err
		}
		a.began = m
	}
	fragments, err := a.makeTable("next_fragments", nextFragments)
	if err != nil {
		return err
	}
	defer fragments.Close() // the programs' map holds it
	if err := errors.Join(a.engine.objects.BeganTables.Put(tableBegan, a.began), a.engine.objects.BeganTables.Put(tableFragments, fragments)); err != nil {
		return &Error{"make the table of flows", err}
	}
	if err := a.put(n, !inherited); err != nil {
		return err
	}
	if err := errors.Join(a.ours.mark(next, markNext), a.ours.mark(main, markBesideNext)); err != nil {
		return &Error{fmt.Sprintf("steer %s", n.Addr), err}
	}
	x := a.engine.exits
	x.next = true
	if err := a.engine.setExits(x); err != nil {
		return err
	}
	if inherited {
		return nil
	}
	if err := a.remember(begun()); err != nil {
		return err
	}
	a.kept.add(beganFlows, a.began)
	return a.put(n, false)
}

// remember notes flows that keep the main address.
func (a *nextAddress) remember(flows []Flow) error {
	if len(flows) > MaxBegan {
		return &Error{"use the next address", fmt.Errorf("%w: %d have begun", ErrTooManyFlows, len(flows))}
	}
	for _, f := range flows {
		if err := a.began.Put(began(f), uint64(1)); err != nil {
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

func (a *nextAddress) keepsMain(f Flow) bool {
	if a.Next == (Next{}) || a.began == nil {
		return true
	}
	var one uint64
	if a.began.Lookup(began(f), &one) == nil {
		return true
	}
	return f.Protocol == unix.IPPROTO_UDP && a.began.Lookup(began(Flow{Protocol: f.Protocol, Port: f.Port}), &one) == nil
}

// makeTable makes a map for "began_tables".
func (a *nextAddress) makeTable(name string, entries uint32) (*ebpf.Map, error) {
	spec := a.engine.objects.began.Copy()
	spec.Name, spec.MaxEntries = name, entries
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, &Error{"make the table of flows", err}
	}
	return m, nil
}

func (a *nextAddress) put(n Next, learning bool) error {
	value := bpfNextAddress{Main: halves(n.Main.As16()), Next: halves(n.Addr.As16()), Learning: flag(learning)}
	if n.Router.IsValid() {
		value.Router = bpfNextHop{Family: unix.AF_INET6, Addr: n.Router.As16()}
	}
	if err := a.engine.objects.NextAddresses.Put(uint32(0), value); err != nil {
		return &Error{fmt.Sprintf("use the next address %s", n.Addr), err}
	}
	return nil
}

// end lets all flows have the main address, those of the next one too. It goes on
// after an error.
func (a *nextAddress) end() error {
	var errs []error
	x := a.engine.exits
	x.next = false
	errs = append(errs, a.engine.setExits(x))
	for _, addr := range []netip.Addr{a.Main, a.Addr} {
		if p := netip.PrefixFrom(addr, 128); addr.IsValid() && a.ours.has[p] {
			errs = append(errs, a.ours.mark(p, markOurs))
		}
	}
	deletions := []error{a.engine.objects.NextAddresses.Delete(uint32(0)), a.engine.objects.BeganTables.Delete(tableBegan), a.engine.objects.BeganTables.Delete(tableFragments)}
	for _, err := range deletions {
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	a.Next = Next{}
	a.close()
	if err := errors.Join(errs...); err != nil {
		return &Error{"end the use of the next address", err}
	}
	return nil
}

// close gives up the table of flows that keep the main address.
func (a *nextAddress) close() {
	if a.began != nil {
		a.began.Close()
		a.kept.remove(beganFlows)
	}
	a.began = nil
}
