package main

import (
	"slices"
	"testing"
)

func TestSystems(t *testing.T) {
	for _, c := range []struct {
		release, manager, pkg, file string
	}{
		{"bookworm", "networkmanager", "network-manager", "/etc/NetworkManager/conf.d/test.conf"},
		{"trixie", "networkd", "systemd-resolved", "/etc/systemd/network/eth0.network"},
		{"forky", "ifupdown", "ifupdown", "/etc/network/interfaces"},
		{"bookworm", "dhcpcd", "dhcpcd", "/usr/local/sbin/agent"},
	} {
		s, err := newSystem(c.release, c.manager)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(s.packages(), c.pkg) || s.files()[c.file] == "" || s.units()[0] != "agent.service" {
			t.Errorf("%+v: %q, %v, %q", s, s.packages(), s.files(), s.units())
		}
		for name, m := range managers {
			if name != c.manager && slices.Contains(s.packages(), m.packages[0]) {
				t.Errorf("%+v has %s of %s", s, m.packages[0], name)
			}
		}
	}
	for _, c := range [][2]string{{"woody", "networkd"}, {"trixie", "wicd"}} {
		if _, err := newSystem(c[0], c[1]); err == nil {
			t.Errorf("%q is a system", c)
		}
	}
}

// TestStories holds every scene to a title, by which -from finds it, and to
// something to run.
func TestStories(t *testing.T) {
	for name, story := range stories {
		seen := map[string]bool{}
		for _, s := range story {
			if s.title == "" || seen[s.title] || len(s.scripts) == 0 {
				t.Errorf("%s: scene %q with %d scripts", name, s.title, len(s.scripts))
			}
			seen[s.title] = true
		}
	}
}
