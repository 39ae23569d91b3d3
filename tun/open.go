package tun

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// clonePath is the device that makes TUN interfaces.
const clonePath = "/dev/net/tun"

// Device is a TUN interface that this process made.
type Device struct {
	Name     string   // as the kernel knows it
	Index    int      // interface index
	Queues   []*Queue // at least one; a flow stays on one of them
	Offloads Offloads // what the kernel granted

	netlink *rtnetlink
	polling *polling // of the queues
}

// interfaceFlags is what Open asks TUNSETIFF for.
const interfaceFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE

// Open makes the TUN interface called name with the given number of queues (1
// to 256), in the network namespace of the calling thread. It is down and has
// no address. An empty name or one with %d lets the kernel choose.
//
// The interface belongs to the process's effective user before it gets its
// second queue and its name: no other user may attach to it without
// CAP_NET_ADMIN, and nobody has.
//
// The kernel keeps a flow on one queue by the symmetric hash of its addresses
// and ports, and prefers the queue on which packets of that flow were last
// written: who answers on the queue he read from keeps both directions there.
// Fragments have no ports and go elsewhere: see [Device.SetQueueProgram].
//
// It has no queueing discipline. fq_codel, which most distributions give to every
// interface, has one queue for the fragments between two addresses and another for
// each flow with ports, so that packets of a flow overtake each other while two
// processors send. It would not help either: what finds the queue of the TUN full is
// dropped, with and without it.
//
// An error wraps fs.ErrExist if there is an interface of that name already,
// fs.ErrNotExist if the system has no TUN driver, fs.ErrPermission if the
// process may not make interfaces (CAP_NET_ADMIN). Nothing is left behind then.
func Open(name string, queues int) (*Device, error) { return OpenAt(name, queues, 0) }

// OpenAt is Open for an interface that gets the index, if that is free and not 0;
// otherwise the kernel chooses one.
func OpenAt(name string, queues, index int) (*Device, error) {
	if queues < 1 {
		return nil, fmt.Errorf("create TUN interface %q: invalid number of queues %d", name, queues)
	}
	if len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("create TUN interface %q: a name has at most %d bytes: %w", name, unix.IFNAMSIZ-1, unix.EINVAL)
	}
	if _, err := interfaceIndex(name); err == nil {
		return nil, createError(name, unix.EEXIST)
	}
	for range claims {
		d, err := open(name, queues, index)
		if !errors.Is(err, errForeign) {
			return d, err
		}
	}
	return nil, fmt.Errorf("create TUN interface %q: %w, %d times in a row", name, errForeign, claims)
}

// open is OpenAt, once.
func open(name string, queues, index int) (_ *Device, err error) {
	d := &Device{Name: name, polling: newPolling()}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.netlink, err = openRtnetlink(); err != nil {
		return nil, fmt.Errorf("create TUN interface %q: %w", name, err)
	}
	for range queues {
		q, err := d.openQueue(index)
		if err != nil {
			return nil, err
		}
		d.Queues = append(d.Queues, q)
	}
	if err := d.check(queues); err != nil {
		return nil, fmt.Errorf("create TUN interface %q: %w", d.Name, err)
	}
	if err := d.netlink.noQueue(d.Index); err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a kernel without CONFIG_NET_SCHED has none
		return nil, fmt.Errorf("create TUN interface %q: take its queueing discipline away: %w", d.Name, err)
	}
	return d, nil
}

// SetQueueProgram makes a BPF program of type BPF_PROG_TYPE_SOCKET_FILTER choose
// the queue of each packet instead of the kernel: it returns a number, the queue
// is that number modulo the number of queues. program is its descriptor, which
// may be closed afterwards.
func (d *Device) SetQueueProgram(program int) error {
	var err error
	ctlErr := d.Queues[0].conn.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TUNSETSTEERINGEBPF, program)
	})
	if err := errors.Join(ctlErr, err); err != nil {
		return fmt.Errorf("choose the queues of TUN interface %q: %w", d.Name, err)
	}
	return nil
}

// SetFilter makes a BPF program of type BPF_PROG_TYPE_SOCKET_FILTER say how many bytes
// of each packet enter its queue; 0 drops it. program is its descriptor, which may be
// closed afterwards; -1 ends filtering.
func (d *Device) SetFilter(program int) error {
	var err error
	ctlErr := d.Queues[0].conn.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TUNSETFILTEREBPF, program)
	})
	if err := errors.Join(ctlErr, err); err != nil {
		return fmt.Errorf("filter what enters the queues of TUN interface %q: %w", d.Name, err)
	}
	return nil
}

// KeepQueues closes all queues but the first n. What waits in the others is
// lost, so call it before anything is sent.
func (d *Device) KeepQueues(n int) error {
	var errs []error
	for _, q := range d.Queues[min(n, len(d.Queues)):] {
		errs = append(errs, q.Close())
	}
	d.Queues = d.Queues[:min(n, len(d.Queues))]
	return errors.Join(errs...)
}

// Close closes all queues, and with the last of them the interface vanishes. A
// program with CAP_NET_ADMIN that keeps it alive loses it.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.Queues {
		errs = append(errs, q.Close())
	}
	if d.netlink != nil {
		if d.Index != 0 {
			if err := d.netlink.remove(d.Index); err != nil && !errors.Is(err, unix.ENODEV) {
				errs = append(errs, fmt.Errorf("remove TUN interface %q: %w", d.Name, err))
			}
		}
		errs = append(errs, d.netlink.Close())
		d.netlink = nil
	}
	return errors.Join(errs...)
}

// openQueue adds a queue to the interface, which the first one makes. It sets
// d.Name, d.Index and d.Offloads to what the kernel made of them. The first one
// asks for an interface index; 0 asks for none.
func (d *Device) openQueue(index int) (*Queue, error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(err)
	}
	if d.Index == 0 {
		err = d.create(fd, index)
	} else {
		err = attach(fd, d.Name, 0)
	}
	if err == nil {
		d.Offloads, err = negotiate(fd)
	}
	var name string
	if err == nil {
		name, err = attachedName(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, createError(d.Name, err)
	}
	q, err := newQueue(name, fd, d.polling)
	if err != nil {
		return nil, createError(d.Name, err)
	}
	d.Name = name
	return q, nil
}

// create makes fd the first queue of a new interface, which belongs to this
// process's user by the time it gets the name d.Name.
func (d *Device) create(fd, index int) error {
	temporary := temporaryName(d.Name)
	if index != 0 {
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETIFINDEX, index); err != nil {
			return fmt.Errorf("ask for interface index %d: %w", index, err)
		}
	}
	err := attach(fd, temporary, unix.IFF_TUN_EXCL)
	if errors.Is(err, unix.EBUSY) && index != 0 { // another interface has it
		if err = unix.IoctlSetPointerInt(fd, unix.TUNSETIFINDEX, 0); err == nil {
			err = attach(fd, temporary, unix.IFF_TUN_EXCL)
		}
	}
	if err != nil {
		return err
	}
	if d.Index, err = interfaceIndex(temporary); err != nil {
		return fmt.Errorf("look up its index: %w", err)
	}
	if err := d.own(fd); err != nil {
		return err
	}
	name := d.Name
	if name == "" {
		name = "tun%d"
	}
	return rename(temporary, name)
}

// attach makes fd a queue of the interface called name.
func attach(fd int, name string, more uint16) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(interfaceFlags | more)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

// attachedName returns the name of the interface that fd is a queue of.
func attachedName(fd int) (string, error) {
	ifr, err := unix.NewIfreq("") // TUNGETIFF fills in the name; none is looked up
	if err != nil {
		return "", err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// interfaceIndex looks name up in the network namespace of the calling thread.
func interfaceIndex(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

// openError words a failure to open clonePath. ENODEV and ENXIO are a device
// node without a driver behind it, which for a caller is the same as no node.
func openError(err error) error {
	pe := &fs.PathError{Op: "open", Path: clonePath, Err: err}
	if err == unix.ENODEV || err == unix.ENXIO {
		return classified{pe, fs.ErrNotExist}
	}
	return pe
}

// createError words a failure to make or attach to an interface. A name that
// is taken, by an interface of whatever kind, is EEXIST; by one that has just
// come, EBUSY.
func createError(name string, err error) error {
	switch err {
	case unix.EBUSY, unix.EEXIST:
		return classified{fmt.Errorf("create TUN interface %q: there is an interface of that name already", name), fs.ErrExist}
	case unix.E2BIG:
		return fmt.Errorf("create TUN interface %q: the kernel allows no more queues: %w", name, err)
	}
	return fmt.Errorf("create TUN interface %q: %w", name, err)
}

// classified is an error that reads as error and, for errors.Is, is also class.
type classified struct {
	error
	class error
}

func (e classified) Unwrap() []error { return []error{e.error, e.class} }
