package steer

import (
	"errors"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/cause"
)

// ProgramNames remembers what the programs of others are called, by their id,
// which the kernel does not use twice.
type ProgramNames map[ebpf.ProgramID]string

// maxNames bounds what is remembered on hosts that change their programs often.
const maxNames = 1024

// Foreign returns the names of the BPF programs and tc filters that are at the
// interface's packets and not ours. A name that the kernel does not tell is
// left out.
func (n ProgramNames) Foreign(h *netlink.Handle, ifindex int) ([]string, error) {
	var names []string
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
			break // before Linux 6.6
		}
		if err != nil {
			return nil, err
		}
		for _, p := range r.Programs {
			name, err := n.name(p.ID)
			if err != nil {
				return nil, err
			}
			if name != "" && !ours[name] {
				names = append(names, name)
			}
		}
	}
	clsact, err := hasClsact(h, ifindex)
	if err != nil || !clsact {
		return names, err
	}
	for _, parent := range clsactParents {
		all, err := filters(h, ifindex, parent)
		if err != nil {
			return nil, err
		}
		for _, f := range all {
			if b, ok := f.(*netlink.BpfFilter); ok && !strings.HasPrefix(b.Name, filterPrefix) {
				names = append(names, b.Name)
			}
		}
	}
	return names, nil
}

// ours are the programs of steer.c, by as much of their names as the kernel
// keeps.
var ours = map[string]bool{
	"tun_ingress": true, "tun_translate": true, "tun_egress": true, "uplink_ingress": true, "uplink_egress": true, "uplink_translat": true, "guard_ingress": true,
	"gateway_egress": true, "gateway_ingress": true,
}

// name returns "" for a program that is gone or may not be looked at.
// A lack of descriptors or memory is an error.
func (n ProgramNames) name(id ebpf.ProgramID) (string, error) {
	if name, known := n[id]; known {
		return name, nil
	}
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", ifLack(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", ifLack(err)
	}
	if len(n) >= maxNames {
		clear(n)
	}
	n[id] = info.Name
	return info.Name, nil
}

// ifLack returns err if it is a lack of something.
func ifLack(err error) error {
	if cause.Of(err) == cause.Resource {
		return err
	}
	return nil
}

func hasClsact(h *netlink.Handle, ifindex int) (bool, error) {
	qdiscs, err := dump(func() ([]netlink.Qdisc, error) {
		return h.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: ifindex}})
	})
	if err != nil {
		return false, err
	}
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			return true, nil
		}
	}
	return false, nil
}
