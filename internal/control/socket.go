package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/say"
)

// maxSocketPath is what fits into sockaddr_un with the zero behind it.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

// ErrInUse is wrapped by the error for a socket at which somebody answers.
var ErrInUse = errors.New("another program listens there")

// socket is the control socket and the file that it is in the file system.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listen makes the control socket: its directory if there is none, and mode
// 0660 before anybody can connect. What a killed daemon left is replaced.
func listen(daemon Daemon, path string, log *slog.Logger) (*socket, error) {
	if len(path) > maxSocketPath {
		return nil, &say.Failure{
			What: fmt.Sprintf("the path of the control socket has %d bytes, more than the %d of a Unix socket: %q", len(path), maxSocketPath, path),
			Hint: "set control.socket to a shorter path",
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, cannotListen(daemon, path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, cannotListen(daemon, path, err)
	}
	// The socket's own mode is that of its file, as far as the umask lets it.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, cannotListen(daemon, path, err)
	}
	s := &socket{UnixListener: l.(*net.UnixListener), path: path}
	s.SetUnlinkOnClose(false) // Close does, if it is still ours
	if err := giveToGroup(daemon.group(), path); err != nil {
		log.Warn("only root can use the control socket", "socket", path, "reason", err)
	}
	err = os.Chmod(path, 0o660)
	if err == nil {
		s.file, err = os.Lstat(path)
	}
	if err != nil {
		s.UnixListener.Close()
		os.Remove(path)
		return nil, cannotListen(daemon, path, err)
	}
	return s, nil
}

func cannotListen(daemon Daemon, path string, err error) error {
	f := &say.Failure{What: fmt.Sprintf("cannot make the control socket %s", path), Err: err}
	switch {
	case errors.Is(err, ErrInUse):
		f.Hint = "stop it, or set control.socket to another path"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		f.Hint = fmt.Sprintf("set control.socket to a path where %[1]s may write, or run %[1]s as the systemd unit", daemon)
	}
	return f
}

// removeStale removes a socket at which nobody answers.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return errors.New("a file of that name exists and is not a socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return ErrInUse
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, unix.EAGAIN): // its queue of connections is full
		return ErrInUse
	}
	return err
}

// giveToGroup lets the members of the group in, if there is such a group.
func giveToGroup(group, path string) error {
	// A daemon with a group of its own, which systemd's Group= gives it, has made
	// the socket for that one, and may not give it to another.
	if os.Getegid() != 0 {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("group %s: %w", group, err)
	}
	return os.Lchown(path, -1, gid)
}

// Close ends the socket and removes its file, unless somebody has put another
// in its place.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}
