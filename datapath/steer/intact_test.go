package steer

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// TestIntact: others detach what we have attached, and nobody says so.
func TestIntact(t *testing.T) {
	for _, tt := range []struct {
		name   string
		attach Attach
		detach func(*testing.T, *lab, *Steering) error
	}{
		{"tcx", TCX, func(_ *testing.T, _ *lab, s *Steering) error { return s.hooks.hooks[0].(tcxLink).Detach() }},
		{"clsact", Clsact, func(t *testing.T, l *lab, s *Steering) error {
			return s.netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: clsactAttrs(l.laptop.index(t, l.uplink))})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, there := attachments()[tt.name]; !there {
				t.Skipf("the kernel has no %s", tt.name)
			}
			l := newLab(t)
			s := l.steer(t, tt.attach)
			if !s.Intact() {
				t.Fatal("not intact from the start")
			}
			if err := tt.detach(t, l, s); err != nil {
				t.Fatal(err)
			}
			if s.Intact() {
				t.Error("intact though a program is detached")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGuardIntact(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l := newGuardedLink(t)
			g := l.guard(t, attach)
			if !g.Intact() || l.passes(t, "192.0.0.1") {
				t.Fatal("not intact from the start")
			}
			detach := func() error {
				return l.laptop.nl.QdiscDel(&netlink.Clsact{QdiscAttrs: clsactAttrs(l.index)})
			}
			if link, ok := g.hooks.hooks[0].(tcxLink); ok {
				detach = link.Detach
			}
			if err := detach(); err != nil {
				t.Fatal(err)
			}
			if g.Intact() {
				t.Error("intact though its program is detached")
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
			if l.guard(t, attach); l.passes(t, "192.0.0.1") {
				t.Error("the next guard keeps nothing")
			}
		})
	}
}
