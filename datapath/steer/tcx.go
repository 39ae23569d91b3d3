package steer

import (
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// attachTCX attaches in front of every other program on the hook, so that no
// verdict of theirs keeps the CLAT's packets from it. The link is not pinned
// and ends with the process.
func attachTCX(h hook) (io.Closer, error) {
	attach := ebpf.AttachTCXIngress
	if h.direction == egress {
		attach = ebpf.AttachTCXEgress
	}
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: h.link.Attrs().Index,
		Program:   h.program,
		Attach:    attach,
		Anchor:    link.Head(),
	})
	if err != nil {
		return nil, err
	}
	return tcxLink{l}, nil
}

// tcxLink is a program attached by tcx.
type tcxLink struct{ link.Link }

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
