package apt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debootstrapScript is the script of every release since Debian 12; debootstrap
// of one release does not know the names of later ones.
const debootstrapScript = "/usr/share/debootstrap/scripts/sid"

// MakeRoot makes a root file system of a release in dir, which does not exist, with
// the smallest set of packages, the given ones and what these depend on. It takes
// root and a minute or two. On error it leaves what it has made.
func MakeRoot(ctx context.Context, dir, release string, packages []string) error {
	site, err := Site(ctx)
	if err != nil {
		return err
	}
	if err := quiet(ctx, "debootstrap", "--variant=minbase", release, dir, site, debootstrapScript); err != nil {
		return err
	}
	return AddPackages(ctx, dir, packages)
}

// AddPackages installs packages and what they depend on in a root file system of
// MakeRoot. It takes root. On error it leaves what it has done.
func AddPackages(ctx context.Context, dir string, packages []string) error {
	// By the release's own apt, which knows its dependencies better than
	// debootstrap of another one.
	if err := quiet(ctx, "cp", "/etc/resolv.conf", filepath.Join(dir, "etc/resolv.conf")); err != nil {
		return err
	}
	// In the chroot no package may start a service: it would run on this machine
	// and its network.
	policy := filepath.Join(dir, "usr/sbin/policy-rc.d")
	if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, packages...), {"clean"}} {
		args = append([]string{dir, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq",
			"-o", "Dpkg::Options::=--force-unsafe-io", "-o", AnyDate}, args...)
		if err := quiet(ctx, "chroot", args...); err != nil {
			return err
		}
	}
	if err := os.Remove(policy); err != nil {
		return err
	}
	// This machine's resolvers are of no use there. A link is systemd-resolved's,
	// and leads out of the root.
	resolvers := filepath.Join(dir, "etc/resolv.conf")
	info, err := os.Lstat(resolvers)
	if err == nil && info.Mode().IsRegular() {
		err = os.Truncate(resolvers, 0)
	}
	return err
}

// ExtractRoot is MakeRoot without the scripts of packages, and without those that
// nobody depends on: it takes seconds. There are no users but those of users, lines of
// /etc/passwd, and none of the files that scripts make.
func ExtractRoot(ctx context.Context, dir, release, arch string, packages []string, users string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "archive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	archive, err := Open(ctx, work, release, arch)
	if err != nil {
		return err
	}
	debs, err := archive.DownloadAll(ctx, packages...)
	if err != nil {
		return err
	}
	// The links from /bin to /usr/bin and the like come first.
	slices.SortStableFunc(debs, func(a, b string) int {
		return cmp.Compare(strings.Index(filepath.Base(b), "base-files_"), strings.Index(filepath.Base(a), "base-files_"))
	})
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, deb := range debs {
		if err := quiet(ctx, "dpkg-deb", "--extract", deb, dir); err != nil {
			return err
		}
	}
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "etc", "var/lib/dbus"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte(users), 0o644)
}

// quiet runs a program. Its last lines are in the error if it fails.
func quiet(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if n := len(lines) - 20; n > 0 {
		lines = lines[n:]
	}
	err = fmt.Errorf("%s: %w\n%s", name, err, strings.Join(lines, "\n"))
	return errors.Join(err, context.Cause(ctx))
}
