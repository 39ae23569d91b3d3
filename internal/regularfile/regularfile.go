// Package regularfile opens files that a configuration, a flag or a well-known path
// names, and never waits for whoever is at the other end of a pipe.
package regularfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotRegular is what [Open] and [Read] return, in an *[fs.PathError], for
// anything but a regular file or a symbolic link to one.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a regular file for reading. Without this check the open of a named pipe
// waits for a writer, and reading a device may never end.
func Open(path string) (*os.File, error) {
	// Before the open: a device may act when it is opened, and a socket has a
	// misleading error.
	info, err := os.Stat(path)
	if err != nil {
		if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
			failed.Op = "open" // as if there were no check before
		}
		return nil, err
	}
	if err := Check(path, info); err != nil {
		return nil, err
	}
	// The file may have been replaced meanwhile.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = Check(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Read returns the first bytes of a regular file, at most limit.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Check returns what [Open] returns if info, of path, is not that of a regular file.
func Check(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return &fs.PathError{Op: "open", Path: path, Err: kindError(kind(info.Mode()))}
}

// kindError names the kind of file that is there instead.
type kindError string

func (e kindError) Error() string { return "it is " + string(e) + ", " + ErrNotRegular.Error() }

func (e kindError) Is(target error) bool { return target == ErrNotRegular }

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}
