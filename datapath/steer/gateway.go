package steer

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// GatewayConfig says where the kernel engine of a gateway translates. The
// interface index is that of the calling thread's network namespace.
type GatewayConfig struct {
	TUN    int // ifindex of the TUN whose queues user space serves
	Attach Attach
	Queues int // of the TUN; 0 means 1
	Hosts  int // how many maps of single addresses there is room for; 0 means 1
}

// Gateway is the kernel engine of a gateway: a router that translates between
// IPv6 hosts, each with an IPv4 address of its own, and PREF64. Its two programs
// are at the TUN. The kernel forwards packets to the TUN as before, and what they
// become is received there: firewall and connection tracking see all of it. What
// the programs do not translate is read by user space. See bpf/gateway.h.
//
// It waits for [Engine.SetTranslation]. Put, Remove and Seen may be called at any
// time, by one goroutine; Counters and EngineCounters at any time; the other
// methods by one goroutine at a time.
type Gateway struct {
	installed
}

// NewGateway loads the programs and attaches them. The caller's goroutine must be
// locked to its thread if that thread has a network namespace of its own. The
// error is an [*Error], and nothing is left then.
func NewGateway(cfg GatewayConfig) (_ *Gateway, err error) {
	g := &Gateway{}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	tun, err := g.open(cfg.TUN)
	if err != nil {
		return nil, err
	}
	c := newConstants(0, false, cfg.TUN)
	c.queues, c.explicit = max(cfg.Queues, 1), cfg.Hosts
	c.jumboKept = tun.Attrs().GSOIPv4MaxSize > 0 // see New
	if err := g.load(c); err != nil {
		return nil, err
	}
	// Nothing is redirected to the ingress before its program is there.
	err = g.hooks.attach(g.netlink, cfg.Attach, []hook{
		{tun, ingress, g.objects.GatewayIngress, gatewayNames + "ingress"},
		{tun, egress, g.objects.GatewayEgress, gatewayNames + "egress"},
	}, attachTCX)
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Gateway) load(c constants) (err error) {
	c.programs, c.gsoKept = gatewayPrograms, true
	if g.objects, err = loadWhole(c); err != nil {
		return &Error{"load the kernel engine", installing{err}}
	}
	return nil
}

// Put maps an IPv4 address to an IPv6 address and back. It is no error that both
// are mapped to each other already.
func (g *Gateway) Put(ipv4, ipv6 netip.Addr) error {
	if !ipv4.Is4() || !ipv6.Is6() || ipv6.Is4In6() {
		return &Error{"map a host", fmt.Errorf("%q and %q are not an IPv4 and an IPv6 address", ipv4, ipv6)}
	}
	a, n := addr6(ipv6.As16()), number4(ipv4)
	if err := g.objects.Hosts4.Put(n, a); err != nil {
		return &Error{fmt.Sprintf("map %s to %s", ipv4, ipv6), err}
	}
	if err := g.objects.Hosts6.Put(a, bpfHost{Ipv4: n}); err != nil {
		return errors.Join(&Error{fmt.Sprintf("map %s to %s", ipv6, ipv4), err}, ifThere(g.objects.Hosts4.Delete(n)))
	}
	return nil
}

// Remove removes what Put has entered, if it is there. After an error the kernel
// engine may still use the map.
func (g *Gateway) Remove(ipv4, ipv6 netip.Addr) error {
	err := errors.Join(ifThere(g.objects.Hosts6.Delete(addr6(ipv6.As16()))), ifThere(g.objects.Hosts4.Delete(number4(ipv4))))
	if err != nil {
		return &Error{fmt.Sprintf("remove the map of %s and %s", ipv6, ipv4), err}
	}
	return nil
}

// ifThere returns err unless it says that there was nothing to delete.
func ifThere(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// Seen returns 0 until the kernel engine has translated a packet from the host with
// an IPv6 address. Later it returns a number that changes when the kernel engine
// translates a packet from the host more than 640 ms after the last change.
func (g *Gateway) Seen(ipv6 netip.Addr) (uint64, error) {
	var host bpfHost
	if err := g.objects.Hosts6.Lookup(addr6(ipv6.As16()), &host); err != nil {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return 0, nil
		}
		return 0, &Error{fmt.Sprintf("read when %s last sent", ipv6), err}
	}
	return host.Seen, nil
}
