package steer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

// Share is an IPv6 address that the translator shares with the host. The zero Share
// is none.
type Share struct {
	Addr   netip.Addr   // of the host, on the uplink
	PREF64 netip.Prefix // RFC 6052; with whom the translator talks from there
	IPv4   netip.Addr   // of the CLAT

	// Everybody says that it talks with others too, by explicit mappings or by the
	// prefixes of networks.
	Everybody bool
}

// check refuses what the programs have no rule for.
func (s Share) check() error {
	switch {
	case !s.Addr.Is6() || s.Addr.Is4In6():
		return fmt.Errorf("%q is not an IPv6 address", s.Addr)
	case !s.IPv4.Is4():
		return fmt.Errorf("%q is not an IPv4 address", s.IPv4)
	}
	_, err := siit.NewPrefix(s.PREF64)
	return err
}

func (s Share) value() bpfShare {
	var mask [16]byte
	for i := range s.PREF64.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	ipv4 := s.IPv4.As4()
	return bpfShare{
		Host: halves(s.Addr.As16()), Pref: halves(s.PREF64.Masked().Addr().As16()), Mask: halves(mask),
		Clat4: binary.NativeEndian.Uint32(ipv4[:]), PrefLen: uint32(s.PREF64.Bits()), Everybody: uint64(flag(s.Everybody)),
	}
}

// halves returns the halves of an address as the programs load them.
func halves(a [16]byte) [2]uint64 {
	return [2]uint64{binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:])}
}

// keep adds the address to those that are steered.
func (s Share) keep(ours map[netip.Prefix]bool) {
	if s.Addr.IsValid() {
		ours[netip.PrefixFrom(s.Addr, 128)] = true
	}
}

// SetShared says which address the translator has that is the host's as well. Of
// the packets to it, the translator takes those of flows that it has begun, with
// their ICMP errors and fragments. Everything else stays the kernel's. Where the
// host and the translator use the same ports towards the same remote, the flow that
// comes second is given another port on the wire. [Config.Share] must have been set.
//
// The address is not one of those of [Steering.SetOurs].
func (s *Steering) SetShared(to Share) error {
	if to != (Share{}) {
		if err := to.check(); err != nil {
			return &Error{"share the host's address", err}
		}
	}
	// What is steered and not shared is not the host's any more.
	if old := s.share; old.Addr.IsValid() && old.Addr != to.Addr {
		if err := s.ours.remove(netip.PrefixFrom(old.Addr, 128)); err != nil {
			return err
		}
		s.share = Share{}
	}
	if to == (Share{}) {
		if err := withdraw(s.objects.Shares); err != nil {
			return &Error{"stop sharing the host's address", err}
		}
		return nil
	}
	if err := exchange(s.objects.Shares, s.objects.sharing, to.value()); err != nil {
		return &Error{fmt.Sprintf("share %s", to.Addr), err}
	}
	s.share = to
	return s.ours.add(netip.PrefixFrom(to.Addr, 128))
}

// Flow is a flow on a shared address.
type Flow struct {
	Protocol uint8          // IPPROTO_TCP or IPPROTO_UDP
	Port     uint16         // of the socket
	Remote   netip.AddrPort // IPv6
}

// remember notes the flows of [Config].
func (s *Steering) remember(translators, hosts []Flow) error {
	if s.share == (Share{}) {
		return nil
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return &Error{"read the clock", err}
	}
	for _, of := range []struct {
		flows  []Flow
		table  *ebpf.Map
		is     FlowTable
		own    []*ebpf.Map // where the flow may be with another port on the wire
		others []*ebpf.Map // where somebody else may have its port
	}{
		{hosts, s.objects.HostFlows, HostFlows, []*ebpf.Map{s.objects.HostFlows, s.objects.MovedFlows}, []*ebpf.Map{s.objects.EstablishedFlows, s.objects.NewFlows}},
		{translators, s.objects.EstablishedFlows, EstablishedFlows, []*ebpf.Map{s.objects.EstablishedFlows, s.objects.NewFlows}, nil},
	} {
		for _, f := range of.flows[:min(len(of.flows), int(of.table.MaxEntries()))] {
			key := bpfFlowKey{
				Remote: halves(f.Remote.Addr().As16()),
				Ports:  uint64(f.Port)<<32 | uint64(f.Remote.Port())<<16 | uint64(f.Protocol), // flow_ports
			}
			// Inherited tables know better.
			socket := key
			socket.Ports |= portOfSocket << 8
			if has(of.own, socket) || has(of.others, key) {
				continue
			}
			value := bpfFlow{Seen: uint64(now.Nano()), Port: uint64(f.Port), State: flowReplied}
			switch err := of.table.Update(key, value, ebpf.UpdateNoExist); {
			case errors.Is(err, ebpf.ErrKeyExist):
			case err != nil:
				return &Error{"remember a flow", err}
			default:
				s.evicted.put[of.is]++ // nobody reads the tables yet
			}
		}
	}
	return nil
}

// has reports whether one of the tables has an entry.
func has(tables []*ebpf.Map, key bpfFlowKey) bool {
	var f bpfFlow
	return slices.ContainsFunc(tables, func(m *ebpf.Map) bool { return m.Lookup(key, &f) == nil })
}

// Constants of bpf/flow.h.
const (
	flowReplied  = 1 // REPLIED
	portOnWire   = 0 // ON_WIRE
	portOfSocket = 1 // OF_SOCKET
)
