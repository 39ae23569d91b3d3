package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernel is a kernel image and the directory with its modules.
type kernel struct {
	image, modules string
}

// metaPackage depends on the newest kernel of the Debian release that apt is
// set up for; kernelSeries is the one of Debian 12.
const (
	metaPackage  = "linux-image-amd64"
	kernelSeries = "linux-image-6.1."
)

// debianKernel returns Debian's newest kernel.
func debianKernel(ctx context.Context) (kernel, error) {
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
	cache = filepath.Join(cache, "tnat64d", "kernel")
	dir := filepath.Join(cache, name+"_"+field(paragraph, "Version"))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		err = unpackKernel(ctx, name, cache, dir)
		if err != nil {
			return kernel{}, err
		}
	} else if err != nil {
		return kernel{}, err
	}
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("%s: not one kernel image but %q", dir, images)
	}
	return kernel{images[0], filepath.Join(dir, "lib", "modules")}, nil
}

// newestKernel asks apt for the name of the kernel package, which carries a
// version.
func newestKernel(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", metaPackage))
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(field(out, "Depends"), " ")
	if !strings.HasPrefix(name, kernelSeries) {
		return "", fmt.Errorf("%s depends on %q, not on %s*: this is for Debian 12; -kernel and -modules take any kernel", metaPackage, name, kernelSeries)
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
		"./lib/modules/*/kernel/net", "./lib/modules/*/kernel/drivers/net", "./lib/modules/*/kernel/lib", "./lib/modules/*/kernel/crypto")
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

// output runs a command and returns its standard output; the error carries what
// it complained of.
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
