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
