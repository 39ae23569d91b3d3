package host

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sysctlDropUnicastToMany makes the kernel drop IPv6 unicast in frames to many
// (Linux 4.6).
const sysctlDropUnicastToMany = "drop_unicast_in_l2_multicast"

// sysctlWatch tells when somebody writes to a sysctl. The kernel has no message
// for it, but a write to /proc is one to a file.
type sysctlWatch struct {
	file    *os.File // inotify
	watches map[string]int
}

// WatchSysctls calls changed, from one goroutine, after a sysctl was written
// that Observe reads of an uplink, until ctx ends. Writes by another mount of
// /proc, as containers have one, and by the kernel itself are not seen.
func (k *Host) WatchSysctls(ctx context.Context, changed func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the sysctls: %w", err)
	}
	w := &sysctlWatch{file: os.NewFile(uintptr(fd), "inotify"), watches: map[string]int{}}
	k.written = w
	context.AfterFunc(ctx, func() { w.file.Close() })
	go func() {
		buf := make([]byte, 16<<10)
		for {
			if _, err := w.file.Read(buf); err != nil {
				return // closed
			}
			changed()
		}
	}()
	return nil
}

// follow makes the sysctls that are watched equal to those of paths.
func (w *sysctlWatch) follow(paths []string) {
	if w == nil {
		return
	}
	conn, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) {
		want := map[string]int{}
		for _, p := range paths {
			// The same file is watched once. An interface that has come back under
			// its name has another file.
			if wd, err := unix.InotifyAddWatch(int(fd), p, unix.IN_MODIFY); err == nil {
				want[p] = wd
			}
		}
		for p, wd := range w.watches {
			if now, ok := want[p]; !ok || now != wd {
				unix.InotifyRmWatch(int(fd), uint32(wd))
			}
		}
		w.watches = want
	})
}

func sysctlPath(family, link, key string) string {
	return "/proc/sys/net/" + family + "/conf/" + link + "/" + key
}
