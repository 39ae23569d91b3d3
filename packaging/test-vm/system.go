package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tnat64d/packaging/apt"
)

// system is what a machine runs: a release of Debian, and what configures its
// network.
type system struct {
	release string // code name
	manager string // a key of managers
}

// manager is a program that configures the network: its packages, its files and
// the units to enable.
type manager struct {
	packages []string
	files    map[string]string
	units    []string
}

var managers = map[string]manager{
	"networkmanager": {
		packages: []string{"network-manager"},
		files: map[string]string{
			// As an IPv4-only server at home would have it. NetworkManager asks for
			// DHCPv4 for 45 seconds and then once in minutes; the test has no time for
			// that and wants it to go on asking.
			"/etc/NetworkManager/conf.d/test.conf": "[connection]\nipv4.dhcp-timeout=2147483647\n",
		},
	},
	"networkd": {
		packages: []string{"systemd-resolved"},
		files: map[string]string{
			"/etc/systemd/network/eth0.network": "[Match]\nName=eth0\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n",
		},
		units: []string{"systemd-networkd.service"},
	},
	"ifupdown": {
		packages: []string{"ifupdown"},
		files: map[string]string{
			"/etc/network/interfaces": "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet6 auto\n",
		},
		units: []string{"networking.service"},
	},
	"dhcpcd": {
		packages: []string{"dhcpcd"},
		units:    []string{"dhcpcd.service"},
	},
}

// newSystem returns the system of that name and network manager.
func newSystem(release, manager string) (system, error) {
	if !slices.Contains(apt.Releases, release) {
		return system{}, fmt.Errorf("no release %q: want one of %s", release, strings.Join(apt.Releases, ", "))
	}
	if _, ok := managers[manager]; !ok {
		return system{}, fmt.Errorf("no network manager %q: want one of %s", manager, strings.Join(slices.Sorted(maps.Keys(managers)), ", "))
	}
	return system{release, manager}, nil
}

// basePackages are those of every machine, besides those of debootstrap's smallest
// variant.
var basePackages = []string{
	"systemd", "systemd-sysv", "libpam-systemd", "udev", "dbus",
	"linux-image-cloud-amd64", "initramfs-tools", "kmod",
	"curl", "iproute2", "iputils-ping", "procps",
}

// packages lists the machine's packages besides basePackages.
func (s system) packages() []string { return managers[s.manager].packages }

// files returns the machine's files that are ours, by path.
func (s system) files() map[string]string {
	all := maps.Clone(files)
	maps.Copy(all, managers[s.manager].files)
	return all
}

// units lists what is enabled besides what the packages enable.
func (s system) units() []string {
	return append([]string{"agent.service"}, managers[s.manager].units...)
}
