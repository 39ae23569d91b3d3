package tun

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

// clonePath is the device that makes TUN interfaces.
const clonePath = "/dev/net/tun"

// Device is a TUN interface that this process made.
type Device struct {
	Name     string   // as the kernel knows it
	Index    int      // interface index
	Queues   []*Queue // at least one; a flow stays on one of them
	Offloads Offloads // what the kernel granted
}

// Open makes the TUN interface called name with the given number of queues (1
// to 256), in the network namespace of the calling thread. It is down and has
// no address. An empty name or one with %d lets the kernel choose.
//
// The kernel keeps a flow on one queue by the symmetric hash of its addresses
// and ports, and prefers the queue on which packets of that flow were last
// written: who answers on the queue he read from keeps both directions there.
//
// An error wraps fs.ErrExist if there is an interface of that name already,
// fs.ErrNotExist if the system has no TUN driver, fs.ErrPermission if the
// process may not make interfaces (CAP_NET_ADMIN). Nothing is left behind then.
func Open(name string, queues int) (*Device, error) {
	if queues < 1 {
		return nil, fmt.Errorf("create TUN interface %q: %d queues make no interface", name, queues)
	}
	d := &Device{Name: name}
	for i := range queues {
		// Exclusive only once: further queues are meant to join the interface.
		q, err := d.openQueue(i == 0)
		if err != nil {
			d.Close()
			return nil, err
		}
		d.Queues = append(d.Queues, q)
	}
	index, err := interfaceIndex(d.Name)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("create TUN interface %q: look up its index: %w", d.Name, err)
	}
	d.Index = index
	return d, nil
}

// Close closes all queues, and with the last of them the interface vanishes.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.Queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// openQueue adds a queue to the interface d.Name, which create makes first.
// It sets d.Name and d.Offloads to what the kernel made of them.
func (d *Device) openQueue(create bool) (*Queue, error) {
	// CreateUnmonitoredTUNFromFD puts the descriptor on the poller, and that
	// must not see it before it is attached to an interface (it would only ever
	// report EPOLLERR). So open and attach come first, without an os.File.
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, openError(err)
	}
	granted, err := d.attach(fd, create)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// The unmonitored variant has no goroutines; the other one writes to the
	// device once a second for ever.
	dev, name, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		// By now a lost os.File owns fd: closing it here as well could hit a
		// stranger's descriptor. Nothing but a failure of what attach has
		// just done successfully leads here.
		return nil, fmt.Errorf("create TUN interface %q: %w", d.Name, err)
	}
	d.Name, d.Offloads = name, granted
	// Only the file is kept. The rest of dev is 2 MB per queue for Read and
	// Write, which we do not use, and a channel of events that never come.
	return &Queue{name: name, file: dev.File()}, nil
}

// attach makes fd a queue of the interface d.Name.
func (d *Device) attach(fd int, create bool) (Offloads, error) {
	ifr, err := unix.NewIfreq(d.Name)
	if err != nil {
		return Offloads{}, fmt.Errorf("create TUN interface %q: a name has at most %d bytes: %w", d.Name, unix.IFNAMSIZ-1, err)
	}
	flags := unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE
	if create {
		flags |= unix.IFF_TUN_EXCL
	}
	ifr.SetUint16(uint16(flags))
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return Offloads{}, createError(d.Name, err)
	}
	granted, err := negotiate(fd)
	if err != nil {
		return Offloads{}, fmt.Errorf("create TUN interface %q: %w", d.Name, err)
	}
	return granted, nil
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

// createError words a failure of TUNSETIFF. With IFF_TUN_EXCL an interface of
// that name, of whatever kind, is EBUSY.
func createError(name string, err error) error {
	switch err {
	case unix.EBUSY:
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
