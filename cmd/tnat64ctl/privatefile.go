package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/say"
)

// replacements bounds how often createPrivate starts over because somebody
// else puts a file in place meanwhile.
const replacements = 8

// createPrivate creates a file that only its owner can read and write (mode
// 0600), for packets of other users. Where there is a file of that name
// already, it puts a new one in its place, so that neither whoever has the old
// one open nor its other hard links get what is written. It writes to what is
// no regular file as it is; a named pipe that nobody reads is waited for until ctx
// ends. It follows no symbolic link to a file, and uses nothing that another user
// has put into a directory where others may write.
func createPrivate(ctx context.Context, name string) (*os.File, error) {
	for range replacements {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		there, err := os.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case !there.Mode().IsRegular():
			return openSpecial(ctx, name, there)
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, say.Hint(fmt.Errorf("cannot replace %s: %w", name, err), "name a file that does not exist")
		}
	}
	return nil, fmt.Errorf("cannot create %s: another program keeps creating it", name)
}

// readerPoll is how often openSpecial looks for a reader of a named pipe: the open
// itself cannot be interrupted.
const readerPoll = 50 * time.Millisecond

// openSpecial opens what is no regular file.
func openSpecial(ctx context.Context, name string, there fs.FileInfo) (*os.File, error) {
	if err := ownInSharedDirectory(name, there); err != nil {
		return nil, err
	}
	flags := os.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	if there.Mode().Type() == fs.ModeSymlink {
		behind, err := os.Stat(name)
		if err != nil || behind.Mode().IsRegular() {
			return nil, say.Hint(fmt.Errorf("%s is a symbolic link", name), "name the file itself")
		}
	} else {
		flags |= unix.O_NOFOLLOW
	}
	f, err := os.OpenFile(name, flags, 0)
	for there.Mode()&fs.ModeSocket == 0 && errors.Is(err, unix.ENXIO) { // a pipe that nobody reads
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(readerPoll):
		}
		f, err = os.OpenFile(name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && now.Mode().IsRegular() {
		err = fmt.Errorf("%s has become another file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ownInSharedDirectory returns an error for what somebody else than this user
// and root has put into a directory where others may write, such as /tmp.
func ownInSharedDirectory(name string, there fs.FileInfo) error {
	dir, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return err
	}
	owner := there.Sys().(*syscall.Stat_t).Uid
	if dir.Mode().Perm()&0o022 != 0 && owner != 0 && owner != uint32(os.Geteuid()) {
		return say.Hint(fmt.Errorf("%s belongs to user %d, in a directory where others may write", name, owner), "name a file that does not exist")
	}
	return nil
}
