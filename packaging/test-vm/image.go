package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// image is a root file system (ext4) and the kernel that belongs to it.
type image struct {
	disk, kernel, initrd string
}

const release = "bookworm"

// packages of the machine besides those of debootstrap's smallest variant.
var packages = []string{
	"systemd", "systemd-sysv", "libpam-systemd", "udev", "dbus", "network-manager",
	"linux-image-cloud-amd64", "initramfs-tools", "kmod",
	"curl", "iproute2", "iputils-ping", "procps",
}

//go:embed agent.sh
var agent string

// files of the machine that are ours.
var files = map[string]string{
	"/usr/local/sbin/agent": agent,
	"/etc/systemd/system/agent.service": `[Unit]
Description=Runs what test-vm sends
# Early, and without the network: it also looks what happens before.
DefaultDependencies=no
After=local-fs.target systemd-udevd.service dev-virtio\x2dports-org.test.agent.device
Wants=dev-virtio\x2dports-org.test.agent.device
[Service]
ExecStart=/usr/local/sbin/agent
KillMode=process
[Install]
WantedBy=multi-user.target
`,
	"/etc/hostname": "laptop\n",
	"/etc/hosts":    "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 laptop\n",
	// As an IPv4-only server at home would have it. NetworkManager asks for
	// DHCPv4 for 45 seconds and then once in minutes; the test has no time for
	// that and wants it to go on asking.
	"/etc/NetworkManager/conf.d/test.conf": "[connection]\nipv4.dhcp-timeout=2147483647\n",
}

// prepareImage returns the image of the cache, or makes it, which takes a
// minute or two.
func prepareImage(ctx context.Context, cache string) (image, error) {
	hash := sha256.New()
	fmt.Fprint(hash, release, packages, files)
	dir := filepath.Join(cache, fmt.Sprintf("%s-%x", release, hash.Sum(nil)[:6]))
	img := image{filepath.Join(dir, "disk"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")}
	if _, err := os.Stat(dir); err == nil {
		return img, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return img, err
	}
	start := time.Now()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return img, err
	}
	work, err := os.MkdirTemp(cache, "work-")
	if err != nil {
		return img, err
	}
	defer os.RemoveAll(work)
	if err := makeImage(ctx, work); err != nil {
		return img, err
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(work, "root")), os.Chmod(work, 0o755), os.Rename(work, dir)); err != nil {
		return img, err
	}
	fmt.Printf("made a root file system of Debian %s in %s\n", release, time.Since(start).Round(time.Second))
	return img, nil
}

func makeImage(ctx context.Context, work string) error {
	site, err := mirror(ctx)
	if err != nil {
		return err
	}
	root := filepath.Join(work, "root")
	if err := command(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), release, root, site); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
			return err
		}
	}
	debs, _ := filepath.Glob(filepath.Join(root, "var/cache/apt/archives/*.deb"))
	for _, d := range debs {
		os.Remove(d)
	}
	if err := command(ctx, "systemctl", "--root="+root, "enable", "agent.service"); err != nil {
		return err
	}
	for name, pattern := range map[string]string{"vmlinuz": "vmlinuz-*", "initrd": "initrd.img-*"} {
		found, err := filepath.Glob(filepath.Join(root, "boot", pattern))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("not one %s but %q", pattern, found)
		}
		if err := command(ctx, "cp", found[0], filepath.Join(work, name)); err != nil {
			return err
		}
	}
	return command(ctx, "mkfs.ext4", "-q", "-L", "root", "-d", root, filepath.Join(work, "disk"), "1500M")
}

// mirror asks apt where it gets Debian from.
func mirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if site, name, _ := strings.Cut(strings.TrimSpace(line), " "); name == release {
			return site, nil
		}
	}
	return "", fmt.Errorf("apt is not set up for Debian %s, which is what the machine is to be", release)
}

// command runs a program; what it says is only of interest if it fails.
func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, tail(string(out), 20))
	}
	return nil
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
