package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
	"tnat64d/internal/needs"
	"tnat64d/packaging/apt"
)

// tested is the version of NetworkManager that the short form runs. Another one is to
// be tried by `make test-others` before it can fail anybody's build.
const tested = "1.58."

// shortPackages are what NetworkManager needs to run without systemd.
var shortPackages = []string{"base-files", "network-manager", "dbus", "dash", "coreutils", "libc-bin"}

// shortUsers are those that dbus-daemon looks for.
const shortUsers = "root:x:0:0::/root:/bin/sh\nmessagebus:x:100:65534::/nonexistent:/bin/false\n"

// TestNetworkManagerShort is the short form of the tests with NetworkManager, for
// everybody who runs all tests: tnat64d stands aside for NetworkManager's CLAT and says
// so, and takes over when NetworkManager is killed. Its root file system is made of a
// few packages in seconds. Where they cannot be had it is skipped.
func TestNetworkManagerShort(t *testing.T) {
	if os.Getenv(rootVariable) != "" {
		t.Skip("the other tests do the same")
	}
	if testing.Short() {
		t.Skip("downloads 60 MB")
	}
	needs.Root(t, "network namespaces")
	s := newStageOn(t, lab.Options{}, shortRoot(t))
	s.managed()
	began := time.Now()
	s.start("")
	const name = "NetworkManager's CLAT is active"
	s.ready(name)
	s.says(s.ctl("status"), name)
	s.says(s.ctl("doctor"), "NetworkManager runs a CLAT", "ipv4.clat no")
	s.flows(t)
	s.result(began)
	s.wants(control.Standby, name)

	began = time.Now()
	s.machine.kill(t, "NetworkManager")
	u := s.wants(control.Up)
	s.flows(t)
	s.result(began)
	s.says(fmt.Sprint(u.Warnings), "no BPF program translates")
}

// shortRoot returns the root file system of the short form.
func shortRoot(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	root, err := cached(filepath.Join(cache, "tnat64d"), release+"-short", shortPackages, func(dir string) error {
		return apt.ExtractRoot(ctx, dir, release, runtime.GOARCH, shortPackages, shortUsers)
	})
	if err != nil {
		t.Skipf("Debian's packages cannot be had: %v", err)
	}
	out, err := exec.CommandContext(ctx, "chroot", root, "NetworkManager", "--version").CombinedOutput()
	if err != nil {
		t.Fatalf("NetworkManager: %v\n%s", err, out)
	}
	if !strings.HasPrefix(string(out), tested) {
		t.Skipf("Debian %s has NetworkManager %s: see `make test-others`", release, strings.TrimSpace(string(out)))
	}
	return root
}
