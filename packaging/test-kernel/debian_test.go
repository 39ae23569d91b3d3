package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestField(t *testing.T) {
	const paragraph = `Package: linux-image-amd64
Source: linux-signed-amd64 (6.1.192+2)
Version: 6.1.192-2
Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)
Description-en: Linux for 64-bit PCs (meta-package)
 Depends: this is not a field
`
	for name, want := range map[string]string{
		"Version": "6.1.192-2",
		"Depends": "linux-image-6.1.0-56-amd64 (= 6.1.192-2)",
		"Absent":  "",
	} {
		if got := field(paragraph, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestKernelParts(t *testing.T) {
	for depends, want := range map[string]string{
		"linux-image-6.12.117+deb13-arm64 (= 6.12.117-1)":                                                                          "linux-image-6.12.117+deb13-arm64",
		"linux-binary-7.2.12+deb14-amd64 (= 7.2.12-1), linux-modules-7.2.12+deb14-amd64 (= 7.2.12-1), kmod, linux-base (>= 4.12~)": "linux-binary-7.2.12+deb14-amd64 linux-modules-7.2.12+deb14-amd64",
		"kmod, initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool":                                                           "",
	} {
		if got := strings.Join(kernelParts(depends), " "); got != want {
			t.Errorf("%q: %q, want %q", depends, got, want)
		}
	}
}

// TestKernelIn knows where releases have their kernel and its modules.
func TestKernelIn(t *testing.T) {
	for _, c := range []struct{ image, modules string }{
		{"boot/vmlinuz-6.1.0-56-amd64", "lib/modules"},
		{"boot/vmlinuz-6.12.117+deb13-amd64", "usr/lib/modules"},
		{"usr/lib/modules/7.2.12+deb14-amd64/vmlinuz", "usr/lib/modules"},
	} {
		dir := t.TempDir()
		image := filepath.Join(dir, c.image)
		if err := errors.Join(os.MkdirAll(filepath.Dir(image), 0o755), os.MkdirAll(filepath.Join(dir, c.modules), 0o755), os.WriteFile(image, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		if k, err := kernelIn(dir); err != nil || k.image != image || k.modules != filepath.Join(dir, c.modules) {
			t.Errorf("%s: %+v, %v", c.image, k, err)
		}
	}
	if _, err := kernelIn(t.TempDir()); err == nil {
		t.Error("an empty directory has a kernel")
	}
}
