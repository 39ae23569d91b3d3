package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Snapshot is what can be said of a host's network configuration, one fact a
// line, sorted. Lifetimes, statistics and the neighbour cache are left out:
// they change by themselves.
type Snapshot []string

// Diff returns what is in one of the two and not in the other, "- " before
// lines that are gone and "+ " before new ones.
func (before Snapshot) Diff(after Snapshot) []string {
	var diff []string
	for _, line := range before {
		if _, ok := slices.BinarySearch(after, line); !ok {
			diff = append(diff, "- "+line)
		}
	}
	for _, line := range after {
		if _, ok := slices.BinarySearch(before, line); !ok {
			diff = append(diff, "+ "+line)
		}
	}
	return diff
}

// Snapshot records the host's links, addresses, routes of all tables, rules, address labels,
// multicast groups, proxy neighbours, queueing disciplines and programs.
func (h *Host) Snapshot() (Snapshot, error) {
	links, err := whole(h.Netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("links of %s: %w", h.Name, err)
	}
	var s Snapshot
	name := map[int]string{0: "-"}
	for _, l := range links {
		a := l.Attrs()
		name[a.Index] = a.Name
		s = append(s, fmt.Sprintf("link %s type %s mtu %d flags %s alias %q", a.Name, l.Type(), a.MTU, a.Flags, a.Alias))
	}
	err = steps(
		func() error { return s.addAddresses(h, name) },
		func() error { return s.addRoutes(h, name) },
		func() error { return s.addRules(h) },
		func() error { return s.addLabels(h) },
		func() error { return s.addProxies(h, name) },
		func() error { return s.addPrograms(h, links) },
		func() error { return s.addGroups(h) },
	)
	if err != nil {
		return nil, fmt.Errorf("snapshot of %s: %w", h.Name, err)
	}
	slices.Sort(s)
	return slices.Compact(s), nil
}

func (s *Snapshot) addf(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

func (s *Snapshot) addAddresses(h *Host, name map[int]string) error {
	addrs, err := whole(func() ([]netlink.Addr, error) { return h.Netlink.AddrList(nil, netlink.FAMILY_ALL) })
	for _, a := range addrs {
		s.addf("address %s %s scope %d flags %#x", name[a.LinkIndex], a.IPNet, a.Scope, a.Flags)
	}
	return err
}

func (s *Snapshot) addRoutes(h *Host, name map[int]string) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := whole(func() ([]netlink.Route, error) {
			return h.Netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return err
		}
		for _, r := range routes {
			s.addf("route table %d type %d %v via %v dev %s src %v metric %d protocol %d mtu %d",
				r.Table, r.Type, r.Dst, r.Gw, name[r.LinkIndex], r.Src, r.Priority, r.Protocol, r.MTU)
		}
	}
	return nil
}

func (s *Snapshot) addRules(h *Host) error {
	rules, err := whole(func() ([]netlink.Rule, error) { return h.Netlink.RuleList(netlink.FAMILY_ALL) })
	for _, r := range rules {
		s.addf("rule family %d %s", r.Family, r)
	}
	return err
}

// addLabels records the policy table of RFC 6724.
func (s *Snapshot) addLabels(h *Host) error {
	return h.Do(func() error {
		labels, err := whole(func() ([][]byte, error) {
			req := nl.NewNetlinkRequest(unix.RTM_GETADDRLABEL, unix.NLM_F_DUMP)
			req.AddRawData(append([]byte{unix.AF_INET6}, make([]byte, 11)...)) // struct ifaddrlblmsg
			return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDRLABEL)
		})
		for _, m := range labels {
			if len(m) < 12 {
				continue
			}
			attrs, err := nl.ParseRouteAttr(m[12:])
			if err != nil {
				return err
			}
			var a netip.Addr
			var label []byte
			for _, at := range attrs {
				switch at.Attr.Type {
				case 1: // IFAL_ADDRESS
					a, _ = netip.AddrFromSlice(at.Value)
				case 2: // IFAL_LABEL
					label = at.Value
				}
			}
			s.addf("address label %s/%d %x", a, m[2], label)
		}
		return err
	})
}

func (s *Snapshot) addProxies(h *Host, name map[int]string) error {
	neighs, err := whole(func() ([]netlink.Neigh, error) { return h.Netlink.NeighProxyList(0, netlink.FAMILY_ALL) })
	for _, n := range neighs {
		s.addf("proxy neighbour %s dev %s", n.IP, name[n.LinkIndex])
	}
	return err
}

// addPrograms records qdiscs, and BPF programs at the tc hook by clsact and tcx.
func (s *Snapshot) addPrograms(h *Host, links []netlink.Link) error {
	for _, l := range links {
		a := l.Attrs()
		qdiscs, err := whole(func() ([]netlink.Qdisc, error) { return h.Netlink.QdiscList(l) })
		if err != nil {
			return err
		}
		for _, q := range qdiscs {
			s.addf("qdisc %s %s", a.Name, q.Type())
		}
		for side, parent := range map[string]uint32{"ingress": netlink.HANDLE_MIN_INGRESS, "egress": netlink.HANDLE_MIN_EGRESS} {
			filters, err := whole(func() ([]netlink.Filter, error) { return h.Netlink.FilterList(l, parent) })
			if err != nil {
				continue // no such hook
			}
			for _, f := range filters {
				s.addf("filter %s %s %s", a.Name, side, f.Type())
			}
		}
		for side, attach := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
			var programs int
			err := h.Do(func() error {
				r, err := link.QueryPrograms(link.QueryOptions{Target: a.Index, Attach: attach})
				if err == nil {
					programs = len(r.Programs)
				}
				return err
			})
			if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EPERM) {
				continue // before Linux 6.6 there is no tcx; an interface may be gone by now
			}
			if err != nil {
				return fmt.Errorf("tcx programs of %s: %w", a.Name, err)
			}
			if programs > 0 {
				s.addf("tcx %s %s %d programs", a.Name, side, programs)
			}
		}
	}
	return nil
}

// addGroups records the IPv6 multicast groups of the interfaces, among them
// the solicited-node group of every address.
func (s *Snapshot) addGroups(h *Host) error {
	return h.Do(func() error {
		data, err := os.ReadFile("/proc/thread-self/net/igmp6")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 2 {
				s.addf("group %s %s", f[1], f[2])
			}
		}
		return nil
	})
}

// Sysctls reads everything below /proc/sys/net of the host. Entries that
// cannot be read (write-only, unset secrets) are left out.
func (h *Host) Sysctls() (Snapshot, error) {
	var s Snapshot
	err := h.Do(func() error {
		return filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // an interface has just gone
			}
			if err != nil || d.IsDir() {
				return err
			}
			if value, err := os.ReadFile(path); err == nil {
				s.addf("%s = %s", strings.TrimPrefix(path, "/proc/sys/"), strings.TrimSpace(string(value)))
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("sysctls of %s: %w", h.Name, err)
	}
	slices.Sort(s)
	return s, nil
}
