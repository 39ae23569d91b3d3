package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"tnat64d/packaging/apt"
)

// kernel is a kernel image and the directory with its modules.
type kernel struct {
	image, modules string
}

// metaPackage and the name of an architecture are the name of the package that
// depends on a release's newest kernel for it; kernelSeries is Debian 12's.
const (
	metaPackage  = "linux-image-"
	kernelSeries = metaPackage + "6.1."
)

// debianKernel returns the newest kernel of a release for an architecture. That of
// the machine's own release and architecture comes by the machine's own apt.
func debianKernel(ctx context.Context, release, arch string) (kernel, error) {
	if release != "bookworm" || arch != runtime.GOARCH {
		return foreignKernel(ctx, release, arch)
	}
	k, err := cachedKernel(ctx)
	if err != nil && os.Getuid() == 0 {
		// A fresh machine or container has no package lists, or old ones.
		if _, err := output(exec.CommandContext(ctx, "apt-get", "update", "-qq")); err != nil {
			return kernel{}, err
		}
		k, err = cachedKernel(ctx)
	}
	return k, err
}

// foreignKernel downloads the newest kernel of a release for an architecture,
// unless one is in the cache.
func foreignKernel(ctx context.Context, release, arch string) (kernel, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return kernel{}, err
	}
	dir := filepath.Join(cache, "tnat64d", "kernel-"+release+"-"+arch)
	err = unpacked(dir, func(work, root string) error {
		archive, err := apt.Open(ctx, work, release, arch)
		if err != nil {
			return err
		}
		names, err := kernelPackages(ctx, archive, metaPackage+arch)
		if err != nil {
			return err
		}
		debs, err := archive.Download(ctx, names...)
		if err != nil {
			return err
		}
		return unpackAll(ctx, debs, root)
	})
	if err != nil {
		return kernel{}, err
	}
	return kernelIn(dir)
}

// kernelPackages returns the package on which a meta package of kernels depends,
// and the parts of that: since Debian 14 image and modules are apart.
func kernelPackages(ctx context.Context, archive *apt.Archive, meta string) (names []string, err error) {
	for todo := []string{meta}; len(todo) > 0; todo = todo[1:] {
		paragraph, err := archive.Show(ctx, todo[0])
		if err != nil {
			return nil, err
		}
		for _, name := range kernelParts(field(paragraph, "Depends")) {
			if !slices.Contains(names, name) {
				names, todo = append(names, name), append(todo, name)
			}
		}
	}
	return names, nil
}

// kernelParts returns the packages of a kernel in a list of dependencies.
func kernelParts(depends string) (names []string) {
	for d := range strings.SplitSeq(depends, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(d), " ")
		for _, prefix := range []string{metaPackage, "linux-binary-", "linux-modules-"} {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
	}
	return names
}

// unpacked calls fill with a directory to work in and one to fill, which becomes
// dir. If dir exists, it does nothing; another process may create it meanwhile.
func unpacked(dir string, fill func(work, root string) error) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := fill(work, root); err != nil {
		return err
	}
	if err := os.Rename(root, dir); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// unpackAll unpacks packages into a directory.
func unpackAll(ctx context.Context, debs []string, root string) error {
	for _, deb := range debs {
		if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root)); err != nil {
			return err
		}
	}
	return nil
}

// unpackedParts is another number whenever unpackKernel unpacks other parts of a
// package, so that what an earlier version has put into the cache is not used.
const unpackedParts = "2"

// cachedKernel downloads Debian's newest kernel as far as apt knows, unless it
// is in the cache already.
func cachedKernel(ctx context.Context) (kernel, error) {
	name, err := newestKernel(ctx)
	if err != nil {
		return kernel{}, err
	}
	paragraph, err := output(exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", name))
	if err != nil {
		return kernel{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return kernel{}, err
	}
	cache = filepath.Join(cache, "tnat64d", "kernel-"+unpackedParts)
	dir := filepath.Join(cache, name+"_"+field(paragraph, "Version"))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		err = unpackKernel(ctx, name, cache, dir)
		if err != nil {
			return kernel{}, err
		}
	} else if err != nil {
		return kernel{}, err
	}
	return kernelIn(dir)
}

// kernelIn returns the kernel that was unpacked into dir. Since Debian 14 the
// image is beside the modules; before that it was in /boot.
func kernelIn(dir string) (kernel, error) {
	var images []string
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return kernel{}, err
		}
		images = append(images, found...)
	}
	if len(images) != 1 {
		return kernel{}, fmt.Errorf("%s: not one kernel image but %q", dir, images)
	}
	modules := filepath.Join(dir, "lib", "modules")
	if _, err := os.Stat(modules); errors.Is(err, os.ErrNotExist) {
		modules = filepath.Join(dir, "usr", "lib", "modules")
	} else if err != nil {
		return kernel{}, err
	}
	return kernel{images[0], modules}, nil
}

// newestKernel asks apt for the name of the kernel package, which carries a
// version.
func newestKernel(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", metaPackage+runtime.GOARCH))
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(field(out, "Depends"), " ")
	if !strings.HasPrefix(name, kernelSeries) {
		return "", fmt.Errorf("%s depends on %q, not on %s*: this is for Debian 12; -kernel and -modules take any kernel", metaPackage+runtime.GOARCH, name, kernelSeries)
	}
	return name, nil
}

// field returns a field of a Debian control paragraph.
func field(paragraph, name string) string {
	for line := range strings.Lines(paragraph) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// unpackKernel downloads a kernel package and unpacks the image and the modules
// that have to do with networks into dir, below cache. What is in the cache of
// earlier kernels goes.
func unpackKernel(ctx context.Context, name, cache, dir string) error {
	if err := errors.Join(os.RemoveAll(cache), os.MkdirAll(cache, 0o755)); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	download := exec.CommandContext(ctx, "apt-get", "download", "-qq", name)
	download.Dir = work
	if _, err := output(download); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download: not one package but %q", debs)
	}
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	deb := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", debs[0])
	tar := exec.CommandContext(ctx, "tar", "-x", "-C", root, "--wildcards", "./boot/vmlinuz-*",
		"./lib/modules/*/kernel/net", "./lib/modules/*/kernel/drivers/net", "./lib/modules/*/kernel/lib", "./lib/modules/*/kernel/crypto", "./lib/modules/*/kernel/arch")
	if tar.Stdin, err = deb.StdoutPipe(); err != nil {
		return err
	}
	if err := deb.Start(); err != nil {
		return err
	}
	_, err = output(tar)
	if err = errors.Join(err, deb.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(debs[0]), err)
	}
	return os.Rename(root, dir)
}

// output runs a command and returns its standard output; the error includes
// its error output.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return string(out), nil
}
