package steer

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// Attach selects how programs are attached.
type Attach uint8

const (
	Auto   Attach = iota // tcx, or clsact where the kernel has no tcx
	TCX                  // kernel 6.6
	Clsact               // kernel 5.10
)

type direction uint8

const (
	ingress direction = iota
	egress
)

// hook is a place in the packet path and the program that goes there.
type hook struct {
	link      netlink.Link
	direction direction
	program   *ebpf.Program
	name      string // of the program, for people
}

// attachment is what is attached, in that order, and by what.
type attachment struct {
	hooks []io.Closer
	by    string // "tcx", or "clsact" and in brackets why not tcx

	attached  []*ebpf.Program
	known     *Programs  // is told of them; may be nil
	inherited *Inherited // may have filters of a former process; may be nil
}

// attach attaches every hook the same way. tcx is attachTCX.
func (a *attachment) attach(h *netlink.Handle, how Attach, hooks []hook, tcx func(hook) (io.Closer, error)) error {
	a.by = "tcx"
	if how == Clsact {
		a.by = "clsact (as configured)"
	}
	for _, at := range hooks {
		a.attached = append(a.attached, at.program)
		a.known.addOwn(at.program)
		if how != Clsact {
			link, err := tcx(at)
			if err == nil {
				a.hooks = append(a.hooks, link)
				continue
			}
			// Only the first can find that the kernel is too old.
			if how == TCX || len(a.hooks) > 0 || !errors.Is(err, ebpf.ErrNotSupported) {
				return at.error(err)
			}
			how = Clsact
			a.by = fmt.Sprintf("clsact (%v)", err)
		}
		filter, err := a.inherited.attachClsact(h, at)
		if err != nil {
			return at.error(err)
		}
		a.hooks = append(a.hooks, filter)
	}
	return nil
}

// intact reports whether everything is where it was attached. What cannot be
// found out is taken for granted.
func (a *attachment) intact() bool {
	return !slices.ContainsFunc(a.hooks, func(h io.Closer) bool {
		d, ok := h.(interface{ detached() bool })
		return ok && d.detached()
	})
}

// Close detaches the last first.
func (a *attachment) Close() error {
	var errs []error
	for _, h := range slices.Backward(a.hooks) {
		if err := h.Close(); err != nil {
			errs = append(errs, &Error{"detach the BPF programs", err})
		}
	}
	for _, p := range a.attached {
		a.known.removeOwn(p)
	}
	a.hooks, a.attached = nil, nil
	return errors.Join(errs...)
}

func (h hook) error(err error) error {
	return &Error{fmt.Sprintf("attach %s to interface %q", h.name, h.link.Attrs().Name), installing{err}}
}
