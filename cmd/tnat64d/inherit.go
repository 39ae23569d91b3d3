package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath"
	"tnat64d/datapath/steer"
	"tnat64d/internal/fdstore"
	"tnat64d/tun"
)

// inheritance is what a former process has left in the store: TUNs, BPF links and
// maps, and the token of its packets.
type inheritance struct {
	store *store
	token steer.Token // 0: there is nothing to go on with
	tuns  []*tun.Device
	bpf   *steer.Inherited
}

const (
	tokenName = "token"
	// tokenMagic begins the file with the token. It changes when a process of this
	// version could not run beside the BPF programs of the former one, until it has
	// exchanged them.
	tokenMagic = "tnat64d 1\n"
)

// inherit finds out what the descriptors are that systemd has passed. What is not
// ours, or does not belong together, it closes and removes from the store.
func inherit(passed []fdstore.Descriptor, s *store, log *slog.Logger) *inheritance {
	if s == nil {
		return nil // somebody else's descriptors
	}
	i := &inheritance{store: s, bpf: steer.NewInherited(s)}
	queues := map[int]map[int]int{} // descriptors by interface index and number
	refused := refusals{log: log}
	refuse := func(d fdstore.Descriptor, err error) {
		refused.add(d.Name, err)
		unix.Close(d.FD)
		s.Drop(d.Name)
	}
	for _, d := range passed {
		s.Adopt(d.Name)
		index, n, isQueue := datapath.ParseQueueName(d.Name)
		switch {
		case d.Name == tokenName:
			token, err := readToken(d.FD)
			if err != nil {
				refuse(d, err)
				continue
			}
			unix.Close(d.FD)
			i.token = token
		case isQueue:
			if queues[index] == nil {
				queues[index] = map[int]int{}
			}
			if _, twice := queues[index][n]; twice {
				refuse(d, errors.New("two descriptors have this name"))
				continue
			}
			queues[index][n] = d.FD
		default:
			if err := i.bpf.Add(d.Name, d.FD); err != nil {
				refuse(d, err)
			}
		}
	}
	for index, fds := range queues {
		if err := i.adopt(index, fds); err != nil {
			for n := range fds {
				refused.add(datapath.QueueName(index, n), err)
				s.Drop(datapath.QueueName(index, n))
			}
		}
	}
	refused.report()
	return i
}

// refusals are the descriptors from systemd that cannot be used.
type refusals struct {
	log   *slog.Logger
	n     int
	name  string // of the first
	cause error
}

func (r *refusals) add(name string, err error) {
	r.log.Debug("cannot use a descriptor from systemd", "name", name, "reason", err)
	if r.n++; r.n == 1 {
		r.name, r.cause = name, err
	}
}

// report writes one line, however many there are.
func (r *refusals) report() {
	if r.n > 0 {
		r.log.Warn("cannot use descriptors from systemd's store; they are closed", "count", r.n, "first", r.name, "reason", r.cause)
	}
}

// adopt takes over the TUN whose queues fds are, by number.
func (i *inheritance) adopt(index int, fds map[int]int) error {
	var inOrder []int
	for n := range len(fds) {
		if fd, ok := fds[n]; ok {
			inOrder = append(inOrder, fd)
			continue
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
		return fmt.Errorf("queue %d of interface %d is missing", n, index)
	}
	d, err := tun.Adopt(inOrder, plan.AliasPrefix)
	if err != nil {
		return err
	}
	if d.Index != index {
		return errors.Join(fmt.Errorf("%s is interface %d, not %d", d.Name, d.Index, index), d.Release())
	}
	i.tuns = append(i.tuns, d)
	return nil
}

// readToken reads the file that keepToken has made.
func readToken(fd int) (steer.Token, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_WRITE == 0 {
		return 0, errors.New("not a sealed file")
	}
	b := make([]byte, len(tokenMagic)+9)
	n, err := unix.Pread(fd, b, 0)
	if err != nil || n != len(b)-1 || string(b[:len(tokenMagic)]) != tokenMagic {
		return 0, errors.New("written by another version")
	}
	return steer.Token(binary.NativeEndian.Uint64(b[len(tokenMagic):])), nil
}

// keepToken puts the token into the store.
func (s *store) keepToken(t steer.Token) error {
	fd, err := unix.MemfdCreate("tnat64d-token", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, binary.NativeEndian.AppendUint64([]byte(tokenMagic), uint64(t))); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	s.Drop(tokenName) // of another version
	s.Keep(tokenName, fd)
	return nil
}

// usable drops the TUNs on which nothing is in force, and reports whether there are
// others. i may be nil.
func (i *inheritance) usable() bool {
	if i == nil {
		return false
	}
	for _, d := range slices.Clone(i.tuns) {
		if i.token == 0 || !i.bpf.Steers(d.Index) {
			i.removeTUN(d)
		}
	}
	return len(i.tuns) > 0
}

// take returns the TUN of that name and gives it to the caller, or nil. One with
// another number of queues is removed.
func (i *inheritance) take(name string, queues int) *tun.Device {
	if i == nil {
		return nil
	}
	at := slices.IndexFunc(i.tuns, func(d *tun.Device) bool { return d.Name == name })
	if at < 0 {
		return nil
	}
	d := i.tuns[at]
	if len(d.Queues) != queues {
		i.removeTUN(d)
		return nil
	}
	i.tuns = slices.Delete(i.tuns, at, at+1)
	return d
}

// links returns the BPF links and maps.
func (i *inheritance) links() *steer.Inherited {
	if i == nil {
		return nil
	}
	return i.bpf
}

// list describes the TUNs.
func (i *inheritance) list() (all []clat.Inherited) {
	if i == nil {
		return nil
	}
	for _, d := range i.tuns {
		all = append(all, clat.Inherited{TUN: d.Name, Index: d.Index, Queues: len(d.Queues)})
	}
	return all
}

// remove removes what nobody has taken over: of one TUN, or everything for "".
func (i *inheritance) remove(name string) {
	if i == nil {
		return
	}
	for _, d := range slices.Clone(i.tuns) {
		if name == "" || d.Name == name {
			i.removeTUN(d)
		}
	}
	if name == "" {
		if err := i.bpf.Remove(0); err != nil {
			i.store.log.Warn("cannot detach BPF programs of a previous process", "reason", err)
		}
	}
}

// removeTUN removes a TUN and what is attached to it.
func (i *inheritance) removeTUN(d *tun.Device) {
	i.tuns = slices.DeleteFunc(i.tuns, func(o *tun.Device) bool { return o == d })
	for n := range d.Queues {
		i.store.Drop(datapath.QueueName(d.Index, n))
	}
	if err := errors.Join(i.bpf.Remove(d.Index), d.Close()); err != nil {
		i.store.log.Warn("cannot remove the TUN of a previous process", "iface", d.Name, "reason", err)
	}
}
