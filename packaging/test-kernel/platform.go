package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"tnat64d/packaging/apt"
)

// platform is what differs between architectures.
type platform struct {
	arch    string   // as Go and Debian call it
	qemu    []string // program and the machine's arguments
	cpu     string
	console string   // the first serial port, of the kernel
	events  string   // the second one, of init
	serial  []string // qemu's arguments for both; they are files 3 and 4
	suites  []suite
}

var platforms = map[string]platform{
	"amd64": {
		arch:    "amd64",
		qemu:    []string{"qemu-system-x86_64"},
		cpu:     "max",
		console: "ttyS0",
		events:  "/dev/ttyS1",
		serial:  []string{"-serial", "file:/dev/fd/3", "-serial", "file:/dev/fd/4"},
		suites:  suites,
	},
	"arm64": {
		arch:    "arm64",
		qemu:    []string{"qemu-system-aarch64", "-machine", "virt"},
		cpu:     "max,pauth-impdef=on", // the architecture's own algorithm is slow to emulate
		console: "ttyAMA0",
		events:  "/dev/ttyS0", // the machine has one port of its own, and this on PCI
		serial:  []string{"-serial", "file:/dev/fd/3", "-chardev", "file,id=events,path=/dev/fd/4", "-device", "pci-serial,chardev=events"},
		suites:  arm64Suites,
	},
}

// userland is where the programs that the tests run come from: a directory with
// a file system, and how to find the libraries of a program in it.
type userland struct {
	root      string // "" is this machine
	libraries func(ctx context.Context, file string) ([]string, error)
}

// newUserland returns this machine's programs, or for another architecture
// Debian's, which apt downloads and nothing installs.
func newUserland(ctx context.Context, p platform) (userland, error) {
	if p.arch == runtime.GOARCH {
		return userland{libraries: lddLibraries}, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return userland{}, err
	}
	// Another list of packages is another directory.
	sum := sha256.Sum256(fmt.Append(nil, foreignPackages))
	root := filepath.Join(cache, "tnat64d", fmt.Sprintf("userland-%s-%x", p.arch, sum[:6]))
	if err := foreignUserland(ctx, p.arch, root); err != nil {
		return userland{}, fmt.Errorf("get Debian's programs for %s: %w", p.arch, err)
	}
	u := userland{root: root}
	u.libraries = func(_ context.Context, file string) ([]string, error) { return elfLibraries(root, file) }
	return u, nil
}

// foreignPackages have the programs of the tests.
var foreignPackages = []string{
	"dash", "coreutils", "grep", "mount", "util-linux", "iproute2", "iputils-ping", "curl", "bind9-dnsutils", "traceroute", "iperf3", "ppp", "wireguard-tools", "dbus-daemon",
}

// foreignUserland downloads packages of another architecture and what they
// depend on, and unpacks them into dir.
func foreignUserland(ctx context.Context, arch, dir string) error {
	return unpacked(dir, func(work, root string) error {
		archive, err := apt.Open(ctx, work, "bookworm", arch)
		if err != nil {
			return err
		}
		debs, err := archive.DownloadAll(ctx, foreignPackages...)
		if err != nil {
			return err
		}
		return unpackAll(ctx, debs, root)
	})
}
