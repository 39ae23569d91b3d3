package siit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	gtcp "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	gudp "gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"tnat64d/siit"
)

// A whole 464XLAT network in one process and without root: a host whose stack
// knows IPv4 only, the CLAT's translator, an IPv6 network with a router in it,
// and a server whose stack knows IPv6 only and owns the PREF64 address of
// remote4, as if the PLAT and the internet behind it were one machine. Both
// stacks are gVisor's. Every packet goes through the harness on its way.

const nic = tcpip.NICID(1)

// world is the network. Its fields are set before start.
type world struct {
	t      *testing.T
	cfg    siit.Config
	loss   float64 // of packets, on the IPv6 network, in both directions
	late   float64 // of packets that are overtaken by the next one
	narrow int     // MTU of the router's link towards the server; 0: as the network
	mtu4   int     // MTU of the host's link; 0: what goes well with cfg.MTU6

	server6              netip.Addr // the address of the server
	host, server         *stack.Stack
	hostLink, serverLink *channel.Endpoint

	mu       sync.Mutex
	down     *rig // translates what comes from the network
	rnd      *rand.Rand
	held     map[*channel.Endpoint][]byte
	counts   map[string]int
	problems []error
}

// start connects everything and runs it until the test ends.
func start(t *testing.T, w *world) *world {
	t.Helper()
	w.t = t
	w.cfg = withDefaults(w.cfg)
	w.rnd = rand.New(rand.NewPCG(464, 6877))
	w.held, w.counts = map[*channel.Endpoint][]byte{}, map[string]int{}
	w.down = newRig(t, w.cfg)
	if w.mtu4 == 0 {
		w.mtu4 = w.cfg.MTU6 - 20
	}
	w.server6 = embed(w.cfg.Mapping.PREF64, remote4)
	w.hostLink = channel.New(4096, uint32(w.mtu4), "")
	w.serverLink = channel.New(4096, 1500, "")
	w.host = newStack(t, w.hostLink, ipv4.NewProtocol, ipv4.ProtocolNumber, clat4)
	w.server = newStack(t, w.serverLink, ipv6.NewProtocol, ipv6.ProtocolNumber, w.server6)

	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	up := newRig(t, w.cfg)
	done.Go(func() { w.pump(ctx, w.hostLink, func(b []byte) { w.fromHost(up, b) }) })
	done.Go(func() { w.pump(ctx, w.serverLink, w.fromServer) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
		w.host.Destroy()
		w.server.Destroy()
		for _, err := range w.problems {
			t.Error(err)
		}
		t.Log(w.counts)
	})
	return w
}

func newStack(t *testing.T, link *channel.Endpoint, network stack.NetworkProtocolFactory, number tcpip.NetworkProtocolNumber, addr netip.Addr) *stack.Stack {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{network},
		TransportProtocols: []stack.TransportProtocolFactory{gtcp.NewProtocol, gudp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	sack, rto := tcpip.TCPSACKEnabled(true), tcpip.TCPMinRTOOption(20*time.Millisecond)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &rto} {
		if err := s.SetTransportProtocolOption(gtcp.ProtocolNumber, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CreateNIC(nic, link); err != nil {
		t.Fatal(err)
	}
	protocolAddress := tcpip.ProtocolAddress{Protocol: number, AddressWithPrefix: tcpipAddr(addr).WithPrefix()}
	if err := s.AddProtocolAddress(nic, protocolAddress, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	destination := header.IPv4EmptySubnet
	if number == ipv6.ProtocolNumber {
		destination = header.IPv6EmptySubnet
	}
	s.SetRouteTable([]tcpip.Route{{Destination: destination, NIC: nic}})
	return s
}

// pump hands every packet that a stack sends to f.
func (w *world) pump(ctx context.Context, link *channel.Endpoint, f func(b []byte)) {
	for {
		pkt := link.ReadContext(ctx)
		if pkt == nil {
			return
		}
		b := pkt.ToView().ToSlice()
		pkt.DecRef()
		f(b)
	}
}

// inject lets a stack receive b.
func inject(link *channel.Endpoint, b []byte) {
	number := ipv4.ProtocolNumber
	if b[0]>>4 == 6 {
		number = ipv6.ProtocolNumber
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	link.InjectInbound(number, pkt)
	pkt.DecRef()
}

// fromHost is the CLAT's way out.
func (w *world) fromHost(up *rig, b []byte) {
	o, err := up.try(b, siit.Offload{})
	w.note("up", o, err)
	for _, p := range o.packets {
		if o.verdict == siit.Reply {
			inject(w.hostLink, p.Bytes())
			continue
		}
		if w.narrow > 0 && len(p.Bytes()) > w.narrow {
			w.tooBig(p.Bytes())
			continue
		}
		w.carry(w.serverLink, p.Bytes(), func(b []byte) { inject(w.serverLink, b) })
	}
}

// fromServer is the way from the server to the CLAT.
func (w *world) fromServer(b []byte) {
	w.carry(w.hostLink, b, w.arrive)
}

// arrive is the CLAT's way in.
func (w *world) arrive(b []byte) {
	w.mu.Lock()
	o, err := w.down.try(b, siit.Offload{})
	w.mu.Unlock()
	w.note("down", o, err)
	for _, p := range o.packets {
		if o.verdict == siit.Reply {
			inject(w.serverLink, p.Bytes())
		} else {
			inject(w.hostLink, p.Bytes())
		}
	}
}

// tooBig is the router's answer to a packet that does not fit: it comes from
// an address outside PREF64 (draft-ietf-v6ops-icmpext-xlat-v6only-source section 4.2).
func (w *world) tooBig(b []byte) {
	w.mu.Lock()
	w.counts["router: too big"]++
	w.mu.Unlock()
	host := w.cfg.Mapping.CLAT.IPv6
	message := icmp6(native6, host, 2, 0, uint32(w.narrow), b[:min(len(b), 1232)])
	w.arrive(ip6{src: native6, dst: host, proto: protoICMPv6, payload: message}.bytes())
}

// carry takes a packet across the IPv6 network, with its losses and delays.
func (w *world) carry(link *channel.Endpoint, b []byte, deliver func(b []byte)) {
	w.mu.Lock()
	if w.rnd.Float64() < w.loss {
		w.counts["lost"]++
		w.mu.Unlock()
		return
	}
	held := w.held[link]
	delete(w.held, link)
	if held == nil && w.rnd.Float64() < w.late {
		w.counts["late"]++
		w.held[link] = b
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	deliver(b)
	if held != nil {
		deliver(held)
	}
}

// note counts what became of a packet. A drop that the test did not ask for
// is a problem, and so is anything that the harness has to say.
func (w *world) note(way string, o outcome, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := way + ": " + o.verdict.String()
	if o.reason != siit.None {
		key += " " + o.reason.String()
	}
	w.counts[key]++
	if err == nil && o.verdict == siit.Drop {
		err = errors.New(key)
	}
	if err != nil && len(w.problems) < 3 {
		w.problems = append(w.problems, err)
	}
}

func (w *world) count(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[key]
}

func at(a netip.Addr, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpipAddr(a), Port: port}
}
