package main

import (
	"bytes"
	"fmt"
	"io"
	"path"
)

// Types of files, as in struct stat.
const (
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeLink      = 0o120000
	typeCharacter = 0o020000
)

// archive writes an initramfs: a cpio archive in the format "newc" (Linux,
// Documentation/driver-api/early-userspace/buffer-format.rst). Everything in it
// belongs to root.
type archive struct {
	w     io.Writer
	inode int
	have  map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, have: map[string]bool{"/": true}}
}

// file adds a regular file, and the directories above it.
func (a *archive) file(name string, permissions int, data []byte) error {
	return a.add(name, typeRegular|permissions, 0, 0, data)
}

// link adds a symbolic link.
func (a *archive) link(name, target string) error {
	return a.add(name, typeLink|0o777, 0, 0, []byte(target))
}

// device adds a character device.
func (a *archive) device(name string, major, minor int) error {
	return a.add(name, typeCharacter|0o600, major, minor, nil)
}

// directory adds a directory, unless it is there.
func (a *archive) directory(name string) error {
	return a.add(name, typeDirectory|0o755, 0, 0, nil)
}

func (a *archive) add(name string, mode, major, minor int, data []byte) error {
	name = path.Clean(name)
	if a.have[name] {
		return nil
	}
	a.have[name] = true
	if err := a.directory(path.Dir(name)); err != nil {
		return err
	}
	return a.entry(name[1:], mode, major, minor, data)
}

// close writes the mark of the end.
func (a *archive) close() error { return a.entry("TRAILER!!!", 0, 0, 0, nil) }

// entry writes a header of 110 characters, the name with a zero byte, and the
// data; the name and the data are each filled up to a multiple of four.
func (a *archive) entry(name string, mode, major, minor int, data []byte) error {
	a.inode++
	b := bytes.NewBufferString("070701")
	for _, n := range []int{
		a.inode, mode,
		0, 0, // user, group
		1, // links
		0, // modification time
		len(data),
		0, 0, // the device it is on
		major, minor, // the device it is
		len(name) + 1,
		0, // checksum
	} {
		fmt.Fprintf(b, "%08X", n)
	}
	b.WriteString(name)
	b.WriteByte(0)
	fill(b)
	if _, err := a.w.Write(b.Bytes()); err != nil {
		return err
	}
	if _, err := a.w.Write(data); err != nil {
		return err
	}
	_, err := a.w.Write(make([]byte, -len(data)&3))
	return err
}

func fill(b *bytes.Buffer) { b.Write(make([]byte, -b.Len()&3)) }
