package lab

import (
	"errors"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/dump"
)

// settled reports whether no address of a host is tentative any more.
func settled(h *Host) (bool, error) {
	addrs, err := h.addresses("", netlink.FAMILY_V6)
	tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
	return !slices.ContainsFunc(addrs, tentative), err
}

// whole reads a list at most six times; the last answer counts even if the list
// changed meanwhile.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	all, err := dump.Whole(6, 0, list)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return all, err
}
