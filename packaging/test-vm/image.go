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

	"tnat64d/packaging/apt"
)

// image is a root file system (ext4) and the kernel that belongs to it.
type image struct {
	disk, kernel, initrd string
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
# On a busy machine systemd gives the port up before it is there.
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/local/sbin/agent
Restart=always
RestartSec=1
KillMode=process
[Install]
WantedBy=multi-user.target
`,
	"/etc/hostname": "laptop\n",
	"/etc/hosts":    "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 laptop\n",
}

// prepareImage returns the system's image of the cache, or makes it, which takes
// half a minute, and for a release's first one another minute or two.
func prepareImage(ctx context.Context, cache string, s system) (image, error) {
	name := fmt.Sprintf("%s-%s-%s", s.release, s.manager, hash(s, basePackages, s.packages(), s.files(), s.units()))
	dir, err := cached(cache, name, func(work string) error {
		base, err := cached(cache, s.release+"-base-"+hash(s.release, basePackages), func(work string) error {
			return apt.MakeRoot(ctx, filepath.Join(work, "root"), s.release, basePackages)
		})
		if err != nil {
			return err
		}
		root := filepath.Join(work, "root")
		if err := command(ctx, "cp", "-a", filepath.Join(base, "root"), root); err != nil {
			return err
		}
		if err := makeImage(ctx, work, root, s); err != nil {
			return err
		}
		return os.RemoveAll(root)
	})
	return image{filepath.Join(dir, "disk"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")}, err
}

// hash returns a short name of values.
func hash(values ...any) string {
	sum := sha256.Sum256(fmt.Append(nil, values...))
	return fmt.Sprintf("%x", sum[:6])
}

// cached returns the directory of that name in the cache. If there is none, fill
// fills a directory that becomes it.
func cached(cache, name string, fill func(work string) error) (string, error) {
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return dir, err
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
	if err := fill(work); err != nil {
		return "", err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return "", err
	}
	// Another process may have been faster.
	if err := os.Rename(work, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	fmt.Printf("made %s in %s\n", name, time.Since(start).Round(time.Second))
	return dir, nil
}

// makeImage makes the image of a system in work from the release's root file
// system, to which it adds what the system has besides.
func makeImage(ctx context.Context, work, root string, s system) error {
	if err := apt.AddPackages(ctx, root, s.packages()); err != nil {
		return err
	}
	for name, content := range s.files() {
		path := filepath.Join(root, name)
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
			return err
		}
	}
	if err := command(ctx, "systemctl", append([]string{"--root=" + root, "enable"}, s.units()...)...); err != nil {
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
	return command(ctx, "mkfs.ext4", "-q", "-L", "root", "-d", root, filepath.Join(work, "disk"), "2500M")
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
