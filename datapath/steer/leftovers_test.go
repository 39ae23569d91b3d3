package steer

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// haveTCX asks for the programs on the loopback device, which a kernel before
// 6.6 does not understand.
func haveTCX() bool {
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress})
	return err == nil || errors.Is(err, os.ErrPermission)
}

// leftovers lists every clsact qdisc, tc filter and tcx program of a host.
func (h *host) leftovers(t *testing.T) (found []string) {
	t.Helper()
	h.do(t, func() error {
		tcx := []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress}
		if !haveTCX() {
			tcx = nil
		}
		links, err := h.nl.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			name, index := l.Attrs().Name, l.Attrs().Index
			qdiscs, err := h.nl.QdiscList(l)
			if err != nil {
				return err
			}
			for _, q := range qdiscs {
				if q.Type() == "clsact" || q.Type() == "ingress" {
					found = append(found, fmt.Sprintf("%s: %s", name, q.Type()))
				}
			}
			for d, parent := range clsactParents {
				all, err := h.nl.FilterList(l, parent)
				if err != nil {
					return err
				}
				for _, f := range all {
					found = append(found, fmt.Sprintf("%s: filter %d %v", name, d, f))
				}
			}
			for _, at := range tcx {
				r, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: at})
				if err != nil {
					return fmt.Errorf("%s: %v: %w", name, at, err)
				}
				for _, p := range r.Programs {
					found = append(found, fmt.Sprintf("%s: tcx %v program %d", name, at, p.ID))
				}
			}
		}
		return nil
	})
	return found
}

func (l *lab) nothingLeft(t *testing.T) {
	t.Helper()
	for _, f := range l.laptop.leftovers(t) {
		t.Errorf("left behind: %s", f)
	}
}
