package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// victimVariable makes the test binary the process that TestSweep kills.
const victimVariable = "TNAT64_LAB_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victimVariable) != "" {
		victim()
		return
	}
	// Many labs at once, unless -parallel says how many: each waits most of
	// its time for the kernel's DAD and needs next to no processor.
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		flag.Set("test.parallel", "8")
	}
	os.Exit(m.Run())
}

// victim builds a lab with a process in it, says which, and waits to be killed.
func victim() {
	l, err := New(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	sleep := l.Laptop.Command(context.Background(), "sleep", "60")
	if err := sleep.Start(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.ID, sleep.Process.Pid)
	time.Sleep(time.Minute)
}

// TestSweep kills a process that has a lab, and finds its processes dead with
// it and its namespaces gone after the next sweep; a living lab stays.
func TestSweep(t *testing.T) {
	living := newTestLab(t, Options{})
	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), victimVariable+"=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	var pid int
	_, err = fmt.Fscan(out, &id, &pid)
	victim.Process.Kill()
	victim.Wait()
	if err != nil {
		t.Fatalf("victim: %v (it said %q)", err, id)
	}
	if _, err := Sweep(); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names(namedNamespaces), names(stateRoot)...) {
		if strings.HasPrefix(name, id) {
			t.Errorf("%s is left", name)
		}
	}
	dead := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}
	for deadline := time.Now().Add(60 * time.Second); !dead(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its lab", pid)
		}
	}
	if _, err := os.Stat(namedNamespaces + "/" + living.Laptop.Namespace); err != nil {
		t.Errorf("the living lab: %v", err)
	}
}

// TestOwnerIsGone reads names, also those that are none of ours.
func TestOwnerIsGone(t *testing.T) {
	own, err := newID()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(own, "-")
	for _, c := range []struct {
		name string
		want bool
	}{
		{own, false},
		{own + "-laptop", false},
		{strings.Join([]string{parts[0], parts[1], "0", parts[3]}, "-"), true}, // the pid is used again
		{"tn64-4194305-0-1-laptop", true},                                      // no such pid can be
		{"tn64-x-0-1-laptop", false},
		{"tn64-1", false},
		{"vpn", false},
		{"", false},
	} {
		if got := ownerIsGone(c.name); got != c.want {
			t.Errorf("ownerIsGone(%q) = %v", c.name, got)
		}
	}
}

// TestCloseEndsProcesses finds a process dead after Close, and Close harmless
// the second time.
func TestCloseEndsProcesses(t *testing.T) {
	l := newTestLab(t, Options{})
	sleep := l.Server.Command(t.Context(), "sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- sleep.Wait() }()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		t.Error("the process outlives the lab")
		sleep.Process.Kill()
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Server.Command(t.Context(), "true").Run(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("process on a closed lab: %v", err)
	}
}

// TestCloseEndsDHCPClient finds none of the client's helper processes after Close.
func TestCloseEndsDHCPClient(t *testing.T) {
	for _, name := range DHCPv6Only.Programs() {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs the program %q", name)
		}
	}
	l := newTestLab(t, Options{Kind: DHCPv6Only})
	inside, err := l.Laptop.Command(t.Context(), "readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	there := func() (pids []string) {
		all, _ := filepath.Glob("/proc/[0-9]*/ns/net")
		for _, path := range all {
			if ns, err := os.Readlink(path); err == nil && ns == strings.TrimSpace(string(inside)) {
				pids = append(pids, path)
			}
		}
		return pids
	}
	if len(there()) == 0 {
		t.Error("no client runs")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(60 * time.Second); len(there()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("processes outlive the lab: %v", there())
		}
	}
}

// TestCommandRunsInside compares the interfaces that a program sees with the
// host's.
func TestCommandRunsInside(t *testing.T) {
	l := newTestLab(t, Options{})
	out, err := l.ISP.Command(t.Context(), "cat", "/proc/self/net/dev").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo:", ispWest + ":", ispEast + ":"} {
		if !strings.Contains(string(out), name) {
			t.Errorf("%s is missing in:\n%s", name, out)
		}
	}
}

// TestFailedNewLeavesNothing interrupts the building.
func TestFailedNewLeavesNothing(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // DAD alone takes longer
	defer cancel()
	if l, err := New(ctx, Options{}); err == nil {
		l.Close()
		t.Fatal("New did not fail")
	}
	own, err := newID()
	if err != nil {
		t.Fatal(err)
	}
	mine := own[:strings.LastIndexByte(own, '-')+1]
	for _, name := range append(names(namedNamespaces), names(stateRoot)...) {
		if strings.HasPrefix(name, mine) {
			t.Errorf("%s is left", name)
		}
	}
}
