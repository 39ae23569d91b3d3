package lab

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SetResolvConf gives processes that are started on the host from now on (and
// those after an earlier call, at once) an /etc/resolv.conf of their own. The
// machine's is not touched: it is covered by a mount that only they see.
func (l *Lab) SetResolvConf(h *Host, content string) (err error) {
	defer wrap(&err, "lab: resolv.conf of %s", h.Name)
	path := filepath.Join(l.Dir, h.Name+"-resolv.conf")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return err
	}
	l.mu.Lock()
	covered := h.resolvConf
	h.resolvConf = true
	l.mu.Unlock()
	if covered {
		return nil // it is the same file
	}
	return h.onThread(func() error {
		// The thread belongs to the host and never runs anything else.
		return steps(
			func() error { return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS)) },
			func() error {
				return os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
			},
			func() error {
				return os.NewSyscallError("mount", unix.Mount(path, "/etc/resolv.conf", "", unix.MS_BIND, ""))
			},
			coverNameServices,
		)
	})
}

// nameServices are sockets by which the C library asks the machine's own
// resolver instead of those of resolv.conf (nss-resolve, nscd).
var nameServices = []string{"/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket"}

// coverNameServices makes those sockets refuse connections in the calling
// thread's mount namespace, so that the C library goes on to resolv.conf.
func coverNameServices() error {
	for _, socket := range nameServices {
		err := unix.Mount("/dev/null", socket, "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return os.NewSyscallError("mount", err)
		}
	}
	return nil
}
