package main

import (
	"fmt"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// clatd boots a machine with clatd, which runs tayga.
func (s *stage) clatd(config string) {
	s.t.Helper()
	s.machine = newMachine(s.t, s.Lab, s.root, map[string]string{
		"/etc/clatd.conf":  "v4-conncheck-enable=no\nclat-dev=clat\n" + config,
		"/etc/resolv.conf": "nameserver " + s.IPv6.String() + "\n",
	}, "clatd -c /etc/clatd.conf &")
}

// TestClatd has clatd's CLAT at work when tnat64d starts, and then killed with
// tayga: its interface, address and route stay.
func TestClatd(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Options{})
	s.clatd(fmt.Sprintf("plat-prefix=%s\n", s.PREF64()))
	s.flows(t)
	began := time.Now()
	s.start("")
	u := s.ready("another CLAT is active")
	t.Logf("%s: %s", u.Reason, u.Why)
	said := s.ctl("doctor")
	s.says(said, "clatd runs a CLAT", "tnat64d stands by", "systemctl disable --now clatd")
	s.stays(began)

	began = time.Now()
	s.machine.kill(t, "clatd", "tayga")
	u = s.wants(control.Up)
	s.flows(t)
	s.result(began)
	s.says(fmt.Sprint(u.Warnings), "no process holds it")
}
