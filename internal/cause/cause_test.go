package cause

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want Class
	}{
		"none":                         {nil, Other},
		"EMFILE":                       {unix.EMFILE, Resource},
		"ENFILE":                       {unix.ENFILE, Resource},
		"ENOMEM":                       {unix.ENOMEM, Resource},
		"ENOBUFS":                      {unix.ENOBUFS, Resource},
		"EAGAIN":                       {unix.EAGAIN, Resource},
		"EINTR":                        {unix.EINTR, Resource},
		"open(2)":                      {&fs.PathError{Op: "open", Path: "/dev/net/tun", Err: unix.EMFILE}, Resource},
		"socket(2) of package net":     {&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", unix.ENFILE)}, Resource},
		"interrupted dump":             {fmt.Errorf("list links: %w", netlink.ErrDumpInterrupted), Resource},
		"lack":                         {fmt.Errorf("steer: %w", &Lack{What: "too few"}), Resource},
		"joined with what followed":    {errors.Join(unix.EPERM, fmt.Errorf("%w", unix.ENOMEM)), Resource},
		"EMFILE behind a library word": {fmt.Errorf("%w: %w", ebpf.ErrNotSupported, unix.EMFILE), Resource},
		"EPERM":                        {unix.EPERM, Refused},
		"EACCES":                       {unix.EACCES, Refused},
		"EINVAL":                       {unix.EINVAL, Refused},
		"ENOSYS":                       {unix.ENOSYS, Refused},
		"E2BIG":                        {unix.E2BIG, Refused},
		"EOPNOTSUPP":                   {unix.EOPNOTSUPP, Refused},
		"ENOTSUPP":                     {unix.Errno(524), Refused},
		"verifier":                     {fmt.Errorf("load: %w", &ebpf.VerifierError{Cause: unix.EACCES}), Refused},
		"verifier without memory":      {&ebpf.VerifierError{Cause: unix.ENOMEM}, Resource},
		"library word":                 {fmt.Errorf("tcx: %w", ebpf.ErrNotSupported), Refused},
		"unsupported":                  {errors.ErrUnsupported, Refused},
		"ENODEV":                       {unix.ENODEV, Gone},
		"ENXIO":                        {unix.ENXIO, Gone},
		"no such link":                 {fmt.Errorf("find the uplink: %w", netlink.LinkNotFoundError{}), Gone},
		"closed":                       {os.ErrClosed, Gone},
		"something else":               {io.ErrUnexpectedEOF, Other},
		"EEXIST":                       {unix.EEXIST, Other},
		"EBUSY":                        {unix.EBUSY, Other},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Of(c.err); got != c.want {
				t.Errorf("%v is %s, want %s", c.err, got, c.want)
			}
		})
	}
}

// A limit of this process is not lowered for the test: far more than any allows
// are asked for.
func TestDescriptors(t *testing.T) {
	if err := Descriptors(10); err != nil {
		t.Errorf("10 descriptors: %v", err)
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<17 {
		t.Skipf("RLIMIT_NOFILE is %d, %v", l.Cur, err)
	}
	err := Descriptors(int(l.Cur))
	if Of(err) != Resource || !errors.Is(err, unix.EMFILE) || !strings.Contains(fmt.Sprint(err), "RLIMIT_NOFILE is ") {
		t.Errorf("%d descriptors: %v", l.Cur, err)
	}
	if err := Descriptors(10); err != nil {
		t.Errorf("10 descriptors afterwards: %v", err)
	}
}
