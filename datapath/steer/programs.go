package steer

import (
	"errors"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/cause"
	"tnat64d/internal/dump"
)

// Programs tells the BPF programs of this process from those of others. It
// remembers programs by their id, which the kernel does not use twice. It is not
// safe for concurrent use.
type Programs struct {
	names map[ebpf.ProgramID]string // of programs of others
	own   map[ebpf.ProgramID]bool
}

// NewPrograms returns Programs that knows none yet.
func NewPrograms() *Programs {
	return &Programs{names: map[ebpf.ProgramID]string{}, own: map[ebpf.ProgramID]bool{}}
}

// maxNames bounds what is remembered on hosts that change their programs often.
const maxNames = 1024

// Foreign returns the names of the BPF programs and tc filters that other
// programs have attached to the interface. hidden says that there are some
// whose name the kernel does not tell: that takes CAP_SYS_ADMIN.
func (n *Programs) Foreign(h *netlink.Handle, ifindex int) (names []string, hidden bool, err error) {
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
			break // before Linux 6.6
		}
		if err != nil {
			return nil, false, err
		}
		for _, p := range r.Programs {
			if n.own[p.ID] {
				continue
			}
			name, err := n.name(p.ID)
			switch {
			case errors.Is(err, os.ErrNotExist): // it has gone meanwhile
			case cause.Of(err) == cause.Resource:
				return nil, false, err
			case err != nil:
				hidden = true
			case !ours[name]:
				names = append(names, name)
			}
		}
	}
	clsact, err := hasClsact(h, ifindex)
	if err != nil || !clsact {
		return names, hidden, err
	}
	for _, parent := range clsactParents {
		all, err := filters(h, ifindex, parent)
		if err != nil {
			return nil, false, err
		}
		for _, f := range all {
			if b, ok := f.(*netlink.BpfFilter); ok && !strings.HasPrefix(b.Name, filterPrefix) {
				names = append(names, b.Name)
			}
		}
	}
	return names, hidden, nil
}

// addOwn notes that a program is of this process. n may be nil.
func (n *Programs) addOwn(p *ebpf.Program) {
	if id, ok := programID(p); ok && n != nil {
		n.own[id] = true
	}
}

// removeOwn forgets a program that addOwn has noted.
func (n *Programs) removeOwn(p *ebpf.Program) {
	if id, ok := programID(p); ok && n != nil {
		delete(n.own, id)
	}
}

func programID(p *ebpf.Program) (ebpf.ProgramID, bool) {
	info, err := p.Info()
	if err != nil {
		return 0, false
	}
	return info.ID()
}

// ours are the programs of steer.c, by as much of their names as the kernel
// keeps.
var ours = map[string]bool{
	"tun_ingress": true, "tun_translate": true, "tun_egress": true, "uplink_ingress": true, "uplink_egress": true, "uplink_translat": true, "guard_ingress": true,
	"gateway_egress": true, "gateway_ingress": true,
	"sharing_tun_ing": true, "sharing_tun_tra": true, "sharing_tun_egr": true, "sharing_ingress": true, "sharing_egress": true, "sharing_transla": true,
}

// name returns the name of a program.
func (n *Programs) name(id ebpf.ProgramID) (string, error) {
	if name, known := n.names[id]; known {
		return name, nil
	}
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", err
	}
	if len(n.names) >= maxNames {
		clear(n.names)
	}
	n.names[id] = info.Name
	return info.Name, nil
}

func hasClsact(h *netlink.Handle, ifindex int) (bool, error) {
	qdiscs, err := dump.Whole(5, 0, func() ([]netlink.Qdisc, error) {
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
