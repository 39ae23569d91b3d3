package clat

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ObserveForwarding adds to an observation what matters while the kernel
// forwards. o.Memory must be complete.
func (k *Kernel) ObserveForwarding(o *Observed) error {
	f := &ForwardingState{Sysctls: map[Sysctl]int{}}
	names := []string{allLinks, newLinks}
	for _, l := range o.Links {
		names = append(names, l.Name)
	}
	for _, name := range names {
		for _, key := range sysctlKeys {
			s := Sysctl{name, key}
			if v, err := k.Sysctl(s); err == nil {
				f.Sysctls[s] = v
			}
		}
	}
	var err error
	if f.Diverted, err = k.diverted(o.Memory.Own); err != nil {
		return fmt.Errorf("observe forwarding: %w", err)
	}
	rules, err := k.ourRules()
	if err != nil {
		return fmt.Errorf("observe forwarding: %w", err)
	}
	f.Rule = len(rules) > 0
	o.Forwarding = f
	return nil
}

// ourRules lists the rules that AddRule has added. A kernel without IPv6
// policy routing has none.
func (k *Kernel) ourRules() ([]netlink.Rule, error) {
	all, err := retryDump(func() ([]netlink.Rule, error) { return k.handle.RuleList(unix.AF_INET6) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil
	}
	return slices.DeleteFunc(all, func(r netlink.Rule) bool { return r.Protocol != Protocol || r.Table != TableForwarding }), err
}

// AddRule adds the rule of which there is to be one.
func (k *Kernel) AddRule(tun string) error {
	if err := k.handle.RuleAdd(forwardingRule(tun)); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// DelRule removes what AddRule has added.
func (k *Kernel) DelRule(tun string) error {
	if err := k.handle.RuleDel(forwardingRule(tun)); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

func forwardingRule(tun string) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Protocol = unix.AF_INET6, Protocol
	r.Priority, r.Table, r.IifName = TableForwarding, TableForwarding, tun
	return r
}

// cleanUpWay removes rules and routes of TableForwarding that are ours.
func (k *Kernel) cleanUpWay(o Observed) error {
	rules, err := k.ourRules()
	errs := []error{err}
	for _, r := range rules {
		errs = append(errs, k.DelRule(r.IifName))
	}
	for _, r := range o.Routes {
		if r.IPv6 && r.Protocol == Protocol && r.Table == TableForwarding {
			errs = append(errs, k.DelRoute(r))
		}
	}
	return errors.Join(errs...)
}

// diverted lists our routes into TUNs, without those for the addresses own
// that are delivered locally or have no proxy entry.
func (k *Kernel) diverted(own []netip.Addr) ([]Diversion, error) {
	routes, err := k.listRoutes(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, 0)
	if err != nil {
		return nil, err
	}
	proxies, err := retryDump(func() ([]netlink.Neigh, error) { return k.handle.NeighProxyList(0, unix.AF_INET6) })
	if err != nil {
		return nil, err
	}
	var ds []Diversion
	local := map[netip.Prefix]bool{}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		p := netip.PrefixFrom(addrOf(r.Dst.IP), ones)
		switch {
		case r.Type == unix.RTN_LOCAL:
			local[p] = true
		case r.Type == unix.RTN_UNICAST && r.Protocol == Protocol:
			ds = append(ds, Diversion{Prefix: p, TUN: r.LinkIndex, Source: addrOf(r.Src)})
		}
	}
	var complete []Diversion
	for _, d := range ds {
		if d.Prefix.IsSingleIP() && slices.Contains(own, d.Prefix.Addr()) {
			i := slices.IndexFunc(proxies, func(n netlink.Neigh) bool { return addrOf(n.IP) == d.Prefix.Addr() })
			if i < 0 || local[d.Prefix] {
				continue
			}
			d.Uplink = proxies[i].LinkIndex
		}
		complete = append(complete, d)
	}
	return complete, nil
}

// Sysctl reads s, in the network namespace of the calling thread.
func (k *Kernel) Sysctl(s Sysctl) (int, error) {
	b, err := os.ReadFile(s.path())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(b)))
}

// SetSysctl writes s. The kernel lets CAP_NET_ADMIN do so.
func (k *Kernel) SetSysctl(s Sysctl, value int) error {
	f, err := os.OpenFile(s.path(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(value))
	return errors.Join(err, f.Close())
}

// Divert leads d.Prefix into the TUN.
func (k *Kernel) Divert(d Diversion) error {
	if d.Uplink != 0 {
		if err := k.handle.NeighSet(proxy(d.Uplink, d.Prefix.Addr())); err != nil {
			return fmt.Errorf("proxy neighbour %s: %w", d.Prefix.Addr(), err)
		}
	}
	if err := k.handle.RouteReplace(diversionRoute(d)); err != nil {
		return fmt.Errorf("route %s: %w", d.Prefix, err)
	}
	if d.Uplink != 0 {
		err := k.handle.RouteDel(&netlink.Route{
			LinkIndex: d.Uplink, Dst: ipNet(d.Prefix.Addr()), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL,
		})
		if err := unlessGone(err); err != nil {
			return fmt.Errorf("local route %s: %w", d.Prefix, err)
		}
	}
	return nil
}

// Undivert takes back what Divert does, except that the address is not
// delivered locally again.
func (k *Kernel) Undivert(d Diversion) error {
	err := unlessGone(k.handle.RouteDel(diversionRoute(d)))
	if d.Uplink != 0 {
		err = errors.Join(err, k.delProxy(d.Uplink, d.Prefix.Addr()))
	}
	return err
}

func (k *Kernel) delProxy(link int, a netip.Addr) error {
	if err := k.handle.NeighDel(proxy(link, a)); !errors.Is(err, unix.ENOENT) {
		return unlessGone(err)
	}
	return nil
}

// Leads returns the link by which the kernel forwards what comes from a TUN.
func (k *Kernel) Leads(tun int, src, dst netip.Addr) (int, error) {
	rs, err := k.handle.RouteGetWithOptions(net.IP(dst.AsSlice()), &netlink.RouteGetOptions{IifIndex: tun, SrcAddr: net.IP(src.AsSlice())})
	if err != nil || len(rs) == 0 {
		return 0, err
	}
	return rs[0].LinkIndex, nil
}

func proxy(link int, a netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link, Family: unix.AF_INET6, Flags: netlink.NTF_PROXY, IP: a.AsSlice()}
}

func diversionRoute(d Diversion) *netlink.Route {
	r := &netlink.Route{
		LinkIndex: d.TUN, Dst: &net.IPNet{IP: d.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(d.Prefix.Bits(), 128)},
		// A metric that nobody else uses: RouteReplace replaces only ours.
		Priority: TableForwarding, Table: unix.RT_TABLE_LOCAL, Protocol: Protocol, Type: unix.RTN_UNICAST,
	}
	if d.Source.IsValid() {
		r.Src = d.Source.AsSlice()
	}
	return r
}
