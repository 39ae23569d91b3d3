package control

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
)

// nobody is a user without rights.
const nobody = 65534

// needUsers skips the test where it cannot become other users.
func needUsers(t *testing.T) {
	t.Helper()
	needs.Root(t, "to become somebody else")
}

// openUp lets other users reach path, but for its own mode.
func openUp(path string) {
	for dir := path; dir != os.TempDir() && dir != "/"; {
		dir = filepath.Dir(dir)
		if fi, err := os.Stat(dir); err == nil {
			os.Chmod(dir, fi.Mode()|0o011)
		}
	}
}

// dialAs connects to a Unix socket with the rights of nobody, who is in groups
// besides his own.
func dialAs(path string, groups ...uint32) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		// The thread ends with the goroutine, so that nobody's rights are not
		// inherited.
		runtime.LockOSThread()
		c, err := connectAs(path, groups)
		done <- result{c, err}
	}()
	r := <-done
	return r.conn, r.err
}

// connectAs is dialAs on a thread that ends.
func connectAs(path string, groups []uint32) (net.Conn, error) {
	var list uintptr
	if len(groups) > 0 {
		list = uintptr(unsafe.Pointer(&groups[0]))
	}
	// Only this thread: raw calls change no other, unlike syscall.Setuid.
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, uintptr(len(groups)), list},
		{unix.SYS_SETRESGID, nobody, nobody, nobody},
		{unix.SYS_SETRESUID, nobody, nobody, nobody},
	} {
		if _, _, e := unix.RawSyscall(call[0], call[1], call[2], call[3]); e != 0 {
			return nil, e
		}
	}
	runtime.KeepAlive(groups)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}
