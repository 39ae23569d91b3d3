package cause

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Descriptors returns nil if the process may open n more file descriptors at
// the moment, or a [*Lack]. It finds out by opening them.
func Descriptors(n int) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for range n {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return &Lack{fmt.Sprintf("%d more file descriptors are needed%s: %v", n, limit(), err), err}
		}
		fds = append(fds, fd)
	}
	return nil
}

func limit() string {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return ""
	}
	return fmt.Sprintf(", RLIMIT_NOFILE is %d", l.Cur)
}
