package steer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"tnat64d/internal/dump"
)

// inheritedFilter is a tc filter of a former process. It is in no store: the kernel
// keeps it as long as the interface is there.
type inheritedFilter struct {
	netlink   *netlink.Handle
	filter    *netlink.BpfFilter
	direction direction
}

func (f inheritedFilter) ifindex() int { return f.filter.LinkIndex }

// remove removes the filter, and the qdisc if it was made for it and is empty.
func (f inheritedFilter) remove() error {
	return removeFilters(f.netlink, f.ifindex(), func(b *netlink.BpfFilter) bool { return b.Id == f.filter.Id })
}

// FindFilters takes over the tc filters of the former process as well, on every
// interface of the namespace of h, which must outlive i. Whoever has nothing else of
// that process calls [CleanUp] instead.
func (i *Inherited) FindFilters(h *netlink.Handle) error {
	if i == nil {
		return nil
	}
	qdiscs, err := dump.Whole(5, 0, func() ([]netlink.Qdisc, error) { return h.QdiscList(nil) })
	if err != nil {
		return &Error{"list the qdiscs", err}
	}
	for _, q := range qdiscs {
		if q.Type() != "clsact" {
			continue
		}
		for direction, parent := range clsactParents {
			all, err := filters(h, q.Attrs().LinkIndex, parent)
			if err != nil {
				return &Error{fmt.Sprintf("look for filters on interface %d", q.Attrs().LinkIndex), err}
			}
			for _, f := range all {
				if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, filterPrefix) && !strings.HasPrefix(b.Name, filterPrefix+gatewayNames) {
					i.filters = append(i.filters, inheritedFilter{h, b, direction})
				}
			}
		}
	}
	return nil
}

// HasFilters reports whether there are tc filters that nobody has taken over yet.
func (i *Inherited) HasFilters() bool { return i != nil && len(i.filters) > 0 }

// attachClsact attaches a hook by clsact: where a filter is inherited, its program is
// exchanged.
func (i *Inherited) attachClsact(h *netlink.Handle, at hook) (*clsactFilter, error) {
	if f := i.takeFilter(at); f != nil {
		made, err := f.exchange(h, at)
		if err == nil {
			return made, nil
		}
		if !isGone(err) {
			return nil, errors.Join(fmt.Errorf("exchange the program of a tc filter: %w", err), f.remove())
		}
	}
	return attachClsact(h, at)
}

// takeFilter removes the filter of that hook from i and returns it, or nil.
func (i *Inherited) takeFilter(at hook) *inheritedFilter {
	if i == nil {
		return nil
	}
	n := slices.IndexFunc(i.filters, func(f inheritedFilter) bool {
		return f.ifindex() == at.link.Attrs().Index && f.direction == at.direction
	})
	if n < 0 {
		return nil
	}
	f := i.filters[n]
	i.filters = slices.Delete(i.filters, n, n+1)
	return &f
}

// exchange replaces the program of the filter. Each packet sees one or the other.
func (f *inheritedFilter) exchange(h *netlink.Handle, at hook) (*clsactFilter, error) {
	info, err := at.program.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.ID()
	name := filterPrefix + at.name
	if strings.HasSuffix(f.filter.Name, madeQdiscSuffix) {
		name += madeQdiscSuffix
	}
	err = h.FilterReplace(&netlink.BpfFilter{FilterAttrs: f.filter.FilterAttrs, Fd: at.program.FD(), Name: name, DirectAction: true})
	if err != nil {
		return nil, err
	}
	return &clsactFilter{netlink: h, ifindex: f.ifindex(), program: int(id)}, nil
}

// removeFilters removes the filters of an interface, or of all for 0, that nobody has
// taken over.
func (i *Inherited) removeFilters(ifindex int) (errs []error) {
	i.filters = slices.DeleteFunc(i.filters, func(f inheritedFilter) bool {
		if ifindex != 0 && f.ifindex() != ifindex {
			return false
		}
		errs = append(errs, f.remove())
		return true
	})
	return errs
}

// filterPrograms lists the programs of the filters.
func (i *Inherited) filterPrograms() (ids []ebpf.ProgramID) {
	for _, f := range i.filters {
		ids = append(ids, ebpf.ProgramID(f.filter.Id))
	}
	return ids
}
