package cause

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LinkGone reports whether a step failed because a link it needs has vanished
// or gone down. EBADFD is what a TUN's file descriptor has to say of that.
func LinkGone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.Is(err, unix.EBADFD) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENETDOWN) || errors.As(err, &notFound)
}

// SourceGone reports whether err may be that of a route whose source address or
// gateway has just vanished. The kernel has no error of its own for that.
func SourceGone(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}
