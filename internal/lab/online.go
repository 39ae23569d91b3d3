package lab

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settled reports whether no address of a host is tentative any more.
func settled(h *Host) (bool, error) {
	addrs, err := h.addresses("", netlink.FAMILY_V6)
	tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
	return !slices.ContainsFunc(addrs, tentative), err
}

// dump repeats a netlink dump that a change has interrupted, a few times; the
// last attempt's partial answer is then as good as any.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 5 {
		all, err := list()
		if err != netlink.ErrDumpInterrupted {
			return all, err
		}
	}
	all, err := list()
	if err == netlink.ErrDumpInterrupted {
		err = nil
	}
	return all, err
}
