package nat44

import (
	"strings"
	"testing"

	"tnat64d/internal/needs"

	"golang.org/x/sys/unix"
)

// TestHold keeps the rules by a copy of their descriptor, beside which a Ruleset can be
// made.
func TestHold(t *testing.T) {
	needs.Netns(t)
	if h, err := NewHold(config(None)); h != nil || err != nil {
		t.Errorf("a routed pool has %v, %v", h, err)
	}
	h, err := NewHold(config(Pool))
	if err != nil {
		t.Fatal(err)
	}
	if !h.owned {
		t.Skip("tables have no owner before Linux 5.12")
	}
	kept := -1
	if err := h.Keep(func(fd int) (err error) { kept, err = unix.Dup(fd); return err }); err != nil {
		t.Fatal(err)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := CleanUp(); err != nil {
		t.Errorf("what another process keeps is cleaned up: %v", err)
	}
	s, err := New(config(Pool))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rules := listRules(t)
	for _, want := range []string{"table ip tnat64-gateway {", "table ip tnat64-gateway-hold {", "ip daddr 100.64.0.0/16 drop", "ip6 daddr 2001:db8:64::/96 drop"} {
		if !strings.Contains(rules, want) {
			t.Errorf("%q is not in the rules:\n%s", want, rules)
		}
	}
	if err := unix.Close(kept); err != nil {
		t.Fatal(err)
	}
	if rules := listRules(t); strings.Contains(rules, holdName) {
		t.Errorf("the rules stay:\n%s", rules)
	}
}
