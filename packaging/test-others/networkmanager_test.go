package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// profile is the name of NetworkManager's connection on the laptop's uplink.
const profile = lab.NetworkManagerProfile

// networkManager boots a machine with NetworkManager, whose CLAT is on by its
// configuration and not by the connection's.
func (s *stage) networkManager() {
	s.t.Helper()
	ours, err := os.ReadFile("../networkmanager/90-tnat64.conf")
	if err != nil {
		s.t.Fatal(err)
	}
	o := lab.NetworkManager("INFO", map[string]string{"/usr/lib/NetworkManager/conf.d/90-tnat64.conf": string(ours)})
	s.machine = newMachine(s.t, s.Lab, s.root, o.Files, o.Start)
	eventually(s.t, func() error {
		_, err := s.machine.Try(s.t.Context(), "nmcli", "general", "status")
		return err
	})
	// The kernel has configured the uplink already.
	s.machine.run(s.t, "nmcli", "connection", "up", profile)
}

// managed boots NetworkManager and waits for its CLAT.
func (s *stage) managed() {
	s.t.Helper()
	s.networkManager()
	eventually(s.t, func() error {
		if len(s.laptopIPv4(lab.Uplink)) == 0 {
			return errors.New("NetworkManager has set up no CLAT")
		}
		return nil
	})
	s.flows(s.t)
}

// standingBy begins with NetworkManager's CLAT at work and tnat64d beside it.
func standingBy(t *testing.T) *stage {
	t.Helper()
	s := newStage(t, lab.Options{})
	s.managed()
	s.start("")
	s.ready()
	return s
}

// TestNetworkManagerFirst has NetworkManager's CLAT at work when tnat64d starts.
func TestNetworkManagerFirst(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Options{})
	s.managed()
	began := time.Now()
	s.start("")
	const name = "NetworkManager's CLAT is active"
	u := s.ready(name)
	t.Logf("%s: %s", u.Reason, u.Why)
	s.says(s.ctl("status"), name)
	s.says(s.ctl("status", "-json"), name)
	s.says(s.ctl("doctor"), "NetworkManager runs a CLAT", "tnat64d stands by", "ipv4.clat no", "ipv4.clat=0", "drops fragments")
	s.stays(began)
	s.wants(control.Standby, name)
}

// TestNetworkManagerSecond has NetworkManager's CLAT switched on while tnat64d's is
// at work.
func TestNetworkManagerSecond(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Options{})
	s.managed()
	s.clat("no")
	s.start("")
	s.wants(control.Up)
	s.flows(t)
	began := time.Now()
	s.clat("auto")
	s.wants(control.Standby, "NetworkManager's CLAT is active")
	s.flows(t)
	s.result(began)
}

// clat sets ipv4.clat of the connection and activates it.
func (s *stage) clat(value string) {
	s.t.Helper()
	s.machine.run(s.t, "nmcli", "connection", "modify", profile, "ipv4.clat", value)
	s.machine.run(s.t, "nmcli", "connection", "up", profile)
}

// advice is what doctor says of a file that switches NetworkManager's CLAT off.
var advice = regexp.MustCompile(`put (\[\S+\]) (\S+) in a file in (\S+)`)

// TestNetworkManagerOff has NetworkManager's CLAT switched off in each of the ways
// that doctor names. tnat64d takes over by itself.
func TestNetworkManagerOff(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]func(s *stage){
		"nmcli": func(s *stage) { s.clat("no") },
		"conf.d": func(s *stage) {
			said := s.ctl("doctor")
			m := advice.FindStringSubmatch(said)
			if m == nil {
				s.t.Fatalf("no file is named in:\n%s", said)
			}
			s.machine.write(s.t, m[3]+"/tnat64-clat.conf", fmt.Sprintf("%s\n%s\n", m[1], m[2]))
			// NetworkManager warns about keys and sections that it does not know.
			if read := s.machine.run(s.t, "NetworkManager", "--print-config"); !strings.Contains(read, m[2]) || strings.Contains(read, "WARNING") {
				s.t.Errorf("NetworkManager reads\n%s", read)
			}
			s.machine.run(s.t, "nmcli", "general", "reload")
			s.machine.run(s.t, "nmcli", "connection", "up", profile)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := standingBy(t)
			began := time.Now()
			off(s)
			s.wants(control.Up)
			s.flows(t)
			s.result(began)
		})
	}
}

// TestAlwaysBesideNetworkManager has tnat64d run beside NetworkManager's CLAT because
// it is told to.
func TestAlwaysBesideNetworkManager(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Options{})
	s.managed()
	began := time.Now()
	s.start("[clat]\nenable = \"always\"\n")
	u := s.wants(control.Up)
	t.Logf("warnings: %q", u.Warnings)
	s.stays(began)
	if len(s.laptopIPv4(lab.Uplink)) == 0 {
		t.Error("NetworkManager's CLAT has gone")
	}
}

// TestNetworkManagerReapply has NetworkManager configure its uplink anew, with its
// CLAT on, and switched off by nothing else. Whoever has the CLAT after that,
// IPv4 works.
func TestNetworkManagerReapply(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"auto", "no"} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			s := standingBy(t)
			began := time.Now()
			s.machine.run(t, "nmcli", "connection", "modify", profile, "ipv4.clat", value)
			s.machine.run(t, "nmcli", "device", "reapply", lab.Uplink)
			if value == "no" {
				s.wants(control.Up)
			}
			s.flows(t)
			s.result(began)
			t.Log(s.ctl("status"))
		})
	}
}

// TestNetworkManagerKilled kills NetworkManager: its address and route stay, its
// programs go.
func TestNetworkManagerKilled(t *testing.T) {
	t.Parallel()
	s := standingBy(t)
	began := time.Now()
	s.machine.kill(t, "NetworkManager")
	u := s.wants(control.Up)
	s.flows(t)
	s.result(began)
	if len(s.laptopIPv4(lab.Uplink)) == 0 {
		t.Error("NetworkManager's address is gone")
	}
	s.says(fmt.Sprint(u.Warnings), "no BPF program translates")
	s.says(s.ctl("status"), "no BPF program translates")
}
