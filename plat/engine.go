package plat

import (
	"log/slog"
	"time"

	"tnat64d/datapath"
)

// reattachAfter is how long the kernel engine stays away when another program has
// removed it once more.
const reattachAfter = 10 * time.Second

// kernelEngine is the kernel engine of a NAT64's datapath, which translates simple
// packets by the maps of the table. The lock of the NAT64 guards it.
type kernelEngine struct {
	path     *datapath.Path
	table    *Table
	tun      string
	log      *slog.Logger
	gateway  *datapath.Gateway // nil: user space translates all packets
	attached time.Time         // of gateway
}

// attach lets the kernel translate, if it can.
func (k *kernelEngine) attach() error {
	g, err := k.path.AttachGateway(k.table.Room())
	if err != nil {
		return err
	}
	k.attached = time.Now()
	if k.gateway = g; g != nil {
		k.table.SetMirror(g)
	}
	return nil
}

// detach leaves all packets to user space.
func (k *kernelEngine) detach() error {
	if k.gateway == nil {
		return nil
	}
	k.table.SetMirror(nil)
	g := k.gateway
	k.gateway = nil
	return g.Close()
}

// watch pauses the engine while a program captures packets on the TUN, and
// restores it where another program has removed it.
func (k *kernelEngine) watch() {
	switch changed, captured, err := k.path.FollowCaptures(); {
	case err != nil:
		k.log.Warn("cannot pause or resume the kernel engine", "tun", k.tun, "reason", err)
	case !changed:
	case captured:
		k.log.Info("a program captures packets; the kernel engine pauses", "tun", k.tun)
	default:
		k.log.Info("no program captures packets; the kernel engine may resume", "tun", k.tun)
	}
	if k.gateway == nil || k.gateway.Intact() || time.Since(k.attached) < reattachAfter {
		return
	}
	k.log.Warn("another program has removed a part of the kernel engine; restoring it", "tun", k.tun)
	if err := k.detach(); err != nil {
		k.log.Warn("cannot remove the rest of the kernel engine", "reason", err)
	}
	if err := k.attach(); err != nil {
		k.log.Error("user space translates all packets: the kernel engine cannot be restored", "reason", err)
	}
}
