package control

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody asks for the status with the rights of nobody.
func asNobody(t *testing.T, path string) error {
	result := make(chan error)
	go func() {
		// The thread ends with the goroutine, so that nobody's rights are not
		// inherited.
		runtime.LockOSThread()
		// Only this thread: raw calls change no other, unlike syscall.Setuid.
		for _, call := range [][4]uintptr{
			{unix.SYS_SETGROUPS, 0, 0},
			{unix.SYS_SETRESGID, 65534, 65534, 65534},
			{unix.SYS_SETRESUID, 65534, 65534, 65534},
		} {
			if _, _, e := unix.RawSyscall(call[0], call[1], call[2], call[3]); e != 0 {
				result <- e
				return
			}
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			result <- err
			return
		}
		defer unix.Close(fd)
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if err == nil {
			err = errors.New("connected")
		}
		result <- NewClient(path).explain(err)
	}()
	return <-result
}
