package steer

import (
	"errors"
	"fmt"
	"io"

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

// attach attaches every hook the same way. tcx is attachTCX.
func (s *Steering) attach(how Attach, hooks []hook, tcx func(hook) (io.Closer, error)) error {
	s.attached = "tcx"
	if how == Clsact {
		s.attached = "clsact (as configured)"
	}
	for _, h := range hooks {
		if how != Clsact {
			link, err := tcx(h)
			if err == nil {
				s.hooks = append(s.hooks, link)
				continue
			}
			// Only the first can find that the kernel is too old.
			if how == TCX || len(s.hooks) > 0 || !errors.Is(err, ebpf.ErrNotSupported) {
				return h.error(err)
			}
			how = Clsact
			s.attached = fmt.Sprintf("clsact (%v)", err)
		}
		filter, err := attachClsact(s.netlink, h)
		if err != nil {
			return h.error(err)
		}
		s.hooks = append(s.hooks, filter)
	}
	return nil
}

func (h hook) error(err error) error {
	return &Error{fmt.Sprintf("attach %s to interface %q", h.name, h.link.Attrs().Name), err}
}
