// Package host observes and changes a Linux host for a CLAT: links, addresses,
// routes, rules and sockets by netlink, and what netlink does not show by /proc.
// [Host.Observe] returns what package plan decides by; the other methods make
// the changes that the reconciler of package clat asks for. It decides nothing.
package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/internal/cause"
	"tnat64d/internal/dump"
	"tnat64d/internal/nexthop"
)

// Host is the host as netlink shows it, in the network namespace of the thread
// that called New. It is not safe for concurrent use.
type Host struct {
	*kernel
	addresses
	links
	*routes
	rules
	lookups
	*sockets
	detections
	former
	foreign ForeignPrograms // may be nil
	// written tells of writes to sysctls, or is nil.
	written *sysctlWatch
}

// kernel are the sockets that most requests need.
type kernel struct {
	handle *netlink.Handle
	// route is a socket for the two messages about addresses that need
	// IFA_PROTO, which netlink's Addr does not have.
	route *nl.SocketHandle
}

type (
	// addresses observes and changes IPv6 and IPv4 addresses and address labels.
	addresses struct{ *kernel }
	// links observes links and sets up TUNs.
	links struct{ *routes }
	// routes observes and changes routes.
	routes struct {
		*kernel
		memory routeMemory // spares hosts with many routes
	}
	// rules observes and changes routing rules.
	rules struct{ *routes }
	// lookups asks which route the kernel would choose.
	lookups struct{ *kernel }
	// sockets lists and aborts the connections of programs.
	sockets struct {
		handle  *nl.SocketHandle // NETLINK_INET_DIAG; nil: see missing
		missing error
	}
	// former undoes what former versions have changed.
	former struct{ *routes }
)

// ForeignPrograms lists the names of the BPF programs that other programs have
// attached to a link. hidden says that there are some whose name the kernel does
// not tell.
type ForeignPrograms func(h *netlink.Handle, link int) (names []string, hidden bool, err error)

// New opens the netlink sockets. foreign may be nil: then nobody knows whether
// other CLATs have BPF programs.
func New(foreign ForeignPrograms) (*Host, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	base := &kernel{handle: h}
	rs := &routes{kernel: base}
	k := &Host{
		kernel: base, addresses: addresses{base}, links: links{rs}, routes: rs, rules: rules{rs}, lookups: lookups{base},
		sockets: &sockets{}, former: former{rs}, foreign: foreign,
	}
	if k.route, err = newSocket(unix.NETLINK_ROUTE); err != nil {
		k.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	k.sockets.handle, k.missing = newSocket(unix.NETLINK_INET_DIAG)
	if cause.Of(k.missing) == cause.Resource {
		k.Close()
		return nil, fmt.Errorf("netlink: %w", k.missing)
	}
	return k, nil
}

// Close closes the sockets.
func (k *Host) Close() {
	k.kernel.handle.Close()
	k.memory.close()
	for _, s := range []*nl.SocketHandle{k.route, k.sockets.handle} {
		if s != nil {
			s.Close()
		}
	}
}

// nexthops reads the next hops of routes that name nexthop objects.
func (k *kernel) nexthops() nexthop.Client { return nexthop.Client{Socket: k.route} }

// Handle returns the netlink handle, for package steer.
func (k *Host) Handle() *netlink.Handle { return k.kernel.handle }

// Observe looks at links, addresses and default routes.
func (k *Host) Observe() (plan.Observed, error) {
	var o plan.Observed
	links, err := whole(k.links.list)
	if err != nil {
		return o, fmt.Errorf("list links: %w", err)
	}
	if o.Addrs, err = whole(k.addresses.list); err != nil {
		return o, fmt.Errorf("list addresses: %w", err)
	}
	w, err := k.ways()
	if err != nil {
		return o, fmt.Errorf("list routes: %w", err)
	}
	o.Routes, o.OnLink4, o.Routed4 = w.defaults, w.onLink4, w.routed4
	if o.Rules, err = k.sourceRules(); err != nil {
		return o, fmt.Errorf("list rules: %w", err)
	}
	o.Links = linksOf(links)
	k.ask(&o)
	if err := k.findNotLocal(&o); err != nil {
		return o, fmt.Errorf("list local routes: %w", err)
	}
	var written []string
	for i := range o.Links {
		l := &o.Links[i]
		if err := readSysctls(l, o); err != nil {
			return o, fmt.Errorf("read the settings of %s: %w", l.Name, err)
		}
		if l.MayBeUplink() && o.HasIPv6Default(l.Index) {
			if l.Programs, l.ProgramsHidden, err = k.foreignCLATs(l.Index); err != nil {
				return o, fmt.Errorf("list the BPF programs of %s: %w", l.Name, err)
			}
			written = append(written, sysctlPath("ipv6", l.Name, sysctlDropUnicastToMany))
		}
	}
	k.written.follow(written)
	return o, nil
}

// foreignCLATs names the BPF programs of others at a link's packets that call
// themselves CLATs, as NetworkManager's do. hidden says that there may be some
// whose names the kernel does not tell. A lack of descriptors or memory is an
// error.
func (k *Host) foreignCLATs(link int) (names []string, hidden bool, err error) {
	if k.foreign == nil {
		return nil, true, nil
	}
	names, hidden, err = k.foreign(k.kernel.handle, link)
	if cause.Of(err) == cause.Resource {
		return nil, false, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.Contains(strings.ToLower(n), "clat") })
	return names, hidden || err != nil, nil
}

// whole reads a list at most ten times. A host so busy that each time the list
// changes is observed again anyway, when the changes are reported.
func whole[T any](list func() (T, error)) (T, error) { return dump.Whole(10, 0, list) }

// kind is the rtnetlink kind; netlink calls hardware "device", and tun "tuntap".
func kind(l netlink.Link) string {
	switch k := l.Type(); k {
	case "device":
		return ""
	case "tuntap":
		return "tun"
	default:
		return k
	}
}

// readSysctls reads what netlink does not tell, of the links where it matters: a
// host may have a thousand links, and this runs after every change.
func readSysctls(l *plan.Link, o plan.Observed) error {
	if o.HasIPv6Default(l.Index) || o.HasGlobalIPv6(l.Index) {
		mtu, err := sysctl("ipv6", l.Name, "mtu")
		if err != nil {
			return err
		}
		drop, err := sysctl("ipv6", l.Name, sysctlDropUnicastToMany)
		if err != nil {
			return err
		}
		l.MTU6, l.DropUnicastToMany = plan.MTU6(mtu), drop != 0
	}
	if strings.HasPrefix(l.Alias, plan.AliasPrefix) {
		for _, link := range []string{"all", l.Name} {
			n, err := sysctl("ipv4", link, "rp_filter")
			if err != nil {
				return err
			}
			l.RPFilter = max(l.RPFilter, n)
		}
	}
	return nil
}

// sysctl reads net.FAMILY.conf.LINK.KEY, in the network namespace of the
// calling thread. 0 if there is none; a lack of descriptors or memory is an error.
func sysctl(family, link, key string) (int, error) {
	b, err := os.ReadFile(sysctlPath(family, link, key))
	if err != nil {
		if cause.Of(err) == cause.Resource {
			return 0, err
		}
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, nil
	}
	return n, nil
}

// addrOf converts at the border to package net; nil becomes the zero Addr.
func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func ipNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
