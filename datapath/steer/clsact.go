package steer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/dump"
)

// A filter outlives the process that made it, so its name says all that a
// successor must know: whose it is, and whether the clsact qdisc it hangs on
// was made for it.
const (
	filterPrefix    = "tnat64d_"
	madeQdiscSuffix = "_made_qdisc"
	gatewayNames    = "gateway_" // begins the names of a gateway's programs
)

// filterPriority comes before the priorities that the kernel gives out itself
// (49152 and less) and leaves room in front for those who ask to be first.
const filterPriority = 64

var clsactParents = map[direction]uint32{
	ingress: netlink.HANDLE_MIN_INGRESS,
	egress:  netlink.HANDLE_MIN_EGRESS,
}

// clsactFilter is an attached program. Its name and its program tell it from
// all other filters.
type clsactFilter struct {
	netlink *netlink.Handle
	ifindex int
	program int // id
}

// attachClsact adds a direct-action filter and, if there is none, the qdisc.
func attachClsact(h *netlink.Handle, at hook) (_ *clsactFilter, err error) {
	ifindex, parent := at.link.Attrs().Index, clsactParents[at.direction]
	info, err := at.program.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.ID()

	name := filterPrefix + at.name
	made, err := ensureClsact(h, ifindex)
	if err != nil {
		return nil, err
	}
	if made {
		name += madeQdiscSuffix
		defer func() {
			if err != nil {
				err = errors.Join(err, removeClsactIfEmpty(h, ifindex))
			}
		}()
	}

	others, err := filters(h, ifindex, parent)
	if err != nil {
		return nil, err
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex,
			Parent:    parent,
			Priority:  freePriority(others),
			Protocol:  unix.ETH_P_ALL,
		},
		Fd:           at.program.FD(),
		Name:         name,
		DirectAction: true,
	}
	if err := h.FilterAdd(filter); err != nil {
		return nil, fmt.Errorf("add a tc filter: %w", err)
	}
	return &clsactFilter{netlink: h, ifindex: ifindex, program: int(id)}, nil
}

// detached reports whether somebody has removed the filter, or the qdisc with
// everything on it.
func (f *clsactFilter) detached() bool {
	for _, parent := range clsactParents {
		all, err := filters(f.netlink, f.ifindex, parent)
		if err != nil {
			return false
		}
		if slices.ContainsFunc(all, func(o netlink.Filter) bool {
			b, ok := o.(*netlink.BpfFilter)
			return ok && b.Id == f.program
		}) {
			return false
		}
	}
	return true
}

// Close removes the filter, and the qdisc if it was made for it and is empty.
func (f *clsactFilter) Close() error {
	return removeFilters(f.netlink, f.ifindex, func(b *netlink.BpfFilter) bool { return b.Id == f.program })
}

// CleanUp removes the filters that a killed predecessor left on any interface
// of h's network namespace, and the clsact qdiscs that it had made and nobody
// else uses by now. Those of a living tnat64d in the same namespace are
// removed too: call it before New and only if there is none. It does nothing,
// and needs no rights, where nothing was left. One thing escapes it: an empty
// qdisc whose maker died before it could add the filter; it is harmless.
func CleanUp(h *netlink.Handle) error {
	qdiscs, err := dump.Whole(5, 0, func() ([]netlink.Qdisc, error) { return h.QdiscList(nil) })
	if err != nil {
		return &Error{"list the qdiscs", err}
	}
	var errs []error
	for _, q := range qdiscs {
		if q.Type() != "clsact" {
			continue
		}
		ifindex := q.Attrs().LinkIndex
		// Those of a gateway go with its TUN.
		match := func(b *netlink.BpfFilter) bool { return !strings.HasPrefix(b.Name, filterPrefix+gatewayNames) }
		if err := removeFilters(h, ifindex, match); err != nil {
			errs = append(errs, &Error{fmt.Sprintf("clean up interface %d", ifindex), err})
		}
	}
	return errors.Join(errs...)
}

// removeFilters removes our filters that match from both directions of an
// interface, and then the qdisc, if one of them says that we made it and no
// filter of anybody is left. An interface that is gone is no error.
func removeFilters(h *netlink.Handle, ifindex int, match func(*netlink.BpfFilter) bool) error {
	made := false
	for _, parent := range clsactParents {
		all, err := filters(h, ifindex, parent)
		if err != nil {
			return err
		}
		for _, f := range all {
			b, ok := f.(*netlink.BpfFilter)
			if !ok || !strings.HasPrefix(b.Name, filterPrefix) || !match(b) {
				continue
			}
			if err := h.FilterDel(b); err != nil && !isGone(err) {
				return fmt.Errorf("remove tc filter %q: %w", b.Name, err)
			}
			made = made || strings.HasSuffix(b.Name, madeQdiscSuffix)
		}
	}
	if !made {
		return nil
	}
	return removeClsactIfEmpty(h, ifindex)
}

// ensureClsact adds the qdisc if it is missing. It says whether the qdisc is
// ours: made now, or by another Steering that is still attached.
func ensureClsact(h *netlink.Handle, ifindex int) (ours bool, err error) {
	err = h.QdiscAdd(&netlink.Clsact{QdiscAttrs: clsactAttrs(ifindex)})
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("add the clsact qdisc: %w", err)
	}
	qdiscs, err := dump.Whole(5, 0, func() ([]netlink.Qdisc, error) { return h.QdiscList(nil) })
	if err != nil {
		return false, fmt.Errorf("list the qdiscs: %w", err)
	}
	for _, q := range qdiscs {
		if q.Attrs().LinkIndex == ifindex && q.Type() == "ingress" {
			return false, errors.New("an ingress qdisc takes the place of the clsact qdisc")
		}
	}
	for _, parent := range clsactParents {
		all, err := filters(h, ifindex, parent)
		if err != nil {
			return false, err
		}
		for _, f := range all {
			if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, filterPrefix) && strings.HasSuffix(b.Name, madeQdiscSuffix) {
				return true, nil
			}
		}
	}
	return false, nil
}

func removeClsactIfEmpty(h *netlink.Handle, ifindex int) error {
	for _, parent := range clsactParents {
		all, err := filters(h, ifindex, parent)
		if err != nil {
			return err
		}
		if len(all) > 0 {
			return nil
		}
	}
	if err := h.QdiscDel(&netlink.Clsact{QdiscAttrs: clsactAttrs(ifindex)}); err != nil && !isGone(err) {
		return fmt.Errorf("remove the clsact qdisc: %w", err)
	}
	return nil
}

func clsactAttrs(ifindex int) netlink.QdiscAttrs {
	return netlink.QdiscAttrs{
		LinkIndex: ifindex,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}
}

// filters lists what hangs on one direction of an interface.
func filters(h *netlink.Handle, ifindex int, parent uint32) ([]netlink.Filter, error) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	all, err := dump.Whole(5, 0, func() ([]netlink.Filter, error) { return h.FilterList(link, parent) })
	if err != nil {
		return nil, fmt.Errorf("list the tc filters: %w", err)
	}
	return all, nil
}

// freePriority returns the first priority from filterPriority on that nobody
// uses: filters of different kinds cannot share one.
func freePriority(others []netlink.Filter) uint16 {
	used := make(map[uint16]bool)
	for _, f := range others {
		used[f.Attrs().Priority] = true
	}
	p := uint16(filterPriority)
	for used[p] {
		p++
	}
	return p
}

// isGone says whether a removal failed because the interface (ENODEV), the
// qdisc (EINVAL for its filters) or the filter (ENOENT) is not there.
func isGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}
