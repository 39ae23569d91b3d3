// Command test-vm installs the Debian package on a booted Debian and looks what
// becomes of it: after the installation, when the configuration is broken,
// without D-Bus, while the network offers IPv4, after a reboot, and when it is
// purged. Flags choose the release, the network manager and the story.
//
// The machine runs under qemu with software emulation; its network card is on
// the laptop's link of the lab (package lab), so that its network is IPv6-only,
// with router advertisements that carry PREF64. It takes root: for the lab, and
// once for debootstrap. The root file system is kept in a cache outside the
// repository, and what a run changes in it is thrown away.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"tnat64d/packaging/apt"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "test-vm:", err)
		os.Exit(1)
	}
}

func run() error {
	deb := flag.String("deb", "", "package of tnat64d to install (default: the newest in dist/)")
	gateway := flag.String("gateway", "", "package of tnat64-gateway to install (default: the newest in dist/)")
	cache := flag.String("cache", "/var/cache/tnat64-test-vm", "directory for the root file system")
	limit := flag.Duration("timeout", 60*time.Minute, "for all of it")
	release := flag.String("release", "bookworm", "Debian `release`: "+strings.Join(apt.Releases, ", "))
	manager := flag.String("manager", "networkmanager", "what configures the network: "+strings.Join(slices.Sorted(maps.Keys(managers)), ", "))
	name := flag.String("story", "", "what is played: "+strings.Join(slices.Sorted(maps.Keys(stories)), ", ")+" (default: whole with NetworkManager, else short)")
	prepare := flag.Bool("prepare", false, "only make the root file system")
	from := flag.String("from", "", "install the package and play the story from the first scene on whose title contains this `text`")
	script := flag.String("script", "", "install the package and run this script on the machine, instead of the story")
	verbose := flag.Bool("v", false, "print the machine's console")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case runtime.GOARCH != "amd64":
		return fmt.Errorf("needs an amd64 machine: this is %s", runtime.GOARCH)
	case os.Getuid() != 0:
		return fmt.Errorf("needs root, for network namespaces and debootstrap: %w", os.ErrPermission)
	}
	sys, err := newSystem(*release, *manager)
	if err != nil {
		return err
	}
	if *name == "" {
		*name = "short"
		if *manager == "networkmanager" {
			*name = "whole"
		}
	}
	told, ok := stories[*name]
	if !ok {
		return fmt.Errorf("no story %q: want one of %s", *name, strings.Join(slices.Sorted(maps.Keys(stories)), ", "))
	}
	packages := map[string]string{"tnat64d": *deb, "tnat64-gateway": *gateway}
	for name, file := range packages {
		if file == "" {
			if packages[name], err = newest("dist/" + name + "_*_amd64.deb"); err != nil {
				return err
			}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not done after %v", *limit))
	defer cancel()

	start := time.Now()
	img, err := prepareImage(ctx, *cache, sys)
	if err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	if *prepare {
		return nil
	}
	net, err := newNetwork(ctx)
	if err != nil {
		return err
	}
	defer net.Close()
	m, err := boot(ctx, img, packages, net, *verbose)
	if err != nil {
		return err
	}
	defer m.Close()
	ready := scene{title: "the package", scripts: []string{"waits sh -c 'ip -6 route show default | grep -q .'; sysctl -a 2>/dev/null | grep -E '^net.*(forward|accept_ra |proxy_ndp)' | sort >/root/sysctls", install, "waits via clat0; waits fetch"}}
	if *from != "" {
		first := slices.IndexFunc(told, func(s scene) bool { return strings.Contains(s.title, *from) })
		if first < 0 {
			return fmt.Errorf("no scene of story %s has %q in its title", *name, *from)
		}
		told = append([]scene{ready}, told[first:]...)
	}
	if *script != "" {
		told = []scene{{title: "the package", scripts: []string{install}}, {title: "the script", scripts: []string{*script}}}
	}
	err = tell(ctx, m, net, told, start)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// newest returns the file that was changed last.
func newest(pattern string) (string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	var found string
	var when time.Time
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return "", err
		}
		if info.ModTime().After(when) {
			found, when = f, info.ModTime()
		}
	}
	if found == "" {
		return "", fmt.Errorf("there is no %s: make packages", pattern)
	}
	return found, nil
}
