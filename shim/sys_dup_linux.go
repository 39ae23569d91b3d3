package shim

import (
	"golang.org/x/sys/unix"
)

// answerDup notes which sockets have several descriptors, so that all of them are
// replaced later.
func answerDup(t *trapped) reply {
	fd, _, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(fd)
	family, err := getInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || family != unix.AF_INET && family != unix.AF_INET6 {
		return proceed
	}
	if cookie, err := cookieOf(fd); err == nil {
		t.copied.add(cookie)
	}
	return proceed
}
