// Package cause sorts errors of the kernel by what to do about them. Libraries
// wrap, join and translate them; a lack of descriptors or memory must never be
// taken for an answer to the question whether the kernel can do something.
package cause

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Class is what to do about an error.
type Class uint8

const (
	// Other errors are reported, and the step is tried again like any that fails.
	Other Class = iota
	// Resource: descriptors, memory or time are lacking at the moment. The step
	// is retried with backoff, and nothing is concluded from it.
	Resource
	// Refused: the kernel does not do this, or not for this process.
	Refused
	// Gone: what the step needs has vanished. Look again.
	Gone
)

// String returns the name in lower case.
func (c Class) String() string { return [...]string{"other", "resource", "refused", "gone"}[c] }

// Lack is the error of a step that was not tried, because too little of
// something is left. It is of class Resource.
type Lack struct {
	What string // "34 file descriptors are needed, RLIMIT_NOFILE is 40"
	Err  error  // of the kernel
}

func (e *Lack) Error() string { return e.What }
func (e *Lack) Unwrap() error { return e.Err }

var (
	resource = []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EAGAIN, unix.EINTR, netlink.ErrDumpInterrupted}
	gone     = []error{unix.ENODEV, unix.ENXIO, unix.ENETDOWN, unix.ENOENT, unix.ESRCH, unix.EBADFD, unix.EBADF, fs.ErrNotExist, os.ErrClosed}
	refused  = []error{
		unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS, unix.E2BIG, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT,
		unix.ESOCKTNOSUPPORT, unix.ENOPROTOOPT, unix.Errno(524), // ENOTSUPP, which leaks out of the kernel
		errors.ErrUnsupported, fs.ErrPermission, ebpf.ErrNotSupported,
	}
)

// Of returns the class of err. Where several errors are joined a lack of
// resources counts first: it may be the reason of the others.
func Of(err error) Class {
	is := func(targets []error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var lack *Lack
	var verifier *ebpf.VerifierError
	var noLink netlink.LinkNotFoundError
	switch {
	case err == nil:
		return Other
	case errors.As(err, &lack), is(resource):
		return Resource
	case errors.As(err, &noLink), is(gone):
		return Gone
	case errors.As(err, &verifier), is(refused):
		return Refused
	}
	return Other
}
