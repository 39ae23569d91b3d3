package plat

import (
	"time"
)

// reattachAfter is how long the kernel engine stays away when another program has
// removed it once more.
const reattachAfter = 10 * time.Second

// attachEngine lets the kernel translate simple packets, if it can. The caller
// holds n.mu.
func (n *NAT64) attachEngine() error {
	g, err := n.path.AttachGateway(n.table.Room())
	if err != nil {
		return err
	}
	n.attached = time.Now()
	if n.gateway = g; g != nil {
		n.table.SetMirror(g)
	}
	return nil
}

// detachEngine leaves all packets to user space. The caller holds n.mu.
func (n *NAT64) detachEngine() error {
	if n.gateway == nil {
		return nil
	}
	n.table.SetMirror(nil)
	g := n.gateway
	n.gateway = nil
	return g.Close()
}

// watchEngine pauses the kernel engine while a program captures packets on the TUN,
// and restores it where another program has removed it.
func (n *NAT64) watchEngine() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.path == nil {
		return
	}
	if changed, captured, err := n.path.FollowCaptures(); err != nil {
		n.log.Warn("cannot tell whether a program captures packets", "reason", err)
	} else if changed {
		n.log.Info("the kernel engine pauses while a program captures packets", "tun", n.config.TUN, "captured", captured)
	}
	if n.gateway == nil || n.gateway.Intact() || time.Since(n.attached) < reattachAfter {
		return
	}
	n.log.Warn("another program has removed a part of the kernel engine; restoring it", "tun", n.config.TUN)
	if err := n.detachEngine(); err != nil {
		n.log.Warn("cannot remove the rest of the kernel engine", "reason", err)
	}
	if err := n.attachEngine(); err != nil {
		n.log.Error("user space translates all packets: the kernel engine cannot be restored", "reason", err)
	}
}
