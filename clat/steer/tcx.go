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
	return link.AttachTCX(link.TCXOptions{
		Interface: h.link.Attrs().Index,
		Program:   h.program,
		Attach:    attach,
		Anchor:    link.Head(),
	})
}
