package shim

import "golang.org/x/sys/unix"

// dup notes which sockets have several descriptors, so that all of them are
// replaced later.
func (t *trapped) dup() reply {
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

// epollCreate notes that the process is about to have another epoll instance.
func (t *trapped) epollCreate() reply {
	t.processes.epollCreated(t.tid)
	return proceed
}

// leaves notes that the thread may be about to leave our network namespace.
func (t *trapped) leaves() (reply, func() reply) {
	t.processes.namespaceChanges(t.tid)
	return proceed, nil
}
