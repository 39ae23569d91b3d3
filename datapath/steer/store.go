package steer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Store keeps copies of descriptors beyond the end of the process. The next one
// takes them over by an [Inherited].
//
// Kept are the tcx links, which keep the programs in force while no process is
// there (tc filters need no link, see [Inherited.FindFilters]), and those maps that hold what passing packets have left: flows of a
// shared address, and the order within flows. Everything else the next process
// knows by itself. It loads programs and maps of its own version, fills them, and
// then exchanges the program of each link (BPF_LINK_UPDATE). Each packet sees a
// complete set of one version or the other.
type Store interface {
	// Keep keeps a copy of fd under a name, which need not be unique.
	Keep(name string, fd int)
	// Drop gives up all copies of that name.
	Drop(name string)
}

// keptMaps are the maps that are kept. A map whose layout is another one in this
// version is made anew. Flows of a shared address are copied into it: see [movedMaps].
// What is not copied is found again by the host's sockets ([Config.TranslatorFlows];
// see also bpf/share.h), and the order within flows by the end of what waits in the
// TUN's queues ([Progress]).
var keptMaps = []string{"established_flows", "new_flows", "host_flows", "moved_flows", "fragment_owners", "queue_states", "last_sent", beganFlows}

// movedMaps are those of keptMaps whose entries are copied into a map of another
// layout. Their keys stay as they are, and their values grow at the end: a field that a
// version does not know is zero for the next one. A version that must break this has
// another token (tokenMagic of cmd/tnat64d) and starts afresh.
var movedMaps = []string{"established_flows", "new_flows", "host_flows", "moved_flows", "fragment_owners"}

// Inherited are the links and maps of a former process. It is used by one
// goroutine. The nil Inherited has none.
type Inherited struct {
	store Store // has copies of all
	links []inheritedLink
	maps  []inheritedMap

	filters []inheritedFilter
}

type inheritedLink struct {
	tcxLink
	ifindex   int
	direction direction
	program   ebpf.ProgramID
}

type inheritedMap struct {
	*ebpf.Map
	tun  int
	name string // in [keptMaps]
}

// NewInherited returns an Inherited that has nothing yet. The descriptors that it
// is given have copies in the store.
func NewInherited(store Store) *Inherited { return &Inherited{store: store} }

// errUnlike is the error of a descriptor that is neither a tcx link nor one of the
// maps that are kept.
var errUnlike = errors.New("it is neither a tcx link nor a map of this program")

// Add takes over a descriptor that a Store has kept under a name. What it is it
// asks the kernel: of links the interface and the direction, of maps their name; the
// name in the store says only of which TUN a map is. After an error fd is the
// caller's still.
//
// Whose program a link has does not matter. It is exchanged for one of ours if the
// link is where one is wanted, and detached otherwise.
func (i *Inherited) Add(name string, fd int) error {
	kind, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	// The library closes what it cannot use.
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	switch {
	case strings.HasPrefix(kind, "anon_inode:") && strings.Contains(kind, "link"):
		err = i.addLink(name, dup)
	case strings.HasPrefix(kind, "anon_inode:") && strings.Contains(kind, "map"):
		err = i.addMap(name, dup)
	default:
		unix.Close(dup)
		err = errUnlike
	}
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

func (i *Inherited) addLink(name string, fd int) error {
	l, err := link.NewFromFD(fd)
	if err != nil {
		return err
	}
	info, err := l.Info()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	at := info.TCX()
	if at == nil {
		return errors.Join(errUnlike, l.Close())
	}
	d := ingress
	if ebpf.AttachType(at.AttachType) == ebpf.AttachTCXEgress {
		d = egress
	}
	if there, err := isAttached(info.ID, at); err != nil || !there {
		return errors.Join(err, errUnlike, l.Close())
	}
	i.links = append(i.links, inheritedLink{tcxLink{l, i.store, name}, int(at.Ifindex), d, info.Program})
	return nil
}

// isAttached reports whether the link at that interface is one of the calling thread's
// network namespace: the kernel tells only an index, which interfaces of others may
// have too. A link whose interface is gone is attached to none.
func isAttached(id link.ID, at *link.TCXInfo) (bool, error) {
	if at.Ifindex == 0 {
		return true, nil
	}
	r, err := link.QueryPrograms(link.QueryOptions{Target: int(at.Ifindex), Attach: ebpf.AttachType(at.AttachType)})
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(r.Programs, func(p link.AttachedProgram) bool {
		attached, ok := p.LinkID()
		return ok && attached == id
	}), nil
}

func (i *Inherited) addMap(name string, fd int) error {
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return err
	}
	info, err := m.Info()
	if err != nil {
		return errors.Join(err, m.Close())
	}
	for _, kept := range keptMaps {
		var tun int
		if _, err := fmt.Sscanf(name, "map-%d-"+kept, &tun); err != nil || mapName(tun, kept) != name {
			continue
		}
		const kernelKeeps = 15 // bytes of a name
		if info.Name == kept[:min(len(kept), kernelKeeps)] {
			i.maps = append(i.maps, inheritedMap{m, tun, kept})
			return nil
		}
	}
	return errors.Join(errUnlike, m.Close())
}

// mapName returns the name in a store of a map of the translator with that TUN.
func mapName(tun int, m string) string { return fmt.Sprintf("map-%d-%s", tun, m) }

// Programs notes in p that the programs of the links are of this process.
func (i *Inherited) Programs(p *Programs) {
	if i == nil || p == nil {
		return
	}
	for _, l := range i.links {
		p.own[l.program] = true
	}
	for _, id := range i.filterPrograms() {
		p.own[id] = true
	}
}

// Steers reports whether programs of the former process are in force on that TUN.
func (i *Inherited) Steers(tun int) bool {
	return i != nil && (slices.ContainsFunc(i.links, func(l inheritedLink) bool { return l.ifindex == tun }) ||
		slices.ContainsFunc(i.filters, func(f inheritedFilter) bool { return f.ifindex() == tun }))
}

// takeMaps returns the maps of the translator with that TUN, by their names in
// [keptMaps]. The caller closes them.
func (i *Inherited) takeMaps(tun int) map[string]*ebpf.Map {
	all := map[string]*ebpf.Map{}
	if i == nil {
		return all
	}
	i.maps = slices.DeleteFunc(i.maps, func(m inheritedMap) bool {
		if m.tun != tun {
			return false
		}
		all[m.name] = m.Map
		return true
	})
	return all
}

// attach returns how to attach a hook by tcx: where a link is inherited, its
// program is exchanged. New links are kept in the store, which may be nil.
func (i *Inherited) attach(store Store) func(hook) (io.Closer, error) {
	return func(h hook) (io.Closer, error) {
		if l := i.take(h); l != nil {
			err := l.Update(h.program)
			if err == nil {
				return *l, nil
			}
			if err := errors.Join(err, l.Close()); !errors.Is(err, unix.ENOLINK) {
				return nil, fmt.Errorf("exchange the program: %w", err)
			}
		}
		l, err := newTCX(h)
		if err != nil {
			return nil, err
		}
		return l.keep(store), nil
	}
}

// take removes the link of that hook from i and returns it, or nil.
func (i *Inherited) take(h hook) *tcxLink {
	if i == nil {
		return nil
	}
	for n, l := range i.links {
		if l.ifindex == h.link.Attrs().Index && l.direction == h.direction {
			i.links = slices.Delete(i.links, n, n+1)
			return &l.tcxLink
		}
	}
	return nil
}

// Remove gives up what nobody has taken over: the links of an interface and the
// maps of a TUN, or those of all for 0.
func (i *Inherited) Remove(ifindex int) error {
	if i == nil {
		return nil
	}
	errs := i.removeFilters(ifindex)
	i.links = slices.DeleteFunc(i.links, func(l inheritedLink) bool {
		if ifindex != 0 && l.ifindex != ifindex {
			return false
		}
		errs = append(errs, l.Close())
		return true
	})
	i.maps = slices.DeleteFunc(i.maps, func(m inheritedMap) bool {
		if ifindex != 0 && m.tun != ifindex {
			return false
		}
		i.store.Drop(mapName(m.tun, m.name))
		errs = append(errs, m.Close())
		return true
	})
	return errors.Join(errs...)
}

// kept are the maps of a [Steering] that a Store keeps.
type kept struct {
	store Store // nil: none
	tun   int
	had   map[string]*ebpf.Map // inherited, in the place of those that would be made anew
	names []string             // in the store
}

// replaces returns which of the maps that spec describes are not made anew. Those
// of another layout are.
func (k *kept) replaces(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	fit := map[string]*ebpf.Map{}
	for name, m := range k.had {
		if s := spec.Maps[name]; s != nil && s.Compatible(m) == nil {
			fit[name] = m
		}
	}
	return fit
}

// take removes an inherited map, which is none of those that are loaded with the
// programs, and returns it, or nil. The store has it still.
func (k *kept) take(name string) *ebpf.Map {
	m := k.had[name]
	if m != nil {
		delete(k.had, name)
		k.names = append(k.names, mapName(k.tun, name))
	}
	return m
}

// add keeps a map that is made while the programs are in use, and remove gives it up.
func (k *kept) add(name string, m *ebpf.Map) {
	if k.store != nil {
		k.store.Keep(mapName(k.tun, name), m.FD())
		k.names = append(k.names, mapName(k.tun, name))
	}
}

func (k *kept) remove(name string) {
	inStore := mapName(k.tun, name)
	if i := slices.Index(k.names, inStore); i >= 0 && k.store != nil {
		k.store.Drop(inStore)
		k.names = slices.Delete(k.names, i, i+1)
	}
}

// move copies the entries of inherited maps into those that were made anew because
// their layout is another one. Entries that do not fit are left out.
func (k *kept) move(maps map[string]*ebpf.Map) error {
	for _, name := range movedMaps {
		from, to := k.had[name], maps[name]
		if from == nil || to == nil || sameMap(from, to) || from.KeySize() != to.KeySize() {
			continue
		}
		key, value := make([]byte, from.KeySize()), make([]byte, from.ValueSize())
		moved := make([]byte, to.ValueSize())
		entries := from.Iterate()
		for n := uint32(0); n < to.MaxEntries() && entries.Next(&key, &value); n++ {
			clear(moved)
			copy(moved, value)
			if err := to.Put(key, moved); err != nil {
				return &Error{"move the flows of the former process", err}
			}
		}
		// Packets change the table meanwhile.
		if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
			return &Error{"read the flows of the former process", err}
		}
	}
	return nil
}

// keep keeps the maps, which are in use by now, in the place of those that the
// store has of the former process.
func (k *kept) keep(maps map[string]*ebpf.Map) {
	for _, name := range keptMaps {
		if name == beganFlows {
			continue // it comes and goes: see [Steering.SetNext]
		}
		m, inStore := maps[name], mapName(k.tun, name)
		before := k.had[name]
		same := m != nil && before != nil && sameMap(m, before)
		if before != nil && !same && k.store != nil {
			k.store.Drop(inStore)
		}
		if m == nil || k.store == nil {
			continue
		}
		if !same {
			k.store.Keep(inStore, m.FD())
		}
		k.names = append(k.names, inStore)
	}
	for _, m := range k.had {
		m.Close()
	}
	k.had = nil
}

// drop gives up the maps.
func (k *kept) drop() {
	for _, name := range k.names {
		k.store.Drop(name)
	}
	for _, m := range k.had {
		m.Close()
	}
	k.names, k.had = nil, nil
}

func sameMap(a, b *ebpf.Map) bool {
	x, err1 := a.Info()
	y, err2 := b.Info()
	if err1 != nil || err2 != nil {
		return false
	}
	id, ok := x.ID()
	other, ok2 := y.ID()
	return ok && ok2 && id == other
}
