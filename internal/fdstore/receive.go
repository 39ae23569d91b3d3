package fdstore

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	firstPassed = 3 // SD_LISTEN_FDS_START
	// maxPassed bounds how many descriptors are looked at.
	maxPassed = 4096
)

// Descriptor is a descriptor that the service manager has passed.
type Descriptor struct {
	Name string // a label and no proof
	FD   int
}

// Receive takes over the descriptors that the service manager has passed to this
// process (sd_listen_fds(3)), which are closed on exec from now on, and removes the
// variables that tell of them from the environment. Call it once, before anything
// opens a descriptor.
func Receive() (all []Descriptor) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		os.Unsetenv(v)
	}
	n, err := strconv.Atoi(count)
	if err != nil || n <= 0 || pid != strconv.Itoa(os.Getpid()) {
		return nil // they are another process's
	}
	labels := strings.Split(names, ":")
	for i := range min(n, maxPassed) {
		d := Descriptor{FD: firstPassed + i}
		if i < len(labels) {
			d.Name = labels[i]
		}
		if _, err := unix.FcntlInt(uintptr(d.FD), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			continue // not open
		}
		all = append(all, d)
	}
	return all
}
