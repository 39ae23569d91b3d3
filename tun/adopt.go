package tun

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A TUN interface lives as long as one of its descriptors does. A process may
// therefore leave it to another one that has copies of them, with the packets that
// wait in its queues.

// tunGetDevNetns is TUNGETDEVNETNS of linux/if_tun.h, which returns a
// descriptor of the interface's network namespace.
const tunGetDevNetns = 0x54e3

// errUnlike is the error of a descriptor that is no queue that this package made.
var errUnlike = errors.New("not a queue of a TUN interface that this program made")

// Inspect returns the name of the TUN interface to which fd, a descriptor of
// unknown origin, is attached. It is an error if that is none, if it has other
// features than Open asks for, or if it is of another network namespace than that
// of the calling thread.
func Inspect(fd int) (name string, err error) {
	// An ioctl of a TUN may mean something else to another device.
	var at, tun unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &at), unix.Stat(clonePath, &tun)); err != nil {
		return "", err
	}
	if at.Mode&unix.S_IFMT != unix.S_IFCHR || at.Rdev != tun.Rdev {
		return "", errUnlike
	}
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return "", fmt.Errorf("TUNGETIFF: %w", err) // EBADFD: the interface is gone
	}
	header, err := unix.IoctlGetInt(fd, unix.TUNGETVNETHDRSZ)
	if err != nil {
		return "", fmt.Errorf("TUNGETVNETHDRSZ: %w", err)
	}
	if ifr.Uint16()&^unix.IFF_TUN_EXCL != interfaceFlags || header != VnetHeaderLen {
		return "", errUnlike
	}
	if err := inThisNamespace(fd); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// inThisNamespace returns errUnlike if the TUN is of another network namespace
// than the calling thread.
func inThisNamespace(fd int) error {
	its, err := unix.IoctlRetInt(fd, tunGetDevNetns)
	if err != nil {
		return fmt.Errorf("TUNGETDEVNETNS: %w", err)
	}
	defer unix.Close(its)
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(its, &a), unix.Stat("/proc/thread-self/ns/net", &b)); err != nil {
		return err
	}
	if a.Dev != b.Dev || a.Ino != b.Ino {
		return errUnlike
	}
	return nil
}

// Adopt returns the TUN interface of another process, of which fds are all the
// queues, in their order; see Inspect. Settings, addresses, routes and packets that
// wait stay as they are. The interface must belong to the process's effective user,
// and its link alias begin with aliasPrefix. Adopt owns the descriptors, whatever the
// error, and has changed nothing after one.
func Adopt(fds []int, aliasPrefix string) (_ *Device, err error) {
	d, fds := &Device{polling: newPolling()}, slices.Clone(fds)
	defer func() {
		if err != nil {
			for _, fd := range fds[len(d.Queues):] {
				unix.Close(fd)
			}
			d.Release()
			err = fmt.Errorf("adopt TUN interface %q: %w", d.Name, err)
		}
	}()
	for _, fd := range fds {
		name, err := Inspect(fd)
		if err != nil {
			return nil, err
		}
		if d.Name != "" && name != d.Name {
			return nil, fmt.Errorf("it has a queue of %q: %w", name, errUnlike)
		}
		d.Name = name
	}
	if d.Index, err = interfaceIndex(d.Name); err != nil {
		return nil, err
	}
	if d.netlink, err = openRtnetlink(); err != nil {
		return nil, err
	}
	if err := d.check(len(fds)); err != nil {
		return nil, err
	}
	if info, err := d.netlink.link(d.Index); err != nil || !strings.HasPrefix(info.alias, aliasPrefix) {
		return nil, errors.Join(err, errUnlike)
	}
	for _, fd := range fds {
		if d.Offloads, err = negotiate(fd); err != nil { // as they are
			return nil, err
		}
		if err := unix.SetNonblock(fd, false); err != nil { // see newQueue
			return nil, err
		}
		q, err := newQueue(d.Name, fd, d.polling)
		if err != nil {
			fds = slices.Delete(fds, len(d.Queues), len(d.Queues)+1) // it is closed
			return nil, err
		}
		d.Queues = append(d.Queues, q)
	}
	return d, nil
}

// Release closes all queues. The interface stays as long as somebody else has
// descriptors of it.
func (d *Device) Release() error {
	var errs []error
	for _, q := range d.Queues {
		errs = append(errs, q.Close())
	}
	if d.netlink != nil {
		errs = append(errs, d.netlink.Close())
		d.netlink = nil
	}
	return errors.Join(errs...)
}

// Descriptor calls f with the descriptor of the queue, which is valid until f
// returns.
func (q *Queue) Descriptor(f func(fd int) error) error {
	var err error
	return errors.Join(q.conn.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}

// Interrupt ends the reading of the queue: Read returns an error that wraps
// os.ErrDeadlineExceeded, now and from now on. Packets stay in the queue, which can
// still be written to.
func (q *Queue) Interrupt() error {
	q.interrupted.Store(true)
	return q.sleeper.file.SetReadDeadline(time.Unix(1, 0))
}
