package steer

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// installed are the programs of a [Steering] or a [Gateway], and where they are
// attached.
type installed struct {
	Engine
	netlink *netlink.Handle // of the namespace that the constructor was called in
	hooks   attachment
}

// open opens netlink and looks up the TUN.
func (i *installed) open(tun int) (link netlink.Link, err error) {
	if i.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	return i.find("the TUN", tun)
}

// find looks up an interface. what says in the error what it is.
func (i *installed) find(what string, index int) (netlink.Link, error) {
	link, err := i.netlink.LinkByIndex(index)
	if err != nil {
		return nil, &Error{fmt.Sprintf("find %s, interface %d", what, index), err}
	}
	return link, nil
}

// Attached says by what the programs are attached: "tcx", or "clsact" and in
// brackets why not tcx.
func (i *installed) Attached() string { return i.hooks.by }

// Outlives reports whether the programs stay in force without this process, and are
// there for an [Inherited] of the next one, if their interfaces are.
func (i *installed) Outlives() bool { return i.hooks.by != "" }

// Intact reports whether every program is where it was attached. Others who may
// attach programs may also detach them, which nothing reports.
func (i *installed) Intact() bool { return i.hooks.intact() }

// Close detaches the programs, last attached first, and frees them. It may be
// called twice, and after the interfaces have gone.
func (i *installed) Close() error {
	errs := []error{i.hooks.Close()}
	if i.objects != nil {
		errs = append(errs, i.objects.Close())
		i.objects = nil
	}
	if i.netlink != nil {
		i.netlink.Close()
		i.netlink = nil
	}
	return errors.Join(errs...)
}
