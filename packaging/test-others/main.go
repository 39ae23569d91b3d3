// Command test-others makes the root file system in which the tests of this
// package run other CLATs, and programs that configure a host: Debian forky with
// NetworkManager, clatd and tayga, systemd-networkd, netplan, ifupdown and dhcpcd.
// It prints the directory, which is kept in a cache outside the repository.
//
// The tests have the laptop of the lab (package lab) run these programs beside
// tnat64d and instead of it; `make test-others` runs both. It takes root, for
// debootstrap and for network namespaces. `go test` by itself, and so `make test`, runs
// one of them, with packages that it downloads and unpacks (short_test.go).
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tnat64d/packaging/apt"
)

// release is the first one of Debian with NetworkManager 1.58.
const release = "forky"

// packages of the root file system besides those of debootstrap's smallest
// variant.
var packages = []string{
	"network-manager", "clatd", "tayga", // whose CLATs are other ones
	"systemd", "systemd-resolved", "netplan.io", "ifupdown", "dhcpcd-base", // which configure a host
	"dbus", "iproute2", "iputils-ping", "nftables",
}

func main() {
	cache := flag.String("cache", "/var/cache/tnat64-test-others", "directory for the root file system")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root, err := makeRoot(ctx, *cache)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-others:", err)
		os.Exit(1)
	}
	fmt.Println(root)
}

// makeRoot returns the root file system of the cache, or makes it, which takes a
// minute or two.
func makeRoot(ctx context.Context, cache string) (string, error) {
	if os.Getuid() != 0 {
		return "", fmt.Errorf("needs root, for debootstrap: %w", os.ErrPermission)
	}
	return cached(cache, release, packages, func(dir string) error {
		return apt.MakeRoot(ctx, dir, release, packages)
	})
}

// cached returns the root file system with a name and packages of a cache. If there is
// none it has fill make it in a directory that does not exist.
func cached(cache, name string, packages []string, fill func(dir string) error) (string, error) {
	hash := sha256.Sum256(fmt.Append(nil, release, packages))
	root := filepath.Join(cache, fmt.Sprintf("%s-%x", name, hash[:6]))
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		return root, err
	}
	start := time.Now()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, "work-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	made := filepath.Join(work, "root")
	if err := fill(made); err != nil {
		return "", fmt.Errorf("root file system: %w", err)
	}
	if err := os.Rename(made, root); err != nil && !errors.Is(err, os.ErrExist) { // another process was faster
		return "", err
	}
	fmt.Fprintf(os.Stderr, "made a root file system of Debian %s in %s\n", release, time.Since(start).Round(time.Second))
	return root, nil
}
