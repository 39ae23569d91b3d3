package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// kernelFloor is the oldest kernel that tnat64d is made for.
const kernelFloor = "5.10"

// lookAtKernel says what the kernel has of what the engine needs.
func lookAtKernel() Host {
	var h Host
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	major, minor := release(h.Kernel)
	h.Old = major < 5 || major == 5 && minor < 10
	h.TCX = major > 6 || major == 6 && minor >= 6
	h.TUN = lookAtTUN()
	h.Missing = missing()
	if os.Geteuid() == 0 && len(h.Missing) == 0 {
		// The probe loads a program of two instructions and drops it again.
		err := features.HaveProgramType(ebpf.SchedCLS)
		h.BPFKnown = true
		if err != nil {
			h.BPF = err.Error()
		}
	}
	return h
}

// release reads the first two numbers of a kernel release.
func release(s string) (major, minor int) {
	fmt.Sscanf(s, "%d.%d", &major, &minor)
	return major, minor
}

const tunDevice = "/dev/net/tun"

// lookAtTUN says why TUN interfaces cannot be made. Opening the device makes
// none.
func lookAtTUN() string {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		return ""
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return "there is no " + tunDevice
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return "" // root may
	}
	return fmt.Sprintf("%s cannot be opened: %v", tunDevice, err)
}

// missing returns the capabilities that nobody here can have, not even root:
// those outside the bounding set, as in a container.
func missing() []string {
	var names []string
	for _, c := range []struct {
		number uintptr
		name   string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}} {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c.number, 0, 0, 0); err == nil && has == 0 {
			names = append(names, c.name)
		}
	}
	bpf, err1 := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_BPF, 0, 0, 0)
	admin, err2 := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_ADMIN, 0, 0, 0)
	if bpf == 0 && admin == 0 && err1 == nil && err2 == nil {
		names = append(names, "CAP_BPF")
	}
	return names
}

// privileged reports whether this process has the capability.
func privileged(capability int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
