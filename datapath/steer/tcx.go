package steer

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// errNoTCX is the error of a kernel before 6.6.
var errNoTCX = fmt.Errorf("tcx needs Linux 6.6: %w", ebpf.ErrNotSupported)

// attachTCX attaches in front of every other program on the hook, so that no
// verdict of theirs keeps the CLAT's packets from it. The link is not pinned
// and ends with the process, unless a Store has a copy. The error is errNoTCX only
// if the kernel says so; the library says so of any error.
func attachTCX(h hook) (io.Closer, error) {
	l, err := newTCX(h)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func newTCX(h hook) (l tcxLink, err error) {
	attach := ebpf.AttachTCXIngress
	if h.direction == egress {
		attach = ebpf.AttachTCXEgress
	}
	fd, err := createTCXLink(h.program, uint32(h.link.Attrs().Index), attach)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.E2BIG) {
		// A kernel with tcx looks for the interface first.
		if _, err := createTCXLink(h.program, math.MaxUint32, attach); !errors.Is(err, unix.ENODEV) {
			return l, errNoTCX
		}
	}
	if err != nil {
		return l, fmt.Errorf("tcx: %w", err)
	}
	l.Link, err = link.NewFromFD(fd) // takes fd over
	return l, err
}

// createTCXLink makes a link of a program in front of all others.
func createTCXLink(program *ebpf.Program, ifindex uint32, attach ebpf.AttachType) (fd int, err error) {
	const before = 1 << 3 // BPF_F_BEFORE, and before none: first
	// struct { prog_fd, target_ifindex, attach_type, flags, tcx.relative_fd, tcx.expected_revision }
	attr := struct {
		program, ifindex, attachType, flags, relative, _ uint32
		revision                                         uint64
	}{program: uint32(program.FD()), ifindex: ifindex, attachType: uint32(attach), flags: before}
	fd, err = bpf(unix.BPF_LINK_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(program)
	return fd, err
}

// tcxLink is a program attached by tcx.
type tcxLink struct {
	link.Link
	store Store  // has a copy; nil: none
	name  string // in the store
}

// keep puts a copy of the link into the store, which may be nil.
func (l tcxLink) keep(store Store) tcxLink {
	fd, ok := l.Link.(interface{ FD() int })
	info, err := l.Info()
	if store == nil || !ok || err != nil {
		return l
	}
	l.store, l.name = store, fmt.Sprintf("link-%d", info.ID)
	store.Keep(l.name, fd.FD())
	return l
}

// Close detaches the program. It does not wait for the store to let go of the link.
func (l tcxLink) Close() error {
	if l.store == nil {
		return l.Link.Close()
	}
	err := l.Detach()
	if errors.Is(err, unix.ENOLINK) {
		err = nil // with the interface
	}
	l.store.Drop(l.name)
	return errors.Join(err, l.Link.Close())
}

// detached reports whether somebody has (bpftool link detach), or the
// interface is gone: the link is there still, and leads nowhere.
func (l tcxLink) detached() bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	at := info.TCX()
	return at != nil && at.Ifindex == 0
}
