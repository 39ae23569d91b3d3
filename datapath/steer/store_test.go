package steer

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// fakeStore keeps descriptors in this process.
type fakeStore struct {
	t    *testing.T
	kept map[string]int
}

func (s *fakeStore) Keep(name string, fd int) {
	s.t.Helper()
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if _, twice := s.kept[name]; err != nil || twice {
		s.t.Errorf("keep %s: %v, twice %v", name, err, twice)
	}
	s.kept[name] = dup
}

func (s *fakeStore) Drop(name string) {
	if fd, ok := s.kept[name]; ok {
		unix.Close(fd)
		delete(s.kept, name)
	}
}

// inherited returns what the next process finds.
func (s *fakeStore) inherited() *Inherited {
	s.t.Helper()
	i := NewInherited(s)
	for name, fd := range s.kept {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			err = i.Add(name, dup)
		}
		if err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
	}
	return i
}

func (s *fakeStore) names() (all []string) {
	for n := range s.kept {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// TestInherited has a second Steering take over what a first one has attached: the
// same links with other programs, and the maps that have the same layout.
func TestInherited(t *testing.T) {
	for by, attach := range attachments() {
		t.Run(by, func(t *testing.T) { testInherited(t, attach) })
	}
}

func testInherited(t *testing.T, attach Attach) {
	for _, c := range []struct {
		name   string
		queues int // of the second one
		maps   bool
	}{
		{"same layout", 2, true},
		{"another layout", 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			store := &fakeStore{t, map[string]int{}}
			config := Config{
				Uplink: l.laptop.index(t, l.uplink), TUN: l.tun.index, Queues: 2, KernelEngine: true, Token: testToken, Store: store, Attach: attach,
			}
			begin := func() (s *Steering) {
				t.Helper()
				l.laptop.do(t, func() (err error) {
					s, err = New(config)
					return err
				})
				return s
			}
			first := begin()
			if err := first.objects.LastSent.Put(uint32(7), uint64(77)); err != nil {
				t.Fatal(err)
			}
			before := store.names()

			config.Queues = c.queues
			l.laptop.do(t, func() error { config.Inherited = store.inherited(); return nil })
			if err := config.Inherited.FindFilters(l.laptop.nl); err != nil || config.Inherited.HasFilters() != (attach == Clsact) {
				t.Fatalf("filters are found: %v, %v", config.Inherited.HasFilters(), err)
			}
			second := begin()
			if second.hooks.by != "" || !first.Intact() {
				t.Error("programs were exchanged before Attach")
			}
			if err := second.Attach(); err != nil {
				t.Fatal(err)
			}
			if !second.Intact() || len(second.hooks.hooks) != 4 || config.Inherited.Steers(config.TUN) {
				t.Errorf("%d programs attached, intact %v", len(second.hooks.hooks), second.Intact())
			}
			if now := store.names(); !slices.Equal(now, before) {
				t.Errorf("kept are %v, were %v", now, before)
			}
			for n, h := range second.hooks.hooks {
				if attach == Clsact {
					if f := h.(*clsactFilter); f.detached() {
						t.Errorf("filter %d has another program than %d", n, f.program)
					}
					continue
				}
				info, err := h.(tcxLink).Info()
				if err != nil {
					t.Fatal(err)
				}
				if id, _ := programID(second.hooks.attached[n]); info.Program != id {
					t.Errorf("link %d has program %d, want %d", info.ID, info.Program, id)
				}
			}
			var last uint64
			if err := second.objects.LastSent.Lookup(uint32(7), &last); err != nil || last != 77 {
				t.Errorf("the order within flows is lost: %d, %v", last, err)
			}
			if same := sameMap(first.objects.QueueStates, second.objects.QueueStates); same != c.maps {
				t.Errorf("the state of the queues is the same map: %v", same)
			}
			// Somebody else's copies do not keep a closed one in force.
			if err := second.Close(); err != nil {
				t.Error(err)
			}
			if len(store.kept) > 0 || first.Intact() {
				t.Errorf("after Close %v are kept, the links are in force: %v", store.names(), first.Intact())
			}
			first.hooks.hooks = nil
			if err := first.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInheritedRefuses(t *testing.T) {
	i := NewInherited(&fakeStore{t, map[string]int{}})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	for _, name := range []string{"link-1", "map-1-last_sent", "tun-1-0", ""} {
		if err := i.Add(name, int(r.Fd())); err == nil {
			t.Errorf("a pipe called %q is accepted", name)
		}
	}
	if _, err := r.Stat(); err != nil {
		t.Errorf("the refused descriptor: %v", err)
	}
}

// TestInheritedElsewhere offers links in another network namespace, whose interfaces
// have other links there or none.
func TestInheritedElsewhere(t *testing.T) {
	attach, ok := attachments()["tcx"]
	if !ok {
		t.Skip("the kernel has no tcx")
	}
	l := newLab(t)
	store := &fakeStore{t, map[string]int{}}
	var s *Steering
	l.laptop.do(t, func() (err error) {
		s, err = New(Config{Uplink: l.laptop.index(t, l.uplink), TUN: l.tun.index, Queues: 2, Token: testToken, Store: store, Attach: attach})
		return err
	})
	defer s.Close()
	newHost(t).do(t, func() error {
		i := NewInherited(store)
		for name, fd := range store.kept {
			if !strings.HasPrefix(name, "link-") {
				continue
			}
			if err := i.Add(name, fd); err == nil {
				t.Errorf("%s is accepted", name)
			}
		}
		return nil
	})
	if !s.Intact() {
		t.Error("the links are not in force")
	}
}

// Flows that the former process has remembered are copied into a table of another
// layout: with longer values, of which the rest is zero, with shorter ones, or of
// another size. A table with other keys is left alone.
func TestMoveFlows(t *testing.T) {
	needsRoot(t)
	table := func(keySize, valueSize, entries uint32) *ebpf.Map {
		t.Helper()
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: keySize, ValueSize: valueSize, MaxEntries: entries})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	for _, c := range []struct {
		name string
		to   *ebpf.Map
		want []byte // the value of an entry; nil: there is none
	}{
		{"longer values", table(8, 12, 1024), []byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0}},
		{"shorter values", table(8, 4, 1024), []byte{1, 2, 3, 4}},
		{"smaller", table(8, 8, 512), []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{"other keys", table(16, 8, 1024), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := table(8, 8, 1024)
			for n := range byte(100) {
				if err := from.Put([]byte{n, 0, 0, 0, 0, 0, 0, 0}, []byte{1, 2, 3, 4, 5, 6, 7, 8}); err != nil {
					t.Fatal(err)
				}
			}
			k := kept{had: map[string]*ebpf.Map{"host_flows": from}}
			if err := k.move(map[string]*ebpf.Map{"host_flows": c.to}); err != nil {
				t.Fatal(err)
			}
			for n := range byte(100) {
				got := make([]byte, c.to.ValueSize())
				key := make([]byte, c.to.KeySize())
				key[0] = n
				if err := c.to.Lookup(key, got); (err == nil) != (c.want != nil) || err == nil && !slices.Equal(got, c.want) {
					t.Errorf("entry %d: %x, %v", n, got, err)
				}
			}
		})
	}
}
